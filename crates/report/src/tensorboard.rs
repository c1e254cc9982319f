//! Event files as TensorBoard reads them.
//!
//! A file is a list of records: length (u64), checksum of the length, payload, checksum of the payload, all little-endian;
//! a payload is an `Event` of TensorFlow's `event.proto` in the encoding of protocol buffers. The few messages that are
//! needed are written by hand.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use nearfar_eval::Picture;

use crate::error::{Error, Result};
use crate::sprite;

/// Writes scalars, texts, histograms and pictures over steps to a new event file.
///
/// ```
/// use nearfar_report::{EventWriter, read_events};
///
/// let folder = tempfile::tempdir()?;
/// let mut events = EventWriter::create(folder.path())?;
/// events.scalar("loss", 1, 0.7)?;
/// events.text("configuration", 0, "seed = 7")?;
/// events.flush()?;
/// let read = read_events(events.path())?;
/// assert_eq!(read[1].values[0].tag, "loss");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct EventWriter {
    file: BufWriter<File>,
    path: PathBuf,
}

impl EventWriter {
    /// A new file `events.out.tfevents.<seconds>.<host>.<process>` in a folder, which is made if there is none.
    ///
    /// # Errors
    /// When the folder or the file cannot be made.
    pub fn create(folder: &Path) -> Result<Self> {
        let failed = |path: &Path| {
            let path = path.display().to_string();
            move |source| Error::Write { path, source }
        };
        std::fs::create_dir_all(folder).map_err(failed(folder))?;
        let seconds = now() as u64;
        let name = format!(
            "events.out.tfevents.{seconds:010}.{}.{}",
            host(),
            std::process::id()
        );
        // A second writer within a second gets another name; TensorBoard reads all of a folder in the order of names.
        let mut tries = (0..1000).map(|number| folder.join(format!("{name}.{number}")));
        let (path, file) = loop {
            let path = tries.next().unwrap_or_else(|| folder.join(&name));
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                file => break (path.clone(), file.map_err(failed(&path))?),
            }
        };
        let mut writer = Self {
            file: BufWriter::new(file),
            path,
        };
        let mut version = Message::default();
        version.text(3, "brain.Event:2");
        writer.event(0, &version)?;
        writer.flush()?;
        Ok(writer)
    }

    /// A new file for a run that goes on at a step: TensorBoard then forgets what earlier files say of later steps.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn resume(folder: &Path, step: u64) -> Result<Self> {
        let mut writer = Self::create(folder)?;
        let mut log = Message::default();
        log.varint(1, 1); // START
        let mut event = Message::default();
        event.message(7, &log);
        writer.event(step, &event)?;
        writer.flush()?;
        Ok(writer)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A number, on the tab "Scalars". A tag with slashes is a group.
    ///
    /// # Errors
    /// When it cannot be written. Also of the functions below.
    pub fn scalar(&mut self, tag: &str, step: u64, value: f32) -> Result<()> {
        let mut fields = Message::default();
        fields.float(2, value);
        self.value(tag, step, &fields)
    }

    /// A text, which TensorBoard shows as Markdown.
    ///
    /// # Errors
    /// As [`scalar`](Self::scalar).
    pub fn text(&mut self, tag: &str, step: u64, text: &str) -> Result<()> {
        let mut dimension = Message::default();
        dimension.varint(1, 1);
        let mut shape = Message::default();
        shape.message(2, &dimension);
        let mut tensor = Message::default();
        tensor.varint(1, 7); // DT_STRING
        tensor.message(2, &shape);
        tensor.text(8, text);
        let mut plugin = Message::default();
        plugin.text(1, "text");
        let mut metadata = Message::default();
        metadata.message(1, &plugin);
        metadata.varint(4, 2); // DATA_CLASS_TENSOR
        let mut fields = Message::default();
        fields.message(8, &tensor);
        fields.message(9, &metadata);
        self.value(tag, step, &fields)
    }

    /// The distribution of some numbers, in 30 intervals of one width. Numbers that are not finite are left out; of none,
    /// nothing is written.
    ///
    /// # Errors
    /// As [`scalar`](Self::scalar).
    pub fn histogram(&mut self, tag: &str, step: u64, values: &[f32]) -> Result<()> {
        let values: Vec<f64> = values
            .iter()
            .filter(|value| value.is_finite())
            .map(|&value| f64::from(value))
            .collect();
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if values.is_empty() {
            return Ok(());
        }
        const INTERVALS: usize = 30;
        let width = if high > low {
            (high - low) / INTERVALS as f64
        } else {
            1.0
        };
        let mut counts = [0.0; INTERVALS];
        for value in &values {
            counts[(((value - low) / width) as usize).min(INTERVALS - 1)] += 1.0;
        }
        // The end of the last interval is no less than the largest number, whatever rounding does.
        let ends: Vec<f64> = (1..=INTERVALS)
            .map(|i| {
                if i == INTERVALS && high > low {
                    high
                } else {
                    low + width * i as f64
                }
            })
            .collect();
        let mut histogram = Message::default();
        histogram.double(1, low);
        histogram.double(2, high);
        histogram.double(3, values.len() as f64);
        histogram.double(4, values.iter().sum());
        histogram.double(5, values.iter().map(|value| value * value).sum());
        histogram.doubles(6, &ends);
        histogram.doubles(7, &counts);
        let mut fields = Message::default();
        fields.message(5, &histogram);
        self.value(tag, step, &fields)
    }

    /// A picture. One that is not whole is left out.
    ///
    /// # Errors
    /// As [`scalar`](Self::scalar).
    pub fn picture(&mut self, tag: &str, step: u64, picture: &Picture) -> Result<()> {
        let Some(png) = sprite::png(picture) else {
            return Ok(());
        };
        let mut image = Message::default();
        image.varint(1, u64::from(picture.height));
        image.varint(2, u64::from(picture.width));
        image.varint(3, u64::from(picture.channels));
        image.bytes(4, &png);
        let mut fields = Message::default();
        fields.message(4, &image);
        self.value(tag, step, &fields)
    }

    /// Hands everything to the system.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn flush(&mut self) -> Result<()> {
        self.file.flush().map_err(|source| Error::Write {
            path: self.path.display().to_string(),
            source,
        })
    }

    fn value(&mut self, tag: &str, step: u64, fields: &Message) -> Result<()> {
        let mut value = Message::default();
        value.text(1, tag);
        value.0.extend_from_slice(&fields.0);
        let mut summary = Message::default();
        summary.message(1, &value);
        let mut event = Message::default();
        event.message(5, &summary);
        self.event(step, &event)
    }

    fn event(&mut self, step: u64, fields: &Message) -> Result<()> {
        let mut event = Message::default();
        event.double(1, now());
        event.varint(2, step);
        event.0.extend_from_slice(&fields.0);
        let written = write_record(&mut self.file, &event.0);
        written.map_err(|source| Error::Write {
            path: self.path.display().to_string(),
            source,
        })
    }
}

