//! WAV files: PCM of 8, 16, 24 and 32 bits and floating point of 32 and 64 bits.
//!
//! Read here and not by a crate: `hound` takes the claim of a header for the number of samples, loses its place behind a chunk
//! of odd length, and refuses files whose redundant fields disagree; what is left is the loop over samples.

use std::io::{ErrorKind, Read, Seek, SeekFrom};

use super::{Sound, believed, finished, wanted};
use crate::{Error, error::SoundFault};

/// What the chunk `fmt ` says.
#[derive(Clone, Copy, Debug)]
struct Format {
    channels: u16,
    rate: u32,
    /// Bytes of a sample of one channel.
    bytes: usize,
    is_float: bool,
}

const PCM: u16 = 1;
const FLOAT: u16 = 3;
const EXTENSIBLE: u16 = 0xfffe;
/// The length that programs write that do not know it, since they write to a pipe.
const OPEN_END: u32 = u32::MAX;
/// Chunks before the samples; files have a handful.
const CHUNKS: usize = 1_000;

/// The first `seconds` of a WAV file, mixed to one channel. No more is read or allocated than the file has, whatever its header
/// claims.
pub(super) fn decode(
    mut file: impl Read + Seek,
    label: &str,
    seconds: f64,
) -> Result<Sound, Error> {
    let fault = |fault| Error::sound(label, fault);
    let mut riff = [0; 12];
    fill(&mut file, &mut riff, label)?;
    if &riff[..4] != b"RIFF" || &riff[8..] != b"WAVE" {
        return Err(fault(SoundFault::Unknown));
    }
    let mut format = None;
    for _ in 0..CHUNKS {
        let mut header = [0; 8];
        fill(&mut file, &mut header, label)?;
        let length = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
        match &header[..4] {
            b"fmt " => {
                let mut chunk = [0; 40];
                let known = (length as usize).min(chunk.len());
                fill(&mut file, &mut chunk[..known], label)?;
                format = Some(format_of(&chunk[..known]).map_err(fault)?);
                skip(
                    &mut file,
                    u64::from(length) - known as u64 + u64::from(length % 2),
                    label,
                )?;
            }
            b"data" => {
                let format = format.ok_or_else(|| fault(SoundFault::Header))?;
                return samples(file, label, format, length, seconds);
            }
            // Chunks begin at even places.
            _ => skip(&mut file, u64::from(length) + u64::from(length % 2), label)?,
        }
    }
    Err(fault(SoundFault::Header))
}

/// All of these bytes, or the file ends within its header.
fn fill(file: &mut impl Read, bytes: &mut [u8], label: &str) -> Result<(), Error> {
    file.read_exact(bytes)
        .map_err(|source| match source.kind() {
            ErrorKind::UnexpectedEof => Error::sound(label, SoundFault::Header),
            _ => failed(label, source),
        })
}

/// Places behind the end can be sought; the next read then finds nothing.
fn skip(file: &mut impl Seek, bytes: u64, label: &str) -> Result<(), Error> {
    file.seek(SeekFrom::Current(bytes as i64))
        .map(drop)
        .map_err(|source| failed(label, source))
}

fn failed(label: &str, source: std::io::Error) -> Error {
    Error::Read {
        path: label.to_owned(),
        source,
    }
}

fn format_of(chunk: &[u8]) -> Result<Format, SoundFault> {
    if chunk.len() < 16 {
        return Err(SoundFault::Header);
    }
    let short = |at: usize| u16::from_le_bytes([chunk[at], chunk[at + 1]]);
    let (mut tag, bits) = (short(0), short(14));
    if tag == EXTENSIBLE && chunk.len() >= 26 {
        tag = short(24); // The first bytes of the longer name of the format.
    }
    let is_float = tag == FLOAT;
    let known = match tag {
        PCM => [8, 16, 24, 32].contains(&bits),
        FLOAT => [32, 64].contains(&bits),
        _ => false,
    };
    let (channels, bytes) = (short(2), usize::from(bits / 8));
    // Samples in wider containers would be read from the wrong places.
    let packed = u32::from(short(12)) == u32::from(channels) * bytes as u32;
    if !known || !packed {
        return Err(SoundFault::Format { tag, bits });
    }
    Ok(Format {
        channels,
        rate: u32::from_le_bytes([chunk[4], chunk[5], chunk[6], chunk[7]]),
        bytes,
        is_float,
    })
}

/// Samples that are read at a time.
const BLOCK: usize = 4_096;

