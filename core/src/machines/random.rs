//! Random numbers for jitter, determined by the seed alone, so that the core stays a function of
//! its inputs.

/// The generator SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns a number from 0 to 100, uniformly distributed.
    pub fn percent(&mut self) -> u32 {
        u32::try_from(self.next() % 101).unwrap_or(0)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::Random;

    #[test]
    fn a_seed_determines_the_numbers_and_all_of_them_come() {
        let numbers = |seed| {
            let mut random = Random::new(seed);
            std::iter::repeat_with(move || random.percent()).take(10_000)
        };
        assert!(numbers(7).eq(numbers(7)) && !numbers(7).eq(numbers(8)));
        let mut seen: Vec<u32> = numbers(7).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, (0..=100).collect::<Vec<_>>());
    }

    /// The first output for the seed 1234567 of the reference implementation.
    #[test]
    fn it_is_splitmix64() {
        assert_eq!(Random::new(1_234_567).next(), 6_457_827_717_110_365_317);
    }
}
