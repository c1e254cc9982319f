//! Random numbers as a function of where they are asked for.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use serde::{Deserialize, Serialize};

/// The one number a run is reproduced from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seed(pub u64);

/// What a stream of random numbers is for; two purposes never share a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Purpose {
    /// Starting values of parameters; positions are hashes of names.
    Init = 0,
    /// Which samples make a batch; positions are epochs.
    Sampling = 1,
    /// Changes of a sample; positions are row ids.
    Augmentation = 2,
    /// Dropout; positions are steps.
    Dropout = 3,
    /// Choices of miners; positions are steps.
    Mining = 4,
    /// What is rebuilt from the whole set; positions are steps.
    Refresh = 5,
    /// Generated data; positions are sample or class numbers.
    Generation = 6,
    /// Evaluation, such as the starting centers of k-means; positions are steps.
    Evaluation = 7,
}

impl Seed {
    /// The stream for `purpose` at `position`: a step, an epoch, a row's id or the hash of a name.
    ///
    /// ```
    /// use nearfar_core::{Purpose, Seed};
    ///
    /// let first = Seed(7).rng(Purpose::Sampling, 3).next_u64();
    /// assert_eq!(first, Seed(7).rng(Purpose::Sampling, 3).next_u64());
    /// assert_ne!(first, Seed(7).rng(Purpose::Sampling, 4).next_u64());
    /// assert_ne!(first, Seed(7).rng(Purpose::Mining, 3).next_u64());
    /// ```
    pub fn rng(self, purpose: Purpose, position: u64) -> Rng {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&self.0.to_le_bytes());
        key[8] = purpose as u8;
        let mut stream = ChaCha8Rng::from_seed(key);
        stream.set_stream(position);
        Rng(stream)
    }
}

/// The position of a name's stream: FNV-1a, 64 bits, of its UTF-8 bytes.
pub fn position_of_name(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// A stream of random numbers. Its distributions are ours and pinned by tests, so that no update of a dependency can change a run.
#[derive(Clone, Debug)]
pub struct Rng(ChaCha8Rng);

impl Rng {
    /// 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Uniform in `[0, 1)`, with 53 bits.
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Uniform in `[low, high)`.
    pub fn uniform_between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.uniform()
    }

    /// Normal with mean 0 and deviation 1 (Box–Muller; two uniforms a number, none kept).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt(); // 1 − u is above 0.
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// Uniform among `0..bound`, without bias (Lemire 2019).
    ///
    /// # Panics
    /// If `bound` is 0: there is nothing to choose from.
    pub fn below(&mut self, bound: usize) -> usize {
        assert!(bound > 0, "nothing to choose from");
        let bound = bound as u64;
        let threshold = bound.wrapping_neg() % bound;
        loop {
            let product = u128::from(self.next_u64()) * u128::from(bound);
            if product as u64 >= threshold {
                return (product >> 64) as usize;
            }
        }
    }

    /// True with this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.uniform() < probability
    }

    /// One of them; none of an empty slice.
    pub fn choose<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        if items.is_empty() {
            None
        } else {
            Some(&items[self.below(items.len())])
        }
    }

    /// Puts them in a random order (Fisher–Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.below(last + 1);
            items.swap(last, other);
        }
    }

    /// The numbers `0..count` in a random order.
    pub fn permutation(&mut self, count: usize) -> Vec<u32> {
        let mut order: Vec<u32> =
            (0..u32::try_from(count).expect("row numbers are 32 bits wide")).collect();
        self.shuffle(&mut order);
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_pinned() {
        // These numbers are a promise: changing them changes every run of every user.
        let mut rng = Seed(7).rng(Purpose::Init, position_of_name("conv1.weight"));
        assert_eq!(position_of_name(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(position_of_name("a"), 0xaf63_dc4c_8601_ec8c);
        let drawn: Vec<u64> = (0..2).map(|_| rng.next_u64()).collect();
        assert_eq!(drawn, PINNED_BITS);
        assert_eq!(
            Seed(1).rng(Purpose::Sampling, 0).permutation(6),
            PINNED_ORDER
        );
    }
    const PINNED_BITS: [u64; 2] = [13_726_129_889_694_332_939, 4_485_238_805_579_387_487];
    const PINNED_ORDER: [u32; 6] = [0, 2, 3, 5, 4, 1];

    #[test]
    fn normal_numbers_have_their_moments() {
        let mut rng = Seed(3).rng(Purpose::Init, 0);
        let numbers: Vec<f64> = (0..20_000).map(|_| rng.normal()).collect();
        let mean = numbers.iter().sum::<f64>() / numbers.len() as f64;
        let variance =
            numbers.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / numbers.len() as f64;
        assert!(
            mean.abs() < 0.03 && (variance - 1.0).abs() < 0.04,
            "{mean} {variance}"
        ); // Four standard errors.
    }

    #[test]
    fn below_is_even() {
        let mut rng = Seed(3).rng(Purpose::Sampling, 1);
        let mut counts = [0; 6];
        (0..6_000).for_each(|_| counts[rng.below(6)] += 1);
        assert!(
            counts.iter().all(|&count| (850..1150).contains(&count)),
            "{counts:?}"
        ); // Five standard deviations.
    }
}
