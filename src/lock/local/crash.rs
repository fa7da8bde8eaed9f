//! Places where the program may end without warning: after each change that an operation makes to the disk. Only a test dies there.

/// Passes such a place.
#[cfg(not(test))]
#[inline]
pub(super) fn point() {}

#[cfg(test)]
pub(super) use testing::point;

#[cfg(test)]
pub(super) mod testing {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// The number of the point at which this process dies.
    pub(in super::super) const AT: &str = "RSYNCDIRECTOR_TEST_CRASH_AT";
    /// What it exits with there.
    pub(in super::super) const CODE: i32 = 86;

    static PASSED: AtomicU32 = AtomicU32::new(0);

    pub(in super::super) fn point() {
        static FATAL: OnceLock<Option<u32>> = OnceLock::new();
        let fatal = FATAL.get_or_init(|| std::env::var(AT).ok().and_then(|number| number.parse().ok()));
        if fatal.is_some_and(|fatal| PASSED.fetch_add(1, Ordering::Relaxed) == fatal) {
            std::process::exit(CODE);
        }
    }
}
