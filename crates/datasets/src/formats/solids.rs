//! Invented solids, turned: as volumes, as views, or as points.

use nearfar_core::{Purpose, Rng, Seed};
use serde::{Deserialize, Serialize};

use super::arrays::thumbnail;
use crate::{Array, Dataset, Error, Frames, Sample, Thumbnail, Value};

/// Solids that nobody has seen: each class is a body of three or four blocks, balls and cylinders stuck together, and each sample that body
/// turned about its upright axis by any angle, tilted a little, and a little larger or smaller.
///
/// They are drawn when they are asked for; a sample depends on the seed, its class and its number alone.
///
/// ```
/// use nearfar_core::Seed;
/// use nearfar_datasets::{Dataset, Seen, Solids, Value};
///
/// let solids = Solids::new(5, 4, Seen::Volumes { size: 16 }, Seed(7))?;
/// assert_eq!((solids.len(), solids.labels()[4]), (20, 1));
/// let Value::Array(volume) = &solids.sample(3)?.inputs[0] else { unreachable!() };
/// assert_eq!(volume.shape, [1, 16, 16, 16]);
/// # Ok::<(), nearfar_datasets::Error>(())
/// ```
pub struct Solids {
    bodies: Vec<Vec<Part>>,
    seen: Seen,
    seed: Seed,
    labels: Vec<u32>,
    classes: Vec<String>,
}

/// As what a solid is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Seen {
    /// Voxels, 1 where it is and 0 elsewhere: `(1, size, size, size)`.
    Volumes {
        /// Along each side.
        size: usize,
    },
    /// Pictures from all around it, brighter where it is nearer and 0 beside it: `(views, 1, size, size)`.
    Views {
        /// How many, at equal angles.
        views: usize,
        /// Side of the pictures.
        size: usize,
    },
    /// Points in it, from −1 to 1, half of `most` at least: sets of different sizes.
    Points {
        /// Points of a set at most.
        most: usize,
    },
}

/// A block, ball or cylinder.
#[derive(Clone, Copy, Debug)]
struct Part {
    kind: usize,
    center: [f64; 3],
    /// Half of its size along each axis; a ball has the first.
    reach: [f64; 3],
}

impl Part {
    fn drawn(rng: &mut Rng, first: bool) -> Self {
        let mut place = |reach: f64| rng.uniform_between(-reach, reach);
        let spread = if first { 0.1 } else { 0.4 };
        let center = [place(spread), place(spread), place(spread)];
        let mut reach = || rng.uniform_between(0.12, 0.38);
        let reach = [reach(), reach(), reach()];
        Self {
            kind: rng.below(3),
            center,
            reach,
        }
    }

    fn has(&self, point: [f64; 3]) -> bool {
        let [x, y, z] = [0, 1, 2].map(|axis| point[axis] - self.center[axis]);
        let [a, b, c] = self.reach;
        match self.kind {
            0 => x.abs() <= a && y.abs() <= b && z.abs() <= c,
            1 => x * x + y * y + z * z <= a * a,
            _ => x * x + z * z <= a * a && y.abs() <= b, // Upright.
        }
    }
}

/// How a sample is turned and how large it is.
struct Pose {
    turn: f64,
    tilt: f64,
    scale: f64,
}

impl Pose {
    /// Where a point of the room is on the body.
    fn on_body(&self, [x, y, z]: [f64; 3]) -> [f64; 3] {
        let (sin, cos) = self.tilt.sin_cos();
        let (y, z) = (cos * y + sin * z, cos * z - sin * y);
        let (sin, cos) = self.turn.sin_cos();
        let (x, z) = (cos * x + sin * z, cos * z - sin * x);
        [x, y, z].map(|it| it / self.scale)
    }
}

/// Classes draw from positions that no sample has.
const OF_CLASSES: u64 = 1 << 40;

impl Solids {
    /// So many samples of each of so many classes.
    ///
    /// # Errors
    /// [`Error::Settings`] when there are none or too many, and for sizes out of range.
    pub fn new(classes: usize, samples: usize, seen: Seen, seed: Seed) -> Result<Self, Error> {
        let count = classes.checked_mul(samples);
        let Some(count) = count.filter(|count| (1..=u32::MAX as usize).contains(count)) else {
            return Err(Error::Settings(format!(
                "{classes} classes of {samples} solids are asked for; from 1 to {} solids are possible",
                u32::MAX
            )));
        };
        let (what, found, range) = match seen {
            Seen::Volumes { size } => ("size", size, 4..=128),
            Seen::Views { views, .. } if !(1..=64).contains(&views) => ("views", views, 1..=64),
            Seen::Views { size, .. } => ("size", size, 4..=256),
            Seen::Points { most } => ("points", most, 2..=65_536),
        };
        if !range.contains(&found) {
            return Err(Error::Settings(format!(
                "`{what}` of solids is {found}; from {} to {} is possible",
                range.start(),
                range.end()
            )));
        }
        let bodies = (0..classes as u64).map(|class| {
            let mut rng = seed.rng(Purpose::Generation, OF_CLASSES + class);
            let parts = 3 + rng.below(2);
            (0..parts)
                .map(|part| Part::drawn(&mut rng, part == 0))
                .collect()
        });
        Ok(Self {
            bodies: bodies.collect(),
            seen,
            seed,
            labels: (0..count).map(|index| (index / samples) as u32).collect(),
            classes: (0..classes).map(|class| format!("solid {class}")).collect(),
        })
    }

