//! Data sets of the catalogue, by their layout.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use nearfar_catalogue::{
    ArchivePart, Catalogue, DataSet, Delimiter, IdxPart, LabelColumn, LabeledJson, LabeledPart,
    LabeledTexts, Layout, Selection, Split, Status, TextPairs, archive, digits, status,
};
use nearfar_core::Positive;

use super::{ImageSet, PairSet, SoundSet, TableSet, TextSet, own::sound_content};
use crate::{
    Annotation, Color, Error, Limits, LineFormat, LogMel, Preparation, Size,
    data::{Content, Disjoint, Source, Words},
    error::{Fault, IdxFault, Sink, shown},
    formats::{
        archive_images::ArchiveImages,
        archive_limits, file_bytes, idx,
        images::{Images, Names, fits},
        lines::{Lines, Reading},
        said::SaidColumns,
        sounds,
        table::{Table, TableColumns},
        texts::{RawText, RawTexts, TextColumns},
    },
    names,
    pixels::{Filter, Pixels},
    rows::{Rows, RowsBuilder},
    split::Division,
};

/// What is asked of a data set of the catalogue.
pub(super) struct Asked<'a> {
    split: Option<&'a str>,
    table: Option<&'a str>,
    size: Option<Size>,
    standardize: bool,
    words: Words,
    class: Option<&'a [String]>,
    log_mel: Option<&'a LogMel>,
    seconds: Positive,
}

impl Default for Asked<'_> {
    fn default() -> Self {
        Self {
            split: None,
            table: None,
            size: None,
            standardize: true,
            words: TextSet::default().words(),
            class: None,
            log_mel: None,
            seconds: super::sets::SECONDS,
        }
    }
}

impl<'a> From<&'a ImageSet> for Asked<'a> {
    fn from(set: &'a ImageSet) -> Self {
        Self {
            split: set.split.as_deref(),
            size: set.size,
            ..Self::default()
        }
    }
}

impl<'a> From<&'a TableSet> for Asked<'a> {
    fn from(set: &'a TableSet) -> Self {
        Self {
            split: set.split.as_deref(),
            table: set.name.as_deref(),
            standardize: set.standardize,
            ..Self::default()
        }
    }
}

impl<'a> From<&'a SoundSet> for Asked<'a> {
    fn from(set: &'a SoundSet) -> Self {
        Self {
            split: set.split.as_deref(),
            class: set.class.as_deref(),
            log_mel: set.log_mel.as_ref(),
            seconds: set.seconds,
            ..Self::default()
        }
    }
}

impl<'a> From<&'a TextSet> for Asked<'a> {
    fn from(set: &'a TextSet) -> Self {
        Self {
            split: set.split.as_deref(),
            words: set.words(),
            ..Self::default()
        }
    }
}

impl<'a> From<&'a PairSet> for Asked<'a> {
    fn from(set: &'a PairSet) -> Self {
        Self {
            split: set.split.as_deref(),
            words: set.words(),
            ..Self::default()
        }
    }
}