fn samples(
    mut file: impl Read + Seek,
    label: &str,
    format: Format,
    claimed: u32,
    seconds: f64,
) -> Result<Sound, Error> {
    believed(label, format.rate, format.channels)?;
    let channels = usize::from(format.channels);
    let frame = format.bytes * channels;
    let failed = |source| failed(label, source);
    let here = file.stream_position().map_err(failed)?;
    let end = file.seek(SeekFrom::End(0)).map_err(failed)?;
    file.seek(SeekFrom::Start(here)).map_err(failed)?;
    let found = end.saturating_sub(here) / frame as u64;
    let count = match claimed {
        OPEN_END => found,
        claimed => u64::from(claimed) / frame as u64,
    };
    if count > found {
        let fault = SoundFault::Truncated {
            claimed: count,
            found,
        };
        return Err(Error::sound(label, fault));
    }
    let count = count.min(wanted(seconds, format.rate)) as usize;
    let mut mixed = Vec::with_capacity(count);
    let mut block = vec![0; BLOCK.min(count) * frame];
    while mixed.len() < count {
        let bytes = &mut block[..(count - mixed.len()).min(BLOCK) * frame];
        fill(&mut file, bytes, label)?;
        mixed.extend(bytes.chunks_exact(frame).map(|frame| {
            let sum: f64 = frame
                .chunks_exact(format.bytes)
                .map(|it| number(it, format.is_float))
                .sum();
            (sum / channels as f64) as f32
        }));
    }
    finished(label, format.rate, mixed)
}

