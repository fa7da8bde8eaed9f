//! The only maker of random words, and of numbers that look random.

/// A random word of 32 hexadecimal digits.
pub fn word() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the kernel's random numbers are there on every Linux that runs this");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Numbers that look random and are the same for the same seed: Marsaglia's xorshift64. For draws that nobody gains from guessing.
#[derive(Debug, Clone)]
pub struct Sequence(u64);

impl Sequence {
    /// That of a seed.
    pub const fn of(seed: u64) -> Self {
        // Nothing else ever follows 0.
        Self(if seed == 0 { 1 } else { seed })
    }

    /// The next number, which is below `bound`; there must be one.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }

    /// One of these; there must be one.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

impl Default for Sequence {
    fn default() -> Self {
        Self::of(1)
    }
}