    fn value(&self, index: u32) -> Value {
        let mut rng = self.seed.rng(Purpose::Generation, u64::from(index));
        let body = &self.bodies[self.labels[index as usize] as usize];
        let pose = Pose {
            turn: rng.uniform_between(0.0, std::f64::consts::TAU),
            tilt: rng.uniform_between(-0.2, 0.2),
            scale: rng.uniform_between(0.9, 1.1),
        };
        let has = |pose: &Pose, point| {
            let point = pose.on_body(point);
            body.iter().any(|part| part.has(point))
        };
        // The middles of so many places from −1 to 1.
        let middle = |at: usize, of: usize| (2 * at + 1) as f64 / of as f64 - 1.0;
        match self.seen {
            Seen::Volumes { size } => {
                let mut values = Vec::with_capacity(size * size * size);
                for z in 0..size {
                    for y in 0..size {
                        for x in 0..size {
                            let point = [middle(x, size), -middle(y, size), middle(z, size)];
                            values.push(f32::from(u8::from(has(&pose, point))));
                        }
                    }
                }
                let shape = vec![1, size, size, size];
                Value::Array(Array { shape, values })
            }
            Seen::Views { views, size } => {
                let mut values = Vec::with_capacity(views * size * size);
                for view in 0..views {
                    let around = std::f64::consts::TAU * view as f64 / views as f64;
                    let turned = Pose {
                        turn: pose.turn + around,
                        ..pose
                    };
                    for y in 0..size {
                        for x in 0..size {
                            let along = (0..size).find(|&z| {
                                let point = [middle(x, size), -middle(y, size), middle(z, size)];
                                has(&turned, point)
                            });
                            let light = along.map_or(0.0, |z| 1.0 - z as f64 / size as f64);
                            values.push(light as f32);
                        }
                    }
                }
                let shape = vec![views, 1, size, size];
                Value::Array(Array { shape, values })
            }
            Seen::Points { most } => {
                let count = most / 2 + rng.below(most - most / 2) + 1;
                let count = count.min(most);
                let mut values = Vec::with_capacity(count * 3);
                // The smallest ball there can be is one two-thousandth of the room, so that this ends.
                while values.len() < count * 3 {
                    let point = [0; 3].map(|_| rng.uniform_between(-1.0, 1.0));
                    if has(&pose, point) {
                        values.extend(point.map(|it| it as f32));
                    }
                }
                Value::Frames(Frames {
                    count,
                    width: 3,
                    values,
                })
            }
        }
    }
}

impl Dataset for Solids {
    fn labels(&self) -> &[u32] {
        &self.labels
    }

    fn sample(&self, index: u32) -> Result<Sample, Error> {
        Ok(Sample::of(self.value(index)))
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn thumbnail(&self, index: u32) -> Option<Thumbnail> {
        thumbnail(&self.value(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(solids: &Solids, index: u32) -> Vec<f32> {
        match solids.value(index) {
            Value::Array(array) => array.values,
            other => panic!("{}", other.kind()),
        }
    }

    #[test]
    fn a_solid_is_there_in_every_form_and_the_same_each_time() {
        let volumes = Solids::new(20, 2, Seen::Volumes { size: 12 }, Seed(3)).unwrap();
        let views = Solids::new(20, 2, Seen::Views { views: 3, size: 12 }, Seed(3)).unwrap();
        let points = Solids::new(20, 2, Seen::Points { most: 40 }, Seed(3)).unwrap();
        let mut sizes = Vec::new();
        for index in 0..40 {
            let of_volume = filled(&volumes, index);
            let share = of_volume.iter().sum::<f32>() / of_volume.len() as f32;
            assert!((0.003..0.5).contains(&share), "{share}");
            assert_eq!(of_volume, filled(&volumes, index));
            for view in filled(&views, index).chunks(144) {
                assert!(view.iter().any(|&it| it > 0.0) && view.contains(&0.0));
            }
            match points.value(index) {
                Value::Frames(set) => {
                    assert!((20..=40).contains(&set.count) && set.values.len() == 3 * set.count);
                    sizes.push(set.count);
                }
                other => panic!("{}", other.kind()),
            }
        }
        sizes.dedup();
        assert!(sizes.len() > 1);
        assert_ne!(filled(&volumes, 0), filled(&volumes, 1)); // Turned.
        assert!(volumes.thumbnail(0).is_some() && points.thumbnail(0).is_some());
    }

    #[test]
    fn the_first_view_is_what_is_seen_of_the_volume() {
        let size = 12;
        let volumes = Solids::new(3, 1, Seen::Volumes { size }, Seed(3)).unwrap();
        let views = Solids::new(3, 1, Seen::Views { views: 4, size }, Seed(3)).unwrap();
        for index in 0..3 {
            let (volume, views) = (filled(&volumes, index), filled(&views, index));
            for pixel in 0..size * size {
                let along = (0..size).any(|z| volume[z * size * size + pixel] > 0.0);
                assert_eq!(views[pixel] > 0.0, along);
            }
        }
    }

    #[test]
    fn sizes_out_of_range_are_refused() {
        for seen in [
            Seen::Volumes { size: 3 },
            Seen::Views { views: 0, size: 12 },
            Seen::Views {
                views: 4,
                size: 1000,
            },
            Seen::Points { most: 1 },
        ] {
            let error = Solids::new(2, 2, seen, Seed(1)).err().unwrap().to_string();
            assert!(error.contains("of solids is"), "{error}");
        }
        assert!(Solids::new(0, 2, Seen::Points { most: 9 }, Seed(1)).is_err());
        assert!(Solids::new(usize::MAX, 2, Seen::Points { most: 9 }, Seed(1)).is_err());
    }
}
