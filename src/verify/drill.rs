//! The restore drill: random files are copied back from the replica, and compared with what they should be.

use super::side::State;

/// A file that is to be copied back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sampled {
    /// In which of the pairs of trees.
    pub pair: u32,
    /// From the root.
    pub path: Vec<u8>,
    /// As the source has it.
    pub state: State,
}

/// As many as wanted of all that are offered, each with the same chance: reservoir sampling (Vitter's algorithm R).
#[derive(Debug, Default)]
pub struct Sample {
    wanted: usize,
    offered: u64,
    random: u64,
    taken: Vec<Sampled>,
}

impl Sample {
    /// Of so many.
    pub fn of(wanted: usize) -> Self {
        let seed = u64::from_str_radix(&crate::random::word()[..16], 16).unwrap_or(0);
        Self { wanted, offered: 0, random: seed | 1, taken: Vec::new() }
    }

    /// Offers one.
    pub fn offer(&mut self, sampled: impl FnOnce() -> Sampled) {
        if self.wanted == 0 {
            return;
        }
        self.offered += 1;
        if self.taken.len() < self.wanted {
            self.taken.push(sampled());
            return;
        }
        // Marsaglia's xorshift64.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let place = usize::try_from(self.random % self.offered).unwrap_or(usize::MAX);
        if let Some(taken) = self.taken.get_mut(place) {
            *taken = sampled();
        }
    }

    /// Those that were taken.
    pub fn taken(self) -> Vec<Sampled> {
        self.taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_the_same_chance() {
        let mut times = [0_u32; 20];
        for _ in 0..2000 {
            let mut sample = Sample::of(5);
            for n in 0..20_u8 {
                sample.offer(|| Sampled { pair: 0, path: vec![n], state: State::default() });
            }
            let taken = sample.taken();
            assert_eq!(taken.len(), 5);
            taken.iter().for_each(|sampled| times[sampled.path[0] as usize] += 1);
        }
        // 500 expected, with a deviation of about 19.
        assert!(times.iter().all(|&n| (380..620).contains(&n)), "{times:?}");
    }
}
