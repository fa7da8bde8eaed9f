//! The only maker of random words.

/// A random word of 32 hexadecimal digits.
pub fn word() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the kernel's random numbers are there on every Linux that runs this");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