fn now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |time| time.as_secs_f64())
}

/// The machine's name, as far as it can stand in a file's name.
fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .or_else(|| {
            std::env::var("HOSTNAME")
                .or_else(|_| std::env::var("COMPUTERNAME"))
                .ok()
        })
        .unwrap_or_default();
    let plain: String = name
        .trim()
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '-' || *c == '_')
        .take(64)
        .collect();
    if plain.is_empty() {
        "localhost".into()
    } else {
        plain
    }
}

fn write_record(file: &mut impl Write, payload: &[u8]) -> std::io::Result<()> {
    let length = (payload.len() as u64).to_le_bytes();
    file.write_all(&length)?;
    file.write_all(&masked_crc(&length).to_le_bytes())?;
    file.write_all(payload)?;
    file.write_all(&masked_crc(payload).to_le_bytes())
}

/// A message in the encoding of protocol buffers, field by field.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn raw_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn key(&mut self, field: u32, wire: u32) {
        self.raw_varint(u64::from(field << 3 | wire));
    }

    fn varint(&mut self, field: u32, value: u64) {
        self.key(field, 0);
        self.raw_varint(value);
    }

    fn double(&mut self, field: u32, value: f64) {
        self.key(field, 1);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn float(&mut self, field: u32, value: f32) {
        self.key(field, 5);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn bytes(&mut self, field: u32, value: &[u8]) {
        self.key(field, 2);
        self.raw_varint(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    fn text(&mut self, field: u32, value: &str) {
        self.bytes(field, value.as_bytes());
    }

    fn message(&mut self, field: u32, value: &Message) {
        self.bytes(field, &value.0);
    }

    fn doubles(&mut self, field: u32, values: &[f64]) {
        let packed: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        self.bytes(field, &packed);
    }
}

/// CRC-32C (Castagnoli), a bit at a time over a table.
fn crc32c(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0u32; 256];
        let mut byte = 0;
        while byte < 256 {
            let mut crc = byte as u32;
            let mut bit = 0;
            while bit < 8 {
                crc = if crc & 1 == 1 {
                    crc >> 1 ^ 0x82f6_3b78
                } else {
                    crc >> 1
                };
                bit += 1;
            }
            table[byte] = crc;
            byte += 1;
        }
        table
    };
    !bytes.iter().fold(!0, |crc: u32, byte| {
        TABLE[usize::from(crc as u8 ^ byte)] ^ crc >> 8
    })
}

/// As records store it, so that the checksum of a checksum is not a fixed point.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// An event that was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Event {
    /// Seconds since 1970.
    pub time: f64,
    /// The step.
    pub step: u64,
    /// The version, in the first event.
    pub version: Option<String>,
    /// Whether a run begins or goes on here.
    pub start: bool,
    /// What was written.
    pub values: Vec<Value>,
}

