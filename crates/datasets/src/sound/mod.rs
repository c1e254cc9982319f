//! Sounds: from files to samples at one rate, and from those to log-mel frames.

use std::{
    fs::File,
    io::{Cursor, Read},
    path::Path,
};

use crate::{
    Error,
    error::{SoundFault, shown},
};

#[cfg(feature = "audio")]
mod compressed;
mod front_end;
mod log_mel;
mod resample;
mod wav;

pub use front_end::FrontEnd;
pub use log_mel::{Leveling, Log, LogMel, MelNorm, MelPreset, MelScale, Padding, Taper};
pub use resample::resample;

/// A sound of one channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Sound {
    /// Samples a second.
    pub rate: u32,
    /// The samples; full scale is from −1 to 1.
    pub samples: Vec<f32>,
}

/// Vectors of one width in the order of time.
#[derive(Clone, Debug, PartialEq)]
pub struct Frames {
    /// How many.
    pub count: usize,
    /// Numbers in each.
    pub width: usize,
    /// Frame by frame: `count · width`.
    pub values: Vec<f32>,
}

impl Frames {
    /// The mean of all numbers; 0 where there are none.
    pub fn mean(&self) -> f32 {
        let sum: f64 = self.values.iter().map(|&it| f64::from(it)).sum();
        (sum / self.values.len().max(1) as f64) as f32
    }
}

/// Rates that are believed: from telephone lines to the fastest converters.
pub(crate) const RATES: std::ops::RangeInclusive<u32> = 1_000..=768_000;
/// Channels that are believed.
const CHANNELS: std::ops::RangeInclusive<u16> = 1..=64;

/// Ends of the names of files that are read.
pub(crate) const EXTENSIONS: [&str; 6] = ["wav", "wave", "flac", "mp3", "ogg", "oga"];
/// Ends of the names of sounds that are not read.
pub(crate) const UNKNOWN_EXTENSIONS: [&str; 8] =
    ["aif", "aiff", "au", "m4a", "aac", "opus", "wma", "caf"];

/// A sound that lies in a file or in memory: its first `seconds`, mixed to one channel (the mean of all), at the rate it has.
pub(crate) fn decode_file(path: &Path, seconds: f64) -> Result<Sound, Error> {
    let open = || File::open(path).map_err(|source| Error::read(path, source));
    let label = shown(path);
    match magic(open()?).map_err(|source| Error::read(path, source))? {
        Magic::Riff => wav::decode(std::io::BufReader::new(open()?), &label, seconds),
        Magic::Compressed => compressed(Box::new(open()?), &label, seconds),
        Magic::Unknown => Err(unknown(&label)),
    }
}

/// The same of bytes.
pub(crate) fn decode(bytes: &[u8], label: &str, seconds: f64) -> Result<Sound, Error> {
    // Reading from memory does not fail.
    match magic(bytes).unwrap_or(Magic::Unknown) {
        Magic::Riff => wav::decode(Cursor::new(bytes), label, seconds),
        Magic::Compressed => {
            // The decoder wants to own what it reads.
            compressed(Box::new(Cursor::new(bytes.to_vec())), label, seconds)
        }
        Magic::Unknown => Err(unknown(label)),
    }
}

/// What a file is by its first bytes, whatever its name says.
enum Magic {
    Riff,
    Compressed,
    Unknown,
}

fn magic(file: impl Read) -> std::io::Result<Magic> {
    let mut bytes = Vec::with_capacity(4);
    file.take(4).read_to_end(&mut bytes)?;
    Ok(match bytes[..] {
        [b'R', b'I', b'F', b'F'] => Magic::Riff,
        [b'f', b'L', b'a', b'C'] | [b'O', b'g', b'g', b'S'] | [b'I', b'D', b'3', _] => {
            Magic::Compressed
        }
        // The sync word of a frame of MPEG audio.
        [0xff, second, _, _] if second & 0xe0 == 0xe0 => Magic::Compressed,
        _ => Magic::Unknown,
    })
}

fn unknown(label: &str) -> Error {
    Error::sound(label, SoundFault::Unknown)
}

#[cfg(feature = "audio")]
use compressed::decode as compressed;

#[cfg(not(feature = "audio"))]
fn compressed(_: Box<dyn Read + '_>, label: &str, _: f64) -> Result<Sound, Error> {
    Err(Error::sound(label, SoundFault::Feature))
}

/// How many samples of a sound are decoded, where `seconds` are wanted.
fn wanted(seconds: f64, rate: u32) -> u64 {
    (seconds * f64::from(rate)).ceil() as u64
}

/// What a header says of rate and channels, if it can be believed.
fn believed(label: &str, rate: u32, channels: u16) -> Result<(), Error> {
    if !RATES.contains(&rate) {
        return Err(Error::sound(label, SoundFault::Rate { found: rate }));
    }
    if !CHANNELS.contains(&channels) {
        return Err(Error::sound(
            label,
            SoundFault::Channels { found: channels },
        ));
    }
    Ok(())
}

/// A sound of these samples, if there are any and all are finite.
fn finished(label: &str, rate: u32, samples: Vec<f32>) -> Result<Sound, Error> {
    if samples.is_empty() {
        return Err(Error::sound(label, SoundFault::Silent));
    }
    if let Some(at) = samples.iter().position(|it| !it.is_finite()) {
        return Err(Error::sound(label, SoundFault::NotFinite { at: at as u64 }));
    }
    Ok(Sound { rate, samples })
}
