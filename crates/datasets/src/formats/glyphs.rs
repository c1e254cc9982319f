//! Invented characters: as many as wanted, from a seed.

use std::sync::Arc;

use nearfar_core::{Purpose, Rng, Seed};

use crate::{
    Dataset, Error, Image, Sample, Thumbnail,
    pixels::{Pixels, levels, to_image},
};

/// Characters that nobody has written: each class is a program of a few strokes, each sample draws them with an unsteady
/// hand. Samples are drawn when they are asked for, so there may be any number.
///
/// Class `c` and its `k`-th drawing depend on the seed, `c` and `k` alone: more classes or samples change none.
///
/// ```
/// use nearfar_core::Seed;
/// use nearfar_datasets::{Dataset, Glyphs};
///
/// let glyphs = Glyphs::new(1000, 20, 28, Seed(7))?;
/// assert_eq!(glyphs.len(), 20_000);
/// assert_eq!(glyphs.labels()[19..21], [0, 1]);
/// # Ok::<(), nearfar_datasets::Error>(())
/// ```
pub struct Glyphs {
    programs: Vec<Program>,
    samples: u32,
    side: usize,
    seed: Seed,
    labels: Vec<u32>,
    classes: Arc<[String]>,
    levels: Box<[f32; 256]>,
}

/// A point in the unit square, x to the right and y down.
type Point = [f64; 2];

/// The strokes of a class: points that the pen goes through, two for a straight line.
type Program = Vec<Vec<Point>>;

impl Glyphs {
    /// `classes` characters with `samples` drawings each, of `side` by `side` pixels; the samples of a class follow one
    /// another.
    ///
    /// # Errors
    /// [`Error::Settings`] when one of them is 0, or there are too many for an index of 32 bits.
    pub fn new(classes: usize, samples: usize, side: usize, seed: Seed) -> Result<Self, Error> {
        let count = (classes as u128) * (samples as u128);
        if count == 0 || count > u128::from(u32::MAX) {
            return Err(Error::Settings(format!(
                "{classes} glyphs with {samples} samples each are {count}; from 1 to {} are possible",
                u32::MAX
            )));
        }
        crate::Size::square(side).check("size")?;
        let digits = (classes - 1).max(1).ilog10() as usize + 1;
        let programs = (0..classes as u64)
            .map(|class| program(&mut seed.rng(Purpose::Generation, CLASS | class)))
            .collect();
        let labels = (0..classes as u32)
            .flat_map(|class| std::iter::repeat_n(class, samples))
            .collect();
        Ok(Self {
            programs,
            samples: samples as u32,
            side,
            seed,
            labels,
            classes: (0..classes)
                .map(|class| format!("glyph {class:0digits$}"))
                .collect(),
            levels: levels(255, false),
        })
    }

    fn draw(&self, index: u32) -> Vec<u8> {
        let (class, sample) = (index / self.samples, index % self.samples);
        let position = u64::from(class) << 32 | u64::from(sample);
        let mut rng = self.seed.rng(Purpose::Generation, position);
        drawn(&self.programs[class as usize], self.side, &mut rng)
    }
}

/// Set in the positions of classes, and not in those of samples.
const CLASS: u64 = 1 << 63;

impl Dataset for Glyphs {
    fn labels(&self) -> &[u32] {
        &self.labels
    }

