//! Sounds in files and in memory.

use std::{
    borrow::Cow,
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use nearfar_catalogue::{ArchivePart, archive};

use super::archive_limits;
use crate::{
    Dataset, Error, FrontEnd, Limits, Sample, Sound, Thumbnail, Value,
    error::{Fault, shown},
    pixels::Pixels,
    rows::{Rows, RowsBuilder},
    sound::{decode, decode_file, resample},
};

/// Where a sound is from.
pub(crate) enum Origin {
    File(PathBuf),
    /// The bytes of a file, and what it is called.
    Bytes {
        name: String,
        bytes: Vec<u8>,
    },
}

/// Sounds, of which frames are made when they are asked for. What was decoded stays in memory, at the rate of the front end, as long
/// as there is room within the limits; the rest is decoded each time.
pub(crate) struct Sounds {
    origins: Vec<Origin>,
    front_end: FrontEnd,
    /// How much of each is used.
    seconds: f64,
    kept: Vec<OnceLock<Box<[f32]>>>,
    /// Bytes that may still be kept.
    room: AtomicU64,
    labels: Vec<u32>,
    classes: Arc<[String]>,
}

impl Sounds {
    pub(crate) fn new(
        origins: Vec<Origin>,
        front_end: FrontEnd,
        seconds: f64,
        rows: &Rows,
        limits: &Limits,
    ) -> Self {
        // Files that are in memory as they are take their part of it.
        let taken = origins.iter().map(|it| match it {
            Origin::File(_) => 0,
            Origin::Bytes { bytes, .. } => bytes.len() as u64,
        });
        let taken = taken.sum();
        Self {
            kept: origins.iter().map(|_| OnceLock::new()).collect(),
            origins,
            front_end,
            seconds,
            room: AtomicU64::new(limits.memory_bytes.saturating_sub(taken)),
            labels: rows.labels.clone(),
            classes: rows.classes.clone().into(),
        }
    }

    /// The samples of a sound at the rate of the front end.
    fn samples(&self, index: u32) -> Result<Cow<'_, [f32]>, Error> {
        let rate = self.front_end.settings().rate;
        let kept = &self.kept[index as usize];
        if let Some(samples) = kept.get() {
            return Ok(Cow::Borrowed(samples));
        }
        let sound = match &self.origins[index as usize] {
            Origin::File(path) => decode_file(path, self.seconds)?,
            Origin::Bytes { name, bytes } => decode(bytes, name, self.seconds)?,
        };
        let samples = match sound.rate == rate {
            true => sound.samples,
            false => resample(&sound.samples, sound.rate, rate),
        };
        let bytes = size_of_val(samples.as_slice()) as u64;
        let taken = self
            .room
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |room| {
                room.checked_sub(bytes)
            });
        if taken.is_err() {
            return Ok(Cow::Owned(samples));
        }
        let mut samples = Some(samples);
        let all = kept.get_or_init(|| samples.take().unwrap_or_default().into());
        if samples.is_some() {
            // Another thread was faster with the same samples.
            self.room.fetch_add(bytes, Ordering::Relaxed);
        }
        Ok(Cow::Borrowed(all))
    }
}

impl Dataset for Sounds {
    fn labels(&self) -> &[u32] {
        &self.labels
    }

    fn sample(&self, index: u32) -> Result<Sample, Error> {
        let frames = self.front_end.frames_of(&self.samples(index)?)?;
        Ok(Sample::of(Value::Frames(frames)))
    }

    fn sound(&self, index: u32) -> Result<Option<(Sound, &FrontEnd)>, Error> {
        let sound = Sound {
            rate: self.front_end.settings().rate,
            samples: self.samples(index)?.into_owned(), // It is to be changed.
        };
        Ok(Some((sound, &self.front_end)))
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn describe(&self, index: u32) -> String {
        match &self.origins[index as usize] {
            Origin::File(path) => shown(path),
            Origin::Bytes { name, .. } => name.clone(),
        }
    }

    /// Its frames: time from left to right, high bands above, the loudest white.
    fn thumbnail(&self, index: u32) -> Option<Thumbnail> {
        let samples = self.samples(index).ok()?;
        let frames = self.front_end.frames_of(&samples).ok()?;
        let ends = frames
            .values
            .iter()
            .fold([f32::INFINITY, f32::NEG_INFINITY], |[low, high], &it| {
                [low.min(it), high.max(it)]
            });
        let range = (ends[1] - ends[0]).max(f32::MIN_POSITIVE);
        let mut bytes = Vec::with_capacity(frames.values.len());
        for band in (0..frames.width).rev() {
            let of_band = frames.values.iter().skip(band).step_by(frames.width);
            bytes.extend(of_band.map(|it| ((it - ends[0]) / range * 255.0).round() as u8));
        }
        let pixels = Pixels {
            channels: 1,
            height: frames.width,
            width: frames.count,
            bytes,
        };
        Some(pixels.thumbnail())
    }
}

/// Members of archives that are sounds, in the order of their names, and what their names say. Their files stay in memory as bytes.
pub(crate) fn in_archives(
    parts: &[(PathBuf, &ArchivePart)],
    class: &[String],
    wanted: &[&str],
    limits: &Limits,
) -> Result<(Vec<Origin>, Rows), Error> {
    let (mut origins, mut rows) = (Vec::new(), RowsBuilder::default());
    let mut total = 0u64;
    for (path, part) in parts {
        let mut members = Vec::new();
        archive::read(
            path,
            &archive_limits(limits),
            |name| part.members.matches(name),
            |name, bytes| {
                total += bytes.len() as u64;
                if total > limits.memory_bytes {
                    let fault = Fault::TooLarge {
                        found: total,
                        limit: limits.memory_bytes,
                        unit: "bytes of sounds",
                    };
                    return Err(Error::bad(shown(path), None, fault));
                }
                members.push((name.to_owned(), bytes));
                Ok(())
            },
        )?;
        members.sort(); // Whatever order they were packed in.
        for (name, bytes) in members {
            let mut fields = part.members.fields(&name).unwrap_or_default();
            let class: Vec<&str> = class
                .iter()
                .map(|field| fields.get(field).map_or("", String::as_str))
                .collect();
            rows.push(&class.join("/"), &part.part);
            fields.retain(|field, _| wanted.contains(&field.as_str()));
            rows.fields(fields);
            let name = format!("{}: {name}", shown(path));
            origins.push(Origin::Bytes { name, bytes });
        }
    }
    if origins.is_empty() {
        let place = parts.first().map_or(String::new(), |(path, _)| shown(path));
        return Err(Error::bad(place, None, Fault::Empty { wanted: "sounds" }));
    }
    Ok((origins, rows.finish()))
}