/// Reads a data set of the catalogue.
pub(super) fn read(
    name: &str,
    asked: &Asked<'_>,
    root: &Path,
    limits: &Limits,
    stored: Option<&Preparation>,
    sink: &mut dyn Sink,
) -> Result<Source, Error> {
    let catalogue = Catalogue::builtin();
    let set = catalogue.get(name)?;
    let folder = root.join(&set.name);
    match status(root, set) {
        Status::Present => {}
        Status::Missing { files } => {
            return Err(Error::NotFetched {
                set: set.name.clone(),
                folder: shown(&folder),
                files,
            });
        }
        Status::Damaged { faults } => {
            return Err(Error::Damaged {
                set: set.name.clone(),
                faults,
            });
        }
    }
    let split = split_of(set, asked.split)?;
    let size = match (stored, asked.size) {
        (Some(Preparation::Images { size, .. }), _) => Some(*size),
        (_, Some(size)) => Some(size.check(&format!("data.{name}.size"))?),
        (_, None) => None,
    };
    let (rows, content) = match &set.layout {
        Layout::Digits {} => read_digits(size),
        Layout::Idx { parts } => read_idx(&folder, parts, &set.name, size, limits)?,
        Layout::Images {
            parts,
            class,
            dark_ink,
        } => {
            let reader = ArchiveImages {
                parts: parts
                    .iter()
                    .map(|part| (folder.join(&part.file), part))
                    .collect(),
                class,
                dark_ink: *dark_ink,
                fields: fields_of(split),
                size,
                color: Color::Gray,
            };
            let (images, rows) = reader.read(limits, sink)?;
            let content = images_content(images, *dark_ink);
            (rows, content)
        }
        Layout::Wav { parts, class, rate } => {
            let class = asked.class.unwrap_or(class);
            known_fields(name, parts, class)?;
            let archives: Vec<_> = parts
                .iter()
                .map(|part| (folder.join(&part.file), part))
                .collect();
            let (origins, rows) = sounds::in_archives(&archives, class, &fields_of(split), limits)?;
            let speech = LogMel::speech(*rate);
            let log_mel = asked.log_mel.unwrap_or(&speech);
            let content = sound_content(origins, &rows, (log_mel, asked.seconds), limits, stored)?;
            (rows, content)
        }
        Layout::Tables { tables } => read_table(&folder, set, tables, asked, limits, sink)?,
        Layout::TextPairs(pairs) => read_pairs(&folder, pairs, &asked.words, limits, sink)?,
        Layout::LabeledTexts(texts) => read_texts(&folder, texts, &asked.words, limits, sink)?,
        Layout::LabeledJson(json) => read_json(&folder, json, &asked.words, limits)?,
        other => {
            return Err(Error::Settings(format!(
                "`data.{name}` has the layout `{}`, which is not read yet",
                other.name()
            )));
        }
    };
    Ok(Source {
        rows,
        division: Division::from(split),
        roles: None,
        content,
        said: None,
        place: shown(&folder),
        disjoint: Disjoint::No,
    })
}

/// Samples a second of a set of recordings; none of another set.
pub(super) fn rate(name: &str) -> Option<u32> {
    match Catalogue::builtin().get(name).ok()?.layout {
        Layout::Wav { rate, .. } => Some(rate),
        _ => None,
    }
}

/// The split of this name; the standard one without a name.
fn split_of<'a>(set: &'a DataSet, name: Option<&str>) -> Result<&'a Split, Error> {
    let Some(name) = name else {
        return set.splits.first().ok_or_else(|| {
            Error::Settings(format!("the catalogue has no split of `{}`", set.name))
        });
    };
    set.split(name)
        .ok_or_else(|| unknown("split", name, set.splits.iter().map(|it| it.name.as_str())))
}

fn unknown<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str> + Clone) -> Error {
    let hint = match names::nearest(name, known.clone()) {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => format!("there are `{}`", known.collect::<Vec<_>>().join("`, `")),
    };
    Error::Settings(format!("there is no {what} `{name}`; {hint}"))
}

/// The fields that a split asks for.
fn fields_of(split: &Split) -> Vec<&str> {
    let selections = [
        Some(&split.train),
        split.validation.as_ref(),
        Some(&split.test),
    ];
    selections
        .into_iter()
        .flatten()
        .flat_map(|selection: &Selection| selection.fields.keys())
        .map(String::as_str)
        .collect()
}

/// Whether the names of members say all that makes a class.
fn known_fields(name: &str, parts: &[ArchivePart], class: &[String]) -> Result<(), Error> {
    for part in parts {
        let known: Vec<&str> = part.members.field_names().collect();
        if let Some(field) = class.iter().find(|it| !known.contains(&it.as_str())) {
            return Err(Error::Settings(format!(
                "`data.{name}.class` has `{field}`, but names say `{}`",
                known.join("`, `")
            )));
        }
    }
    if class.is_empty() {
        return Err(Error::Settings(format!(
            "`data.{name}.class` is empty; name what makes a class"
        )));
    }
    Ok(())
}

fn images_content(images: Images, dark_ink: bool) -> Content {
    let [channels, height, width] = images.shape();
    let preparation = Preparation::Images {
        size: Size { height, width },
        color: if channels == 1 {
            Color::Gray
        } else {
            Color::Rgb
        },
        dark_ink,
    };
    Content::Ready {
        dataset: Arc::new(images),
        preparation,
    }
}