    fn sample(&self, index: u32) -> Result<Sample, Error> {
        let image: Image = to_image(&self.draw(index), [1, self.side, self.side], &self.levels);
        Ok(Sample::of(image))
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn describe(&self, index: u32) -> String {
        format!(
            "{}, drawing {}",
            self.classes[(index / self.samples) as usize],
            index % self.samples
        )
    }

    fn thumbnail(&self, index: u32) -> Option<Thumbnail> {
        let pixels = Pixels {
            channels: 1,
            height: self.side,
            width: self.side,
            bytes: self.draw(index),
        };
        Some(pixels.thumbnail())
    }
}

/// The strokes of a new character.
fn program(rng: &mut Rng) -> Program {
    let strokes = 2 + rng.below(3);
    let mut program: Program = Vec::with_capacity(strokes);
    for _ in 0..strokes {
        // Most strokes begin on one that is there already, as in characters that people write.
        let start = match program.len() {
            0 => anywhere(rng),
            count if rng.chance(0.65) => {
                let stroke = &program[rng.below(count)];
                let along = rng.below(stroke.len() - 1);
                between(stroke[along], stroke[along + 1], rng.uniform())
            }
            _ => anywhere(rng),
        };
        let mut stroke = vec![start];
        let (kind, mut tries) = (rng.uniform(), 0);
        let points = match kind {
            x if x < 0.4 => 1,
            x if x < 0.75 => 2,
            _ => 3,
        };
        while stroke.len() <= points {
            let last = stroke[stroke.len() - 1];
            let next = anywhere(rng);
            tries += 1;
            // Neither dots nor loops too tight to be seen; after some tries anything goes.
            let clear = stroke
                .iter()
                .all(|&point| distance(point, next) > if points == 1 { 0.4 } else { 0.25 });
            if (clear && distance(last, next) < 0.8) || tries > 20 {
                stroke.push(next);
            }
        }
        program.push(stroke);
    }
    program
}

fn anywhere(rng: &mut Rng) -> Point {
    [
        rng.uniform_between(0.14, 0.86),
        rng.uniform_between(0.14, 0.86),
    ]
}

fn between(a: Point, b: Point, part: f64) -> Point {
    [a[0] + (b[0] - a[0]) * part, a[1] + (b[1] - a[1]) * part]
}

fn distance(a: Point, b: Point) -> f64 {
    (a[0] - b[0]).hypot(a[1] - b[1])
}

/// One drawing of a character: its points a little off, the whole turned, slanted, scaled and moved, with one pen.
fn drawn(program: &Program, side: usize, rng: &mut Rng) -> Vec<u8> {
    let angle = 0.1 * rng.normal();
    let slant = 0.12 * rng.normal();
    let scale = [
        rng.uniform_between(0.85, 1.1),
        rng.uniform_between(0.85, 1.1),
    ];
    let shift = [0.03 * rng.normal(), 0.03 * rng.normal()];
    let pen = rng.uniform_between(0.028, 0.048);
    let (sin, cos) = angle.sin_cos();
    let mut ink = vec![0.0f64; side * side];
    for stroke in program {
        let points: Vec<Point> = stroke
            .iter()
            .map(|&[x, y]| {
                let (x, y) = (
                    x + 0.022 * rng.normal() - 0.5,
                    y + 0.022 * rng.normal() - 0.5,
                );
                let (x, y) = ((x - slant * y) * scale[0], y * scale[1]);
                [
                    cos * x - sin * y + 0.5 + shift[0],
                    sin * x + cos * y + 0.5 + shift[1],
                ]
            })
            .collect();
        // A hand does not draw straight lines.
        let bend = 0.03 * rng.normal();
        for line in flattened(&points, bend).windows(2) {
            paint(&mut ink, side, line[0], line[1], pen);
        }
    }
    ink.into_iter()
        .map(|value| (value * 255.0).round() as u8)
        .collect()
}

/// A smooth curve through the points, as short lines: a Catmull–Rom spline, or a slightly bent line between two.
fn flattened(points: &[Point], bend: f64) -> Vec<Point> {
    const STEPS: usize = 10;
    if let [a, b] = *points {
        let middle = between(a, b, 0.5);
        let across = [bend * (b[1] - a[1]), bend * (a[0] - b[0])];
        let control = [middle[0] + across[0], middle[1] + across[1]];
        return (0..=STEPS)
            .map(|step| {
                let part = step as f64 / STEPS as f64;
                between(between(a, control, part), between(control, b, part), part)
            })
            .collect();
    }
    let mut line = vec![points[0]];
    for index in 0..points.len() - 1 {
        let at = |offset: isize| {
            let place = (index as isize + offset).clamp(0, points.len() as isize - 1);
            points[place as usize]
        };
        let (before, from, to, after) = (at(-1), at(0), at(1), at(2));
        for step in 1..=STEPS {
            let t = step as f64 / STEPS as f64;
            let along = |axis: usize| {
                let (p, a, b, n) = (before[axis], from[axis], to[axis], after[axis]);
                0.5 * (2.0 * a
                    + (b - p) * t
                    + (2.0 * p - 5.0 * a + 4.0 * b - n) * t * t
                    + (3.0 * a - p - 3.0 * b + n) * t * t * t)
            };
            line.push([along(0), along(1)]);
        }
    }
    line
}

/// Covers the pixels near a line; those at its edge in part.
fn paint(ink: &mut [f64], side: usize, from: Point, to: Point, pen: f64) {
    let size = side as f64;
    let reach = (pen * size).max(0.5) + 0.5; // A pen is a pixel wide at least.
    let scaled = |point: Point| [point[0] * size - 0.5, point[1] * size - 0.5];
    let (a, b) = (scaled(from), scaled(to));
    let span = |axis: usize| {
        let low = (a[axis].min(b[axis]) - reach).floor().max(0.0) as usize;
        let high = (a[axis].max(b[axis]) + reach).ceil().max(-1.0) + 1.0;
        low..(high as usize).min(side)
    };
    let along = [b[0] - a[0], b[1] - a[1]];
    let length = along[0] * along[0] + along[1] * along[1];
    for y in span(1) {
        for x in span(0) {
            let point = [x as f64, y as f64];
            let dot = (point[0] - a[0]) * along[0] + (point[1] - a[1]) * along[1];
            let part = if length > 0.0 {
                (dot / length).clamp(0.0, 1.0)
            } else {
                0.0
            };
            let covered = (reach - distance(point, between(a, b, part))).clamp(0.0, 1.0);
            let pixel = &mut ink[y * side + x];
            *pixel = pixel.max(covered);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawings_depend_on_seed_class_and_number_alone() -> Result<(), Error> {
        let few = Glyphs::new(3, 2, 16, Seed(1))?;
        let many = Glyphs::new(20, 5, 16, Seed(1))?;
        assert_eq!(few.draw(2 + 1), many.draw(5 + 1));
        assert_ne!(few.draw(0), few.draw(1));
        assert_ne!(few.draw(0), Glyphs::new(3, 2, 16, Seed(2))?.draw(0));
        assert_eq!(many.classes()[3], "glyph 03");
        assert!(Glyphs::new(0, 2, 16, Seed(1)).is_err());
        assert!(Glyphs::new(1 << 20, 1 << 20, 16, Seed(1)).is_err());
        Ok(())
    }

    #[test]
    fn drawings_of_a_class_are_nearer_than_those_of_others() -> Result<(), Error> {
        let glyphs = Glyphs::new(30, 6, 28, Seed(5))?;
        let images: Vec<Vec<u8>> = (0..180).map(|index| glyphs.draw(index)).collect();
        let far = |a: &[u8], b: &[u8]| -> u64 {
            a.iter()
                .zip(b)
                .map(|(&x, &y)| u64::from(x.abs_diff(y)).pow(2))
                .sum()
        };
        let right = (0..180)
            .filter(|&i| {
                let nearest = (0..180)
                    .filter(|&j| j != i)
                    .min_by_key(|&j| far(&images[i], &images[j]));
                nearest.is_some_and(|j| i / 6 == j / 6)
            })
            .count();
        // Neither trivial nor noise: chance is 3 %.
        assert!((60..=175).contains(&right), "{right} of 180");
        let inked = images.iter().filter(|image| {
            let ink: u64 = image.iter().map(|&x| u64::from(x)).sum();
            (30 * 255..400 * 255).contains(&ink)
        });
        assert!(inked.count() >= 178);
        Ok(())
    }

    #[test]
    fn edges_are_smooth() {
        let mut ink = vec![0.0; 9];
        paint(&mut ink, 3, [0.0, 0.5], [1.0, 0.5], 0.5 / 3.0);
        assert_eq!(ink, [0., 0., 0., 1., 1., 1., 0., 0., 0.]);
        let mut ink = vec![0.0; 9];
        paint(&mut ink, 3, [0.0, 2.0 / 3.0], [1.0, 2.0 / 3.0], 0.5 / 3.0);
        for (found, expected) in ink.iter().zip([0., 0., 0., 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]) {
            assert!((found - expected).abs() < 1e-9, "{ink:?}");
        }
    }
}