/// A sample as a number from −1 to 1.
fn number(bytes: &[u8], is_float: bool) -> f64 {
    match *bytes {
        // Of all widths 8 bits alone are unsigned.
        [a] => (f64::from(a) - 128.0) / 128.0,
        [a, b] => f64::from(i16::from_le_bytes([a, b])) / f64::from(1 << 15),
        // In the upper bytes, so that the sign is where it belongs.
        [a, b, c] => f64::from(i32::from_le_bytes([0, a, b, c])) / f64::from(1u32 << 31),
        [a, b, c, d] if is_float => f64::from(f32::from_le_bytes([a, b, c, d])),
        [a, b, c, d] => f64::from(i32::from_le_bytes([a, b, c, d])) / f64::from(1u32 << 31),
        [a, b, c, d, e, f, g, h] => f64::from_le_bytes([a, b, c, d, e, f, g, h]),
        _ => f64::NAN, // No other width is let through; it would be refused.
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Cursor;

    /// A file of these bytes of samples.
    fn file(tag: u16, channels: u16, rate: u32, bits: u16, data: &[u8]) -> Vec<u8> {
        let align = channels.saturating_mul(bits / 8);
        let mut bytes = b"RIFF\0\0\0\0WAVEfmt ".to_vec();
        bytes.extend(16u32.to_le_bytes());
        bytes.extend(tag.to_le_bytes());
        bytes.extend(channels.to_le_bytes());
        bytes.extend(rate.to_le_bytes());
        bytes.extend((rate.wrapping_mul(u32::from(align))).to_le_bytes());
        bytes.extend(align.to_le_bytes());
        bytes.extend(bits.to_le_bytes());
        bytes.extend(b"data");
        bytes.extend((data.len() as u32).to_le_bytes());
        bytes.extend(data);
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Sound, String> {
        decode(Cursor::new(bytes), "a.wav", 10.0).map_err(|error| error.to_string())
    }

    fn mono(tag: u16, bits: u16, data: &[u8]) -> Vec<f32> {
        read(&file(tag, 1, 8_000, bits, data))
            .expect("a good file")
            .samples
    }

    #[test]
    fn samples_of_every_width_are_on_one_scale() {
        assert_eq!(mono(PCM, 8, &[0, 128, 192]), [-1.0, 0.0, 0.5]);
        assert_eq!(mono(PCM, 16, &[0, 0x80, 0, 0, 0, 0x40]), [-1.0, 0.0, 0.5]);
        let data = [0, 0, 0x80, 0, 0, 0, 0, 0, 0x40, 0xff, 0xff, 0xff];
        assert_eq!(mono(PCM, 24, &data), [-1.0, 0.0, 0.5, -1.0 / 8_388_608.0]);
        assert_eq!(mono(PCM, 32, &[0, 0, 0, 0x80, 0, 0, 0, 0x40]), [-1.0, 0.5]);
        let floats: Vec<u8> = [-1.5f32, 0.25]
            .iter()
            .flat_map(|it| it.to_le_bytes())
            .collect();
        assert_eq!(mono(FLOAT, 32, &floats), [-1.5, 0.25]);
        let floats: Vec<u8> = [-1.5f64, 0.25]
            .iter()
            .flat_map(|it| it.to_le_bytes())
            .collect();
        assert_eq!(mono(FLOAT, 64, &floats), [-1.5, 0.25]);
    }

    #[test]
    fn channels_are_mixed_and_what_is_too_long_is_cut() {
        let data: Vec<u8> = [16_384i16, 0, 8_192, 24_576]
            .iter()
            .flat_map(|it| it.to_le_bytes())
            .collect();
        let stereo = file(PCM, 2, 8_000, 16, &data);
        assert_eq!(
            read(&stereo),
            Ok(Sound {
                rate: 8_000,
                samples: vec![0.25, 0.5]
            })
        );
        let cut = decode(Cursor::new(&stereo), "a.wav", 1.0 / 8_000.0).expect("a good file");
        assert_eq!(cut.samples, [0.25]);
    }

    #[test]
    fn other_chunks_are_passed_over_also_those_of_odd_length() {
        let plain = file(PCM, 1, 8_000, 8, &[192, 128]);
        let mut odd = plain[..36].to_vec();
        odd.extend(b"LIST\x03\0\0\0abc\0"); // Filled up to an even place.
        odd.extend(&plain[36..]);
        odd.extend(b"behind");
        assert_eq!(read(&odd), read(&plain));
    }

    #[test]
    fn the_longer_header_says_its_format_behind() {
        let plain = file(PCM, 1, 8_000, 16, &[0, 0x40]);
        let mut long = plain[..16].to_vec();
        long.extend(40u32.to_le_bytes());
        long.extend(EXTENSIBLE.to_le_bytes());
        long.extend(&plain[22..36]);
        long.extend([
            22, 0, 16, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0, 0, 16, 0, 0x80, 0, 0, 0xaa, 0, 0x38, 0x9b,
            0x71,
        ]);
        long.extend(&plain[36..]);
        assert_eq!(read(&long).expect("a good file").samples, [0.5]);
    }

    #[test]
    fn a_file_whose_length_was_not_known_is_read_to_its_end() {
        let mut bytes = file(PCM, 1, 8_000, 8, &[192, 128, 64]);
        bytes[40..44].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(read(&bytes).expect("a good file").samples, [0.5, 0.0, -0.5]);
    }

    #[test]
    fn broken_files_are_refused_with_the_reason() {
        let good = file(PCM, 1, 8_000, 16, &[0; 20]);
        let message = |bytes: &[u8]| read(bytes).expect_err("a broken file");
        assert!(
            message(&good[..50]).contains("claims 10 samples, the file has 3"),
            "{}",
            message(&good[..50])
        );
        assert!(message(&good[..30]).contains("ends within its header"));
        assert!(message(b"RIFF").contains("ends within its header"));
        assert!(message(b"RIFFabcdAVI fmt ").contains("WAV"));
        let mut huge = good.clone();
        huge[40..44].copy_from_slice(&0x7fff_fff0u32.to_le_bytes());
        assert!(message(&huge).contains("claims 1073741816 samples, the file has 10"));
        assert!(message(&file(PCM, 1, 8_000, 16, &[])).contains("no samples"));
        assert!(message(&file(PCM, 0, 8_000, 16, &[0; 4])).contains("0 channels"));
        assert!(message(&file(PCM, 65, 8_000, 8, &[0; 65])).contains("65 channels"));
        assert!(message(&file(PCM, 1, 0, 16, &[0; 4])).contains("rate is 0"));
        assert!(message(&file(PCM, 1, 8_000, 12, &[0; 4])).contains("12 bits"));
        assert!(message(&file(2, 1, 8_000, 4, &[0; 4])).contains("format 2"));
        assert!(message(&file(FLOAT, 1, 8_000, 32, &f32::NAN.to_le_bytes())).contains("sample 0"));
        let mut no_format = good[..12].to_vec();
        no_format.extend(&good[36..]);
        assert!(message(&no_format).contains("header"));
    }

    proptest! {
        /// Whatever is done to a good file, it is read or refused.
        #[test]
        fn changed_bytes_never_panic(at in 0usize..64, byte: u8, cut in 0usize..=64, bits in prop::sample::select(vec![8u16, 16, 24, 32, 64])) {
            let mut bytes = file(if bits == 64 { FLOAT } else { PCM }, 2, 16_000, bits, &[7; 20]);
            let at = at % bytes.len();
            bytes[at] = byte;
            bytes.truncate(cut.max(at));
            if let Ok(sound) = read(&bytes) {
                prop_assert!(!sound.samples.is_empty() && sound.samples.len() <= 20);
            }
        }
    }
}