fn read_digits(size: Option<Size>) -> (Rows, Content) {
    use nearfar_catalogue::Digits;
    let digits = digits();
    let mut rows = RowsBuilder::default();
    for label in &digits.labels {
        rows.push(&label.to_string(), "all");
    }
    let own = Size::square(Digits::SIDE);
    let size = size.unwrap_or(own);
    // As files would have them, so that resizing rounds little.
    let stretch = |byte: &u8| (u32::from(*byte) * 255 / u32::from(Digits::INK)) as u8;
    let (bytes, full) = if size == own {
        (digits.pixels, Digits::INK)
    } else {
        let stretched: Vec<u8> = digits.pixels.iter().map(stretch).collect();
        (resized(&stretched, own, size), 255)
    };
    let rows = rows.finish();
    let names = Names::Counted(vec![(0, "digits, image".into())]);
    let images = Images::new(
        [1, size.height, size.width],
        bytes,
        full,
        false,
        &rows,
        names,
    );
    (rows, images_content(images, false))
}

/// Gray images of one size, one after another, to another size.
fn resized(bytes: &[u8], old: Size, new: Size) -> Vec<u8> {
    if old == new {
        return bytes.to_vec();
    }
    bytes
        .chunks_exact((old.height * old.width).max(1))
        .flat_map(|image| {
            let pixels = Pixels {
                channels: 1,
                height: old.height,
                width: old.width,
                bytes: image.to_vec(),
            };
            pixels.resized(new, Filter::Linear).bytes
        })
        .collect()
}

fn read_idx(
    folder: &Path,
    parts: &[IdxPart],
    set: &str,
    size: Option<Size>,
    limits: &Limits,
) -> Result<(Rows, Content), Error> {
    let mut rows = RowsBuilder::default();
    let (mut bytes, mut shape, mut names) = (Vec::new(), None, Vec::new());
    for part in parts {
        let (images_path, labels_path) = (folder.join(&part.images), folder.join(&part.labels));
        let label = shown(&images_path);
        let images = file_bytes(&images_path, limits)?;
        let ([count, height, width], pixels) = idx::read::<3>(&images, &label)?;
        let labels = file_bytes(&labels_path, limits)?;
        let ([label_count], labels) = idx::read::<1>(&labels, &shown(&labels_path))?;
        if label_count != count {
            let fault = Fault::Idx(IdxFault::Labels {
                labels: label_count as u64,
                images: count as u64,
            });
            return Err(Error::bad(shown(&labels_path), None, fault));
        }
        let own = Size { height, width };
        let new = size.unwrap_or(own);
        let expected = *shape.get_or_insert(own);
        if own != expected || own.height == 0 || own.width == 0 {
            let fault = Fault::ImageSize {
                found: [width, height],
                expected: [expected.width, expected.height],
            };
            return Err(Error::bad(label, None, fault));
        }
        names.push((rows.len() as u32, format!("{set}, {} image", part.part)));
        fits(
            rows.len() + count,
            [1, new.height, new.width],
            &label,
            limits,
        )?;
        if own == new {
            bytes.extend_from_slice(pixels);
        } else {
            bytes.append(&mut resized(pixels, own, new));
        }
        for label in labels {
            rows.push(&label.to_string(), &part.part);
        }
    }
    let rows = rows.finish();
    let Some(new) = size.or(shape) else {
        return Err(Error::bad(
            shown(folder),
            None,
            Fault::Empty { wanted: "images" },
        ));
    };
    let images = Images::new(
        [1, new.height, new.width],
        bytes,
        255,
        false,
        &rows,
        Names::Counted(names),
    );
    Ok((rows, images_content(images, false)))
}

