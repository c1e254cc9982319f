//! Volumes and sets of points in files.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::npy::{self, Numbers};
use crate::{
    Array, Dataset, Error, Frames, Limits, Sample, Thumbnail, Value,
    error::{Fault, Sink, shown},
    pixels::Pixels,
    rows::Rows,
};

/// What the arrays of a data set are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrays {
    /// Volumes of this shape: channels, depth, height, width.
    Volumes([usize; 4]),
    /// Sets of points.
    Points {
        /// Numbers of a point.
        features: usize,
        /// Points of a set at most.
        most: usize,
    },
}

impl Arrays {
    /// Volumes of the shape that the first file has that can be read.
    pub(crate) fn volumes(
        files: &[PathBuf],
        place: &str,
        limits: &Limits,
        sink: &mut dyn Sink,
    ) -> Result<Self, Error> {
        first(files, place, limits, sink, volume).map(Self::Volumes)
    }

    /// Sets of points of as many numbers as those of the first file that can be read.
    pub(crate) fn points(
        files: &[PathBuf],
        most: usize,
        place: &str,
        limits: &Limits,
        sink: &mut dyn Sink,
    ) -> Result<Self, Error> {
        let [_, features] = first(files, place, limits, sink, set)?;
        Ok(Self::Points { features, most })
    }
}

/// What the first file is that can be read.
fn first<T>(
    files: &[PathBuf],
    place: &str,
    limits: &Limits,
    sink: &mut dyn Sink,
    shape: impl Fn(&Path, &Numbers) -> Result<T, Error>,
) -> Result<T, Error> {
    for file in files {
        match npy::read(file, limits).and_then(|numbers| shape(file, &numbers)) {
            Ok(shape) => return Ok(shape),
            Err(error) => sink.take(error)?,
        }
    }
    let wanted = "arrays that can be read";
    Err(Error::bad(place, None, Fault::Empty { wanted }))
}

fn other_shape(path: &Path, what: String, expected: &'static str) -> Error {
    Error::bad(shown(path), None, Fault::Unknown { what, expected })
}

fn volume(path: &Path, numbers: &Numbers) -> Result<[usize; 4], Error> {
    match *numbers.shape {
        [d, h, w] if d * h * w > 0 => Ok([1, d, h, w]),
        [c, d, h, w] if c * d * h * w > 0 => Ok([c, d, h, w]),
        ref shape => Err(other_shape(
            path,
            format!("the array has the shape {shape:?}"),
            "a volume has (depth, height, width), or channels in front, and is not empty",
        )),
    }
}

fn set(path: &Path, numbers: &Numbers) -> Result<[usize; 2], Error> {
    match *numbers.shape {
        [n, features] if n * features > 0 => Ok([n, features]),
        ref shape => Err(other_shape(
            path,
            format!("the array has the shape {shape:?}"),
            "a set of points has (points, numbers of a point), and is not empty",
        )),
    }
}

/// Arrays in `.npy` files, read when they are asked for.
pub(crate) struct ArrayFiles {
    files: Vec<PathBuf>,
    kind: Arrays,
    limits: Limits,
    labels: Vec<u32>,
    classes: Arc<[String]>,
}

impl ArrayFiles {
    pub(crate) fn new(files: Vec<PathBuf>, kind: Arrays, rows: &Rows, limits: &Limits) -> Self {
        Self {
            files,
            kind,
            limits: *limits,
            labels: rows.labels.clone(),
            classes: rows.classes.clone().into(),
        }
    }

    fn value(&self, index: u32) -> Result<Value, Error> {
        let path = &self.files[index as usize];
        let numbers = npy::read(path, &self.limits)?;
        match self.kind {
            Arrays::Volumes(wanted) => {
                let found = volume(path, &numbers)?;
                if found != wanted {
                    return Err(other_shape(
                        path,
                        format!("the volume has the shape {found:?}, the others {wanted:?}"),
                        "make all volumes of a data set alike",
                    ));
                }
                Ok(Value::Array(Array {
                    shape: wanted.to_vec(),
                    values: numbers.values,
                }))
            }
            Arrays::Points { features, most } => {
                let [count, found] = set(path, &numbers)?;
                if found != features {
                    return Err(other_shape(
                        path,
                        format!("a point has {found} numbers, those of others {features}"),
                        "make all points of a data set alike",
                    ));
                }
                let count = count.min(most);
                let mut values = numbers.values;
                values.truncate(count * features);
                Ok(Value::Frames(Frames {
                    count,
                    width: features,
                    values,
                }))
            }
        }
    }
}

impl Dataset for ArrayFiles {
    fn labels(&self) -> &[u32] {
        &self.labels
    }

    fn sample(&self, index: u32) -> Result<Sample, Error> {
        self.value(index).map(Sample::of)
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn describe(&self, index: u32) -> String {
        shown(&self.files[index as usize])
    }

    fn thumbnail(&self, index: u32) -> Option<Thumbnail> {
        self.value(index).ok().and_then(|value| thumbnail(&value))
    }
}

/// Something to see of a volume, from the front: the largest number behind each pixel. Of views, the first; of points, where they are
/// by their first two numbers.
pub(crate) fn thumbnail(value: &Value) -> Option<Thumbnail> {
    let (height, width, values) = match value {
        Value::Array(array) => {
            let [_, layers, height, width] = array.shape[..] else {
                return None;
            };
            let plane = height * width;
            let mut seen = vec![f32::NEG_INFINITY; plane];
            // Views have channels where volumes have slices; of a first view, or channel, each is looked at.
            for layer in array.values.chunks_exact(plane.max(1)).take(layers) {
                for (seen, &x) in seen.iter_mut().zip(layer) {
                    *seen = seen.max(x);
                }
            }
            (height, width, seen)
        }
        Value::Frames(points) if points.width >= 2 => {
            const SIDE: usize = 48;
            let mut seen = vec![0f32; SIDE * SIDE];
            let reach = points
                .values
                .iter()
                .fold(1e-6f32, |reach, x| reach.max(x.abs()));
            let place = |x: f32| ((x / reach + 1.0) * 0.5 * (SIDE - 1) as f32).round() as usize;
            for point in points.values.chunks_exact(points.width) {
                seen[place(-point[1]) * SIDE + place(point[0])] = 1.0;
            }
            (SIDE, SIDE, seen)
        }
        _ => return None,
    };
    let [low, high] = values
        .iter()
        .fold([f32::INFINITY, f32::NEG_INFINITY], |[low, high], &x| {
            [low.min(x), high.max(x)]
        });
    let range = (high - low).max(f32::MIN_POSITIVE);
    let bytes = values
        .iter()
        .map(|x| ((x - low) / range * 255.0).round() as u8)
        .collect();
    let pixels = Pixels {
        channels: 1,
        height,
        width,
        bytes,
    };
    Some(pixels.thumbnail())
}
