//! A delay that spreads hosts over time and stays the same for each.

use std::time::Duration;

/// The delay in [0, `jitter`) for one lane of one instance on one host: the same at every call, on every build and after
/// every restart, because it is a hash of the names. Whole milliseconds; zero if `jitter` is below one.
pub fn jitter_delay(host: &str, rsync_id: &str, lane: &str, jitter: Duration) -> Duration {
    let span = u64::try_from(jitter.as_millis()).unwrap_or(u64::MAX);
    if span == 0 {
        return Duration::ZERO;
    }
    Duration::from_millis(stable_hash([host, rsync_id, lane]) % span)
}

/// FNV-1a (64 bits) over the names, each ended by a byte that UTF-8 does not contain, followed by MurmurHash3's
/// finalizer, because FNV alone maps names that differ in the last letter to neighbours. Written out since the hashers
/// of the standard library may change between releases.
fn stable_hash(names: [&str; 3]) -> u64 {
    let bytes = names.iter().flat_map(|name| name.bytes().chain([0xff]));
    let mut hash = bytes
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    for factor in [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53] {
        hash = (hash ^ (hash >> 33)).wrapping_mul(factor);
    }
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_is_a_constant_of_the_names() {
        let hour = Duration::from_secs(3600);
        for ((host, rsync_id, lane), millis) in [
            (("nas", "photos", "instance"), 1174925),
            (("nas", "photos", "nightly"), 3428780),
            (("nas", "laptop", "instance"), 2345675),
            (("pi", "photos", "instance"), 2563983),
        ] {
            assert_eq!(
                jitter_delay(host, rsync_id, lane, hour),
                Duration::from_millis(millis),
                "{host} {rsync_id} {lane}"
            );
        }
    }

    #[test]
    fn names_do_not_run_into_each_other() {
        assert_ne!(stable_hash(["ab", "c", "d"]), stable_hash(["a", "bc", "d"]));
        assert_ne!(stable_hash(["a", "b", ""]), stable_hash(["a", "", "b"]));
    }

    #[test]
    fn the_delay_is_below_the_bound() {
        for millis in [0, 1, 2, 999, 60_000] {
            let jitter = Duration::from_millis(millis);
            for host in 0..200 {
                let delay = jitter_delay(&host.to_string(), "id", "lane", jitter);
                assert!(delay < jitter || jitter.is_zero() && delay.is_zero(), "{delay:?} of {jitter:?}");
            }
        }
        assert_eq!(jitter_delay("h", "i", "l", Duration::from_nanos(999_999)), Duration::ZERO);
        assert!(jitter_delay("h", "i", "l", Duration::MAX) < Duration::MAX);
    }

    #[test]
    fn neighbouring_hosts_are_spread_evenly() {
        let mut tenths = [0; 10];
        for host in 0..1000 {
            let delay = jitter_delay(&format!("node{host:03}"), "backup", "instance", Duration::from_secs(600));
            tenths[delay.as_secs() as usize / 60] += 1;
        }
        assert!(tenths.iter().all(|&hosts| (60..=140).contains(&hosts)), "{tenths:?}");
    }
}