fn read_table(
    folder: &Path,
    set: &DataSet,
    tables: &[nearfar_catalogue::Table],
    asked: &Asked<'_>,
    limits: &Limits,
    sink: &mut dyn Sink,
) -> Result<(Rows, Content), Error> {
    let known = tables.iter().map(|it| it.name.as_str());
    let wanted = match (asked.table, tables) {
        (Some(name), _) => tables
            .iter()
            .find(|it| it.name == name)
            .ok_or_else(|| unknown("table", name, known))?,
        (None, [only]) => only,
        (None, _) => {
            return Err(Error::Settings(format!(
                "`data.{}` has several tables; set `name` to one of `{}`",
                set.name,
                known.collect::<Vec<_>>().join("`, `")
            )));
        }
    };
    let reading = Reading {
        format: match wanted.delimiter {
            Delimiter::Comma => LineFormat::Csv,
            Delimiter::Tab => LineFormat::Tsv,
            Delimiter::Spaces => LineFormat::Spaces,
        },
        header: false,
        more_columns: false,
    };
    let mut rows = RowsBuilder::default();
    let mut table: Option<Table> = None;
    for part in &wanted.parts {
        let (label, bytes) = text_bytes(folder, &part.file, part.member.as_deref(), limits)?;
        let lines = Lines::read(&label, &bytes, reading, sink)?;
        let count = lines.names.len();
        let label = match wanted.label {
            LabelColumn::First => 0,
            LabelColumn::Last => count.saturating_sub(1),
        };
        let columns = TableColumns {
            label: Some(label),
            said: SaidColumns::default(),
            split: None,
            features: (0..count)
                .filter(|it| *it != label && !wanted.skip.contains(it))
                .collect(),
            missing: wanted.missing.as_deref(),
        };
        let table = table.get_or_insert_with(|| Table::new(&lines, &columns));
        if columns.features.len() != table.names.len() {
            let fault = Fault::Columns {
                found: count,
                expected: table.names.len() + 1,
            };
            return Err(Error::bad(lines.path, 1, fault));
        }
        table.add(&lines, &columns, &part.part, &mut rows, sink)?;
    }
    let table = table
        .filter(|_| rows.len() > 0)
        .ok_or_else(|| Error::bad(shown(folder), None, Fault::Empty { wanted: "rows" }))?;
    let content = Content::Table {
        table,
        missing: wanted.missing.clone(),
        standardize: asked.standardize,
    };
    Ok((rows.finish(), content))
}

/// The bytes of a file, or of a member of an archive, and what they are called.
fn text_bytes(
    folder: &Path,
    file: &str,
    member: Option<&str>,
    limits: &Limits,
) -> Result<(String, Vec<u8>), Error> {
    let path = folder.join(file);
    match member {
        None => Ok((shown(&path), file_bytes(&path, limits)?)),
        Some(member) => {
            let bytes = archive::member(&path, &archive_limits(limits), member)?;
            Ok((format!("{}: {member}", shown(&path)), bytes))
        }
    }
}

fn read_pairs(
    folder: &Path,
    pairs: &TextPairs,
    words: &Words,
    limits: &Limits,
    sink: &mut dyn Sink,
) -> Result<(Rows, Content), Error> {
    let reading = Reading {
        format: LineFormat::Tsv,
        header: pairs.header,
        more_columns: true,
    };
    let (mut raw, mut rows) = (RawTexts::default(), RowsBuilder::default());
    for part in &pairs.parts {
        let (label, bytes) = text_bytes(folder, &part.file, part.member.as_deref(), limits)?;
        let lines = Lines::read(&label, &bytes, reading, sink)?;
        let columns = TextColumns {
            texts: vec![lines.column(&pairs.first)?, lines.column(&pairs.second)?],
            label: pairs
                .label
                .as_ref()
                .map(|it| lines.column(it))
                .transpose()?,
            said: SaidColumns::default(),
            score: Some((lines.column(&pairs.score)?, Some(pairs.range))),
            split: match &pairs.part_column {
                Some(it) => Some(lines.column(&it.column)?),
                None => None,
            },
        };
        let part_of = |word: &str| {
            let values = pairs.part_column.as_ref().map(|it| &it.values);
            values.and_then(|it| it.get(word)).cloned()
        };
        raw.add(&lines, &columns, &part.part, &part_of, &mut rows, sink)?;
    }
    let content = Content::Texts {
        raw,
        annotation: Annotation::ScoredPairs,
        range: Some(pairs.range),
        words: words.clone(),
    };
    Ok((rows.finish(), content))
}

