//! Invented scenes: a few striped shapes on a canvas, with the shape that each pixel is of.

use nearfar_core::{Purpose, Rng, Seed};

use crate::{Annotation, Dataset, Error, Image, Mask, Sample, Thumbnail, pixels::Pixels};

/// Scenes that nobody has seen: two to `shapes` disks and rectangles, each with stripes of its own direction and width, on a
/// canvas with noise. Which shape a pixel is of cannot be told from how bright it is.
///
/// Later shapes cover earlier ones. Scenes are drawn when they are asked for; a scene depends on the seed and its number alone.
///
/// ```
/// use nearfar_core::Seed;
/// use nearfar_datasets::{Dataset, Scenes};
///
/// let scenes = Scenes::new(10, 4, 32, Seed(7))?;
/// let mask = scenes.mask(3)?.expect("scenes have masks");
/// assert_eq!((mask.height, mask.width, mask.instances.len()), (32, 32, 1024));
/// assert!(mask.instances.iter().all(|&shape| shape <= 4)); // 0 is the canvas.
/// # Ok::<(), nearfar_datasets::Error>(())
/// ```
pub struct Scenes {
    shapes: usize,
    side: usize,
    seed: Seed,
    labels: Vec<u32>,
}

/// One shape.
struct Shape {
    center: [f64; 2],
    /// Half of its height and width; a disk has one radius.
    reach: [f64; 2],
    disk: bool,
    /// Across the stripes, in radians a pixel.
    wave: [f64; 2],
    phase: f64,
}

impl Scenes {
    /// `count` scenes of up to `shapes` shapes on `side` by `side` pixels.
    ///
    /// # Errors
    /// [`Error::Settings`] when there are none, too many, or fewer than two shapes.
    pub fn new(count: usize, shapes: usize, side: usize, seed: Seed) -> Result<Self, Error> {
        if count == 0 || count > u32::MAX as usize {
            return Err(Error::Settings(format!(
                "{count} scenes are asked for; from 1 to {} are possible",
                u32::MAX
            )));
        }
        if !(2..=255).contains(&shapes) {
            return Err(Error::Settings(format!(
                "a scene has up to {shapes} shapes; from 2 to 255 are possible"
            )));
        }
        crate::Size::square(side).check("size")?;
        Ok(Self {
            shapes,
            side,
            seed,
            labels: vec![0; count],
        })
    }

    /// Gray values from 0 to 1, and the shape of each pixel.
    fn draw(&self, index: u32) -> (Vec<f32>, Vec<u32>) {
        let mut rng = self.seed.rng(Purpose::Generation, u64::from(index));
        let side = self.side as f64;
        let count = 2 + rng.below(self.shapes - 1);
        let shapes: Vec<Shape> = (0..count).map(|_| shape(side, &mut rng)).collect();
        let mut values = Vec::with_capacity(self.side * self.side);
        let mut instances = Vec::with_capacity(self.side * self.side);
        for y in 0..self.side {
            for x in 0..self.side {
                let point = [y as f64, x as f64];
                let last = shapes.iter().rposition(|shape| shape.covers(point));
                let light = last.map_or(0.5, |last| shapes[last].light(point));
                let value = (light + 0.03 * rng.normal()).clamp(0.0, 1.0);
                values.push(value as f32);
                instances.push(last.map_or(0, |last| last as u32 + 1));
            }
        }
        (values, instances)
    }
}

fn shape(side: f64, rng: &mut Rng) -> Shape {
    let direction = rng.uniform_between(0.0, std::f64::consts::PI);
    let length = rng.uniform_between(3.0, 6.0);
    let across = std::f64::consts::TAU / length;
    let mut reach = || side * rng.uniform_between(0.14, 0.26);
    let reach = [reach(), reach()];
    let mut place = || side * rng.uniform_between(0.2, 0.8);
    Shape {
        center: [place(), place()],
        reach,
        disk: rng.chance(0.5),
        wave: [across * direction.sin(), across * direction.cos()],
        phase: rng.uniform_between(0.0, std::f64::consts::TAU),
    }
}

impl Shape {
    fn covers(&self, [y, x]: [f64; 2]) -> bool {
        let (down, right) = (y - self.center[0], x - self.center[1]);
        match self.disk {
            true => down.hypot(right) <= self.reach[0],
            false => down.abs() <= self.reach[0] && right.abs() <= self.reach[1],
        }
    }

    fn light(&self, [y, x]: [f64; 2]) -> f64 {
        0.5 + 0.4 * (self.wave[0] * y + self.wave[1] * x + self.phase).sin()
    }
}

impl Dataset for Scenes {
    fn labels(&self) -> &[u32] {
        &self.labels
    }

    fn sample(&self, index: u32) -> Result<Sample, Error> {
        Ok(Sample::of(Image {
            channels: 1,
            height: self.side,
            width: self.side,
            values: self.draw(index).0,
        }))
    }

    fn annotation(&self) -> Annotation {
        Annotation::Masks
    }

    fn mask(&self, index: u32) -> Result<Option<Mask>, Error> {
        Ok(Some(Mask {
            height: self.side,
            width: self.side,
            instances: self.draw(index).1,
        }))
    }

    fn describe(&self, index: u32) -> String {
        format!("scene {index}")
    }

    fn thumbnail(&self, index: u32) -> Option<Thumbnail> {
        let values = self.draw(index).0;
        let pixels = Pixels {
            channels: 1,
            height: self.side,
            width: self.side,
            bytes: values.iter().map(|it| (it * 255.0).round() as u8).collect(),
        };
        Some(pixels.thumbnail())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scene_depends_on_seed_and_number_alone() -> Result<(), Error> {
        let (few, many) = (
            Scenes::new(3, 4, 16, Seed(1))?,
            Scenes::new(9, 4, 16, Seed(1))?,
        );
        assert_eq!(few.draw(2), many.draw(2));
        assert_ne!(few.draw(2), few.draw(1));
        assert_ne!(few.draw(2), Scenes::new(3, 4, 16, Seed(2))?.draw(2));
        assert!(Scenes::new(0, 4, 16, Seed(1)).is_err() && Scenes::new(3, 1, 16, Seed(1)).is_err());
        Ok(())
    }

    #[test]
    fn most_scenes_show_two_shapes_or_more_and_brightness_does_not_tell_them() -> Result<(), Error>
    {
        let scenes = Scenes::new(50, 4, 32, Seed(3))?;
        let mut several = 0;
        for index in 0..50 {
            let (values, instances) = scenes.draw(index);
            let mut known: Vec<u32> = instances.iter().copied().filter(|it| *it > 0).collect();
            known.sort_unstable();
            known.dedup();
            several += usize::from(known.len() > 1);
            for &shape in &known {
                let of = values
                    .iter()
                    .zip(&instances)
                    .filter(|(_, it)| **it == shape);
                let of: Vec<f32> = of.map(|(value, _)| *value).collect();
                let mean = of.iter().sum::<f32>() / of.len() as f32;
                assert!(of.len() < 30 || (mean - 0.5).abs() < 0.2, "{mean}");
            }
        }
        assert!(several > 40, "{several}");
        Ok(())
    }
}
