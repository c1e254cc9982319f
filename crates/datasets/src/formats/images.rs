//! Images of one size, in memory.

use std::sync::Arc;

use crate::{
    Dataset, Error, Limits, Sample, Thumbnail,
    error::Fault,
    pixels::{Pixels, levels, to_image},
    rows::Rows,
};

/// Images of one size as bytes in memory: a byte a channel and pixel, whatever they were in their files.
pub(crate) struct Images {
    /// Channels, height, width.
    shape: [usize; 3],
    bytes: Vec<u8>,
    levels: Box<[f32; 256]>,
    /// The byte that is 1 (or 0, where ink is dark).
    full: u8,
    labels: Vec<u32>,
    classes: Arc<[String]>,
    /// What each is called.
    names: Names,
}

pub(crate) enum Names {
    /// One by one.
    Each(Vec<String>),
    /// Where runs of images begin, and what they are called; the images of a run are counted.
    Counted(Vec<(u32, String)>),
}

impl Images {
    /// As many images as there are rows, one after another.
    ///
    /// # Panics
    /// If the bytes are not those of so many images.
    pub(crate) fn new(
        shape: [usize; 3],
        bytes: Vec<u8>,
        full: u8,
        dark_ink: bool,
        rows: &Rows,
        names: Names,
    ) -> Self {
        assert_eq!(
            bytes.len(),
            rows.len() * shape.iter().product::<usize>(),
            "readers check sizes"
        );
        Self {
            shape,
            bytes,
            levels: levels(full, dark_ink),
            full,
            labels: rows.labels.clone(),
            classes: rows.classes.clone().into(),
            names,
        }
    }

    /// Channels, height, width.
    pub(crate) fn shape(&self) -> [usize; 3] {
        self.shape
    }

    fn image(&self, index: u32) -> &[u8] {
        let size = self.shape.iter().product::<usize>();
        &self.bytes[index as usize * size..][..size]
    }
}

/// Whether so many images fit into memory.
pub(crate) fn fits(
    count: usize,
    shape: [usize; 3],
    path: &str,
    limits: &Limits,
) -> Result<(), Error> {
    let bytes = shape
        .iter()
        .fold(count as u128, |bytes, &side| bytes * side as u128);
    if bytes > u128::from(limits.memory_bytes) {
        return Err(Error::bad(
            path,
            None,
            Fault::TooLarge {
                found: u64::try_from(bytes).unwrap_or(u64::MAX),
                limit: limits.memory_bytes,
                unit: "bytes of pixels",
            },
        ));
    }
    Ok(())
}

impl Dataset for Images {
    fn labels(&self) -> &[u32] {
        &self.labels
    }

    fn sample(&self, index: u32) -> Result<Sample, Error> {
        Ok(Sample::of(to_image(
            self.image(index),
            self.shape,
            &self.levels,
        )))
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn describe(&self, index: u32) -> String {
        match &self.names {
            Names::Each(names) => names[index as usize].clone(),
            Names::Counted(runs) => {
                let run = runs.partition_point(|(start, _)| *start <= index);
                match run.checked_sub(1).map(|run| &runs[run]) {
                    Some((start, name)) => format!("{name} {}", index - start),
                    None => format!("image {index}"),
                }
            }
        }
    }

    fn thumbnail(&self, index: u32) -> Option<Thumbnail> {
        let stretch = |byte: &u8| (u32::from(*byte) * 255 / u32::from(self.full)).min(255) as u8;
        let pixels = Pixels {
            channels: self.shape[0],
            height: self.shape[1],
            width: self.shape[2],
            bytes: self.image(index).iter().map(stretch).collect(),
        };
        Some(pixels.thumbnail())
    }
}