fn labeled_lines(
    folder: &Path,
    part: &LabeledPart,
    limits: &Limits,
    sink: &mut dyn Sink,
) -> Result<Lines, Error> {
    let reading = Reading {
        format: LineFormat::Tsv,
        header: true,
        more_columns: true,
    };
    let (label, bytes) = text_bytes(folder, &part.file, Some(&part.member), limits)?;
    Lines::read(&label, &bytes, reading, sink)
}

fn read_texts(
    folder: &Path,
    texts: &LabeledTexts,
    words: &Words,
    limits: &Limits,
    sink: &mut dyn Sink,
) -> Result<(Rows, Content), Error> {
    let mut readable = BTreeMap::new();
    if let Some(part) = &texts.names {
        let lines = labeled_lines(folder, part, limits, sink)?;
        let (text, label) = (lines.column(&part.text)?, lines.column(&part.label)?);
        for line in &lines.rows {
            readable.insert(line.cells[label].to_owned(), line.cells[text].to_owned());
        }
    }
    let (mut raw, mut builder) = (RawTexts::default(), RowsBuilder::default());
    for part in &texts.parts {
        let lines = labeled_lines(folder, part, limits, sink)?;
        let columns = TextColumns {
            texts: vec![lines.column(&part.text)?],
            label: Some(lines.column(&part.label)?),
            said: SaidColumns::default(),
            score: None,
            split: None,
        };
        raw.add(&lines, &columns, &part.part, &|_| None, &mut builder, sink)?;
    }
    let mut rows = builder.finish();
    // Behind the code, so that the order stays that of the codes.
    for class in &mut rows.classes {
        if let Some(name) = readable.get(class) {
            *class = format!("{class} {name}");
        }
    }
    let content = Content::Texts {
        raw,
        annotation: Annotation::Classes,
        range: None,
        words: words.clone(),
    };
    Ok((rows, content))
}

fn read_json(
    folder: &Path,
    json: &LabeledJson,
    words: &Words,
    limits: &Limits,
) -> Result<(Rows, Content), Error> {
    fn parsed<T: serde::de::DeserializeOwned>(path: &str, bytes: &[u8]) -> Result<T, Error> {
        serde_json::from_slice(bytes).map_err(|error| {
            let message = error.to_string();
            Error::bad(path, Some(error.line() as u64), Fault::Json { message })
        })
    }
    let (path, bytes) = text_bytes(folder, &json.file, Some(&json.member), limits)?;
    let lists: BTreeMap<String, Vec<(String, String)>> = parsed(&path, &bytes)?;
    let mut group_of = BTreeMap::new();
    if let Some(groups) = &json.groups {
        let (path, bytes) = text_bytes(folder, &json.file, Some(&groups.member), limits)?;
        let of_group: BTreeMap<String, Vec<String>> = parsed(&path, &bytes)?;
        for (group, labels) in of_group {
            for label in labels {
                group_of.insert(label, group.clone());
            }
        }
    }
    let (mut raw, mut rows) = (RawTexts::default(), RowsBuilder::default());
    for (part, key) in &json.parts {
        let list = lists.get(key).ok_or_else(|| {
            let fault = Fault::NoColumn {
                column: key.clone(),
                known: lists.keys().cloned().collect(),
            };
            Error::bad(&path, None, fault)
        })?;
        let place: Arc<str> = format!("{path}, {key}").into();
        for (number, (text, label)) in (1..).zip(list) {
            rows.push(label, part);
            if let Some(groups) = &json.groups {
                let group = group_of.get(label).cloned().unwrap_or_default();
                rows.fields(BTreeMap::from([(groups.field.clone(), group)]));
            }
            raw.texts.push(vec![RawText::Plain(text.clone())]);
            raw.places.push((Arc::clone(&place), number));
        }
    }
    let content = Content::Texts {
        raw,
        annotation: Annotation::Classes,
        range: None,
        words: words.clone(),
    };
    Ok((rows.finish(), content))
}
