//! Draws without replacement that go on for ever.

use nearfar_core::Rng;

/// One random order of the items after another. How often two items were drawn differs by one at most, after each order
/// is used up and whatever the size of the draws.
pub(crate) struct Cycle {
    /// What is left of the current order, the next one last.
    left: Vec<u32>,
    items: Vec<u32>,
}

impl Cycle {
    pub(crate) fn new(items: Vec<u32>) -> Self {
        Self {
            left: Vec::new(),
            items,
        }
    }

    /// The next `count` items. They are distinct if there are that many.
    pub(crate) fn take(&mut self, count: usize, rng: &mut Rng) -> Vec<u32> {
        let mut taken = Vec::with_capacity(count);
        while taken.len() < count && !self.items.is_empty() {
            if self.left.is_empty() {
                self.left = self.items.clone();
                rng.shuffle(&mut self.left);
                // What this draw has from the order before comes last in the new one, so that it is not drawn twice.
                // With fewer items than wanted that cannot be helped.
                let late: Vec<u32> = self
                    .left
                    .iter()
                    .copied()
                    .filter(|item| taken.contains(item))
                    .collect();
                if !late.is_empty() && late.len() < self.left.len() {
                    self.left.retain(|item| !late.contains(item));
                    self.left.splice(0..0, late);
                }
            }
            if let Some(item) = self.left.pop() {
                taken.push(item);
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearfar_core::{Purpose, Seed};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn draws_are_distinct_where_possible_and_cover_evenly(items in 1u32..12, count in 1usize..15, seed: u64) {
            let mut rng = Seed(seed).rng(Purpose::Sampling, 0);
            let mut cycle = Cycle::new((0..items).collect());
            let mut drawn = vec![0; items as usize];
            for _ in 0..20 {
                let mut taken = cycle.take(count, &mut rng);
                prop_assert_eq!(taken.len(), count);
                taken.iter().for_each(|&item| drawn[item as usize] += 1);
                taken.sort_unstable();
                taken.dedup();
                prop_assert_eq!(taken.len(), count.min(items as usize));
                let (least, most) = (drawn.iter().min().unwrap(), drawn.iter().max().unwrap());
                prop_assert!(most - least <= 1, "{:?}", drawn);
            }
        }
    }
}
