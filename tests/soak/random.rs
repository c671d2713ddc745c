//! Random numbers that a seed repeats: splitmix64, which is all that choosing faults and pauses needs.

use std::time::Duration;

pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Both ends are possible.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        let width = high.saturating_sub(low).saturating_add(1);
        low.saturating_add(self.next().checked_rem(width).unwrap_or(0))
    }

    pub fn length_between(&mut self, low: usize, high: usize) -> usize {
        let within = |length: usize| u64::try_from(length).unwrap_or(u64::MAX);
        usize::try_from(self.between(within(low), within(high))).unwrap_or(high)
    }

    pub fn milliseconds(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_millis(self.between(low, high))
    }

    /// Yes, in so many of a hundred cases.
    pub fn happens(&mut self, percent: u64) -> bool {
        self.between(1, 100) <= percent
    }

    pub fn one_of<T: Copy>(&mut self, first: T, others: &[T]) -> T {
        let index = self.length_between(0, others.len());
        index.checked_sub(1).and_then(|index| others.get(index)).copied().unwrap_or(first)
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.length_between(0, last));
        }
    }
}