/// A value with its tag.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// The tag.
    pub tag: String,
    /// The value.
    pub kind: ValueKind,
}

/// Kinds of values.
#[derive(Clone, Debug, PartialEq)]
pub enum ValueKind {
    /// A number.
    Scalar(f32),
    /// A text.
    Text(String),
    /// Ends of intervals, and how many numbers are in each.
    Histogram(Vec<f64>, Vec<f64>),
    /// Width, height, and an encoded picture.
    Picture(u64, u64, Vec<u8>),
    /// Anything else.
    Other,
}

/// Reads an event file, with every checksum.
///
/// # Errors
/// When it cannot be read, is cut off, or a checksum is wrong.
pub fn read_events(path: &Path) -> Result<Vec<Event>> {
    let bytes = std::fs::read(path).map_err(|source| Error::Read {
        path: path.display().to_string(),
        source,
    })?;
    let mut events = Vec::new();
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let broken = |problem| Error::Events {
            path: path.display().to_string(),
            record: events.len(),
            problem,
        };
        let (payload, after) = record(rest).map_err(broken)?;
        events.push(event(payload).ok_or_else(|| broken("is not an event"))?);
        rest = after;
    }
    Ok(events)
}

fn record(bytes: &[u8]) -> std::result::Result<(&[u8], &[u8]), &'static str> {
    let (length, rest) = bytes.split_first_chunk::<8>().ok_or("is cut off")?;
    let (check, rest) = rest.split_first_chunk::<4>().ok_or("is cut off")?;
    if u32::from_le_bytes(*check) != masked_crc(length) {
        return Err("has a wrong checksum of its length");
    }
    let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| "is cut off")?;
    let (payload, rest) = rest.split_at_checked(length).ok_or("is cut off")?;
    let (check, rest) = rest.split_first_chunk::<4>().ok_or("is cut off")?;
    if u32::from_le_bytes(*check) != masked_crc(payload) {
        return Err("has a wrong checksum");
    }
    Ok((payload, rest))
}

/// The content of a field.
enum Field<'a> {
    Number(u64),
    Double(f64),
    Float(f32),
    Bytes(&'a [u8]),
}

/// Fields of a message with their numbers; none if it is broken.
fn fields(mut bytes: &[u8]) -> Option<Vec<(u64, Field<'_>)>> {
    fn varint(bytes: &mut &[u8]) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = bytes.split_first()?;
            *bytes = rest;
            value |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let field = match key & 7 {
            0 => Field::Number(varint(&mut bytes)?),
            1 => {
                let (value, rest) = bytes.split_first_chunk()?;
                bytes = rest;
                Field::Double(f64::from_le_bytes(*value))
            }
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                let (value, rest) = bytes.split_at_checked(length)?;
                bytes = rest;
                Field::Bytes(value)
            }
            5 => {
                let (value, rest) = bytes.split_first_chunk()?;
                bytes = rest;
                Field::Float(f32::from_le_bytes(*value))
            }
            _ => return None,
        };
        fields.push((key >> 3, field));
    }
    Some(fields)
}

fn event(bytes: &[u8]) -> Option<Event> {
    let mut event = Event::default();
    for field in fields(bytes)? {
        match field {
            (1, Field::Double(time)) => event.time = time,
            (2, Field::Number(step)) => event.step = step,
            (3, Field::Bytes(version)) => event.version = Some(text(version)?),
            (5, Field::Bytes(summary)) => {
                for field in fields(summary)? {
                    if let (1, Field::Bytes(bytes)) = field {
                        event.values.push(value(bytes)?);
                    }
                }
            }
            (7, Field::Bytes(log)) => {
                event.start = fields(log)?
                    .iter()
                    .any(|field| matches!(field, (1, Field::Number(1))));
            }
            _ => {}
        }
    }
    Some(event)
}

