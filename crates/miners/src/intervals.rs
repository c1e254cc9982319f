//! Settings of two numbers in order.

use nearfar_core::Error;
use serde::{Deserialize, Serialize};

/// Distances from a least to a greatest, both included. In a run file `[0.2, 0.9]`.
///
/// ```
/// use nearfar_miners::Interval;
///
/// let interval = Interval::new(0.2, 0.9)?;
/// assert!(interval.holds(0.2) && interval.holds(0.9) && !interval.holds(1.0));
/// assert!(Interval::new(0.9, 0.2).is_err());
/// # Ok::<(), nearfar_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "[f64; 2]", into = "[f64; 2]")]
pub struct Interval {
    least: f64,
    greatest: f64,
}

impl Interval {
    /// From `least` to `greatest`.
    ///
    /// # Errors
    /// [`Error::Settings`] when one is not finite, or they are not in order.
    pub fn new(least: f64, greatest: f64) -> Result<Self, Error> {
        if least.is_finite() && greatest.is_finite() && least <= greatest {
            Ok(Self { least, greatest })
        } else {
            Err(Error::Settings(format!(
                "[{least}, {greatest}] must be two finite numbers, the smaller one first"
            )))
        }
    }

    /// Whether a distance is in it; one that is not a number is not.
    pub fn holds(self, distance: f64) -> bool {
        self.least <= distance && distance <= self.greatest
    }
}

impl TryFrom<[f64; 2]> for Interval {
    type Error = Error;
    fn try_from([least, greatest]: [f64; 2]) -> Result<Self, Error> {
        Self::new(least, greatest)
    }
}

impl From<Interval> for [f64; 2] {
    fn from(it: Interval) -> Self {
        [it.least, it.greatest]
    }
}

/// Places in an order, from a first to a last, both included; the hardest is 1. In a run file `[1, 3]`.
///
/// ```
/// use nearfar_miners::Ranks;
///
/// assert_eq!(Ranks::new(2, 3)?.of(&['a', 'b', 'c', 'd']), ['b', 'c']);
/// assert_eq!(Ranks::new(2, 9)?.of(&['a', 'b']), ['b']);
/// assert!(Ranks::new(0, 3).is_err() && Ranks::new(3, 2).is_err());
/// # Ok::<(), nearfar_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "[usize; 2]", into = "[usize; 2]")]
pub struct Ranks {
    first: usize,
    last: usize,
}

impl Ranks {
    /// The first of all.
    pub const HARDEST: Self = Self { first: 1, last: 1 };

    /// From the `first`-th to the `last`-th.
    ///
    /// # Errors
    /// [`Error::Settings`] when the first is 0, or they are not in order.
    pub fn new(first: usize, last: usize) -> Result<Self, Error> {
        if 1 <= first && first <= last {
            Ok(Self { first, last })
        } else {
            Err(Error::Settings(format!(
                "[{first}, {last}] must be two ranks of 1 or more, the smaller one first"
            )))
        }
    }

    /// What is at these places of a list; fewer where it ends before.
    pub fn of<T>(self, list: &[T]) -> &[T] {
        let last = self.last.min(list.len());
        &list[(self.first - 1).min(last)..last]
    }
}

impl TryFrom<[usize; 2]> for Ranks {
    type Error = Error;
    fn try_from([first, last]: [usize; 2]) -> Result<Self, Error> {
        Self::new(first, last)
    }
}

impl From<Ranks> for [usize; 2] {
    fn from(it: Ranks) -> Self {
        [it.first, it.last]
    }
}