fn value(bytes: &[u8]) -> Option<Value> {
    let mut value = Value {
        tag: String::new(),
        kind: ValueKind::Other,
    };
    for field in fields(bytes)? {
        match field {
            (1, Field::Bytes(tag)) => value.tag = text(tag)?,
            (2, Field::Float(number)) => value.kind = ValueKind::Scalar(number),
            (4, Field::Bytes(image)) => {
                let (mut width, mut height, mut picture) = (0, 0, Vec::new());
                for field in fields(image)? {
                    match field {
                        (1, Field::Number(number)) => height = number,
                        (2, Field::Number(number)) => width = number,
                        (4, Field::Bytes(bytes)) => picture = bytes.to_vec(),
                        _ => {}
                    }
                }
                value.kind = ValueKind::Picture(width, height, picture);
            }
            (5, Field::Bytes(histogram)) => {
                let numbers = |bytes: &[u8]| {
                    bytes
                        .as_chunks()
                        .0
                        .iter()
                        .map(|bytes| f64::from_le_bytes(*bytes))
                        .collect()
                };
                let (mut ends, mut counts) = (Vec::new(), Vec::new());
                for field in fields(histogram)? {
                    match field {
                        (6, Field::Bytes(bytes)) => ends = numbers(bytes),
                        (7, Field::Bytes(bytes)) => counts = numbers(bytes),
                        _ => {}
                    }
                }
                value.kind = ValueKind::Histogram(ends, counts);
            }
            (8, Field::Bytes(tensor)) => {
                for field in fields(tensor)? {
                    if let (8, Field::Bytes(bytes)) = field {
                        value.kind = ValueKind::Text(text(bytes)?);
                    }
                }
            }
            _ => {}
        }
    }
    Some(value)
}

fn text(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_castagnolis() {
        // RFC 3720, section B.4, and the usual check value.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(masked_crc(b""), 0xa282_ead8);
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let mut events = EventWriter::create(&folder.path().join("events")).unwrap();
        events.scalar("loss/train", 300, -0.5).unwrap();
        events.text("configuration", 0, "grüße").unwrap();
        events
            .histogram("distances", 2, &[0.0, 3.0, 1.5, f32::NAN])
            .unwrap();
        events.histogram("distances", 3, &[]).unwrap();
        let picture = Picture {
            width: 2,
            height: 1,
            channels: 1,
            pixels: vec![0, 255],
        };
        events.picture("glyph", 4, &picture).unwrap();
        events
            .picture(
                "broken",
                4,
                &Picture {
                    width: 3,
                    ..picture
                },
            )
            .unwrap();
        events.flush().unwrap();
        let name = events
            .path()
            .file_name()
            .unwrap()
            .to_string_lossy()
            .into_owned();
        assert!(name.starts_with("events.out.tfevents."), "{name}");

        let read = read_events(events.path()).unwrap();
        assert_eq!(read[0].version.as_deref(), Some("brain.Event:2"));
        assert!(read[1].time > 1.6e9);
        let values: Vec<(u64, &Value)> = read[1..]
            .iter()
            .map(|event| (event.step, &event.values[0]))
            .collect();
        assert_eq!(values.len(), 4);
        assert_eq!(
            values[0],
            (
                300,
                &Value {
                    tag: "loss/train".into(),
                    kind: ValueKind::Scalar(-0.5)
                }
            )
        );
        assert_eq!(values[1].1.kind, ValueKind::Text("grüße".into()));
        let ValueKind::Histogram(ends, counts) = &values[2].1.kind else {
            panic!("{values:?}")
        };
        assert_eq!(
            (ends.len(), ends[29], counts.iter().sum::<f64>()),
            (30, 3.0, 3.0)
        );
        assert_eq!((counts[0], counts[15], counts[29]), (1.0, 1.0, 1.0));
        let ValueKind::Picture(2, 1, png) = &values[3].1.kind else {
            panic!("{values:?}")
        };
        assert!(png.starts_with(b"\x89PNG"));
    }

    #[test]
    fn a_resumed_run_says_where_it_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let first = EventWriter::create(folder.path()).unwrap();
        let second = EventWriter::resume(folder.path(), 70).unwrap();
        assert_ne!(first.path(), second.path());
        let read = read_events(second.path()).unwrap();
        assert_eq!((read[1].step, read[1].start), (70, true));
    }

    #[test]
    fn broken_files_are_found_out() {
        let folder = tempfile::tempdir().unwrap();
        let mut events = EventWriter::create(folder.path()).unwrap();
        events.scalar("loss", 1, 0.5).unwrap();
        events.flush().unwrap();
        let bytes = std::fs::read(events.path()).unwrap();
        let path = folder.path().join("broken");
        let first = 12 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize + 4;
        for end in (1..bytes.len()).filter(|end| *end != first) {
            std::fs::write(&path, &bytes[..end]).unwrap();
            assert!(read_events(&path).is_err(), "cut off at {end}");
        }
        for place in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[place] ^= 1;
            std::fs::write(&path, &flipped).unwrap();
            assert!(read_events(&path).is_err(), "flipped at {place}");
        }
    }
}
