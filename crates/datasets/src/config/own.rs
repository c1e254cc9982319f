//! Own data.

use std::{path::Path, sync::Arc};

use nearfar_catalogue::Column;
use nearfar_core::{Fraction, Positive};

use super::{
    Folder, ImagesCsv, MaskSet, PairsFile, Parses, SoundFolder, SoundsCsv, TableFile, TextsFile,
};
use crate::{
    Annotation, Color, Error, FrontEnd, Limits, LineFormat, LogMel, Preparation, Roles, Size,
    data::{Content, Disjoint, Source, Words},
    error::{Fault, Sink, shown},
    formats::{
        conllu::Sentences,
        file_bytes,
        file_list::{self, FileList, ListColumns},
        folder::{self as class_folders, Wanted},
        image_files::{Alike, ImageFile, ImageFiles, first_alike},
        lines::{Lines, Reading},
        masks::{self as masked, MaskedImages},
        said::SaidColumns,
        sounds::{Origin, Sounds},
        table::{Table, TableColumns},
        texts::{RawTexts, TextColumns},
    },
    rows::{Rows, RowsBuilder},
    split::{Division, HoldOut, Wishes, part_of},
};

/// What the settings of a file say of columns beside a label, or in place of one.
pub(super) struct SaidSettings<'a> {
    pub(super) target: Option<&'a Column>,
    pub(super) labels: Option<&'a Column>,
    pub(super) separator: &'a str,
    pub(super) domain: Option<&'a Column>,
}

impl SaidSettings<'_> {
    /// What stands in place of a class, if something does.
    fn instead(&self) -> Option<(&'static str, Annotation)> {
        match (self.target, self.labels) {
            (Some(_), _) => Some(("target", Annotation::Targets)),
            (_, Some(_)) => Some(("labels", Annotation::Sets)),
            (None, None) => None,
        }
    }

    fn columns(&self, lines: &Lines) -> Result<SaidColumns, Error> {
        let found = |column: Option<&Column>| column.map(|it| lines.column(it)).transpose();
        let labels = found(self.labels)?;
        Ok(SaidColumns {
            target: found(self.target)?,
            labels: labels.map(|column| (column, self.separator.to_owned())),
            domain: found(self.domain)?,
        })
    }
}

/// The wishes of data in a file, which are without classes where something else is said of its samples.
pub(super) fn wishes<'a>(
    data: &str,
    wishes: Wishes<'a>,
    said: &SaidSettings<'_>,
    hold_out: HoldOut,
) -> Result<Wishes<'a>, Error> {
    if said.target.is_some() && said.labels.is_some() {
        return Err(Error::Settings(format!(
            "`data.{data}` has `target` and `labels`, but a sample is known by one of them; leave the other out"
        )));
    }
    if said.labels.is_some() && said.separator.is_empty() {
        return Err(Error::Settings(format!(
            "`data.{data}.separator` is empty; write what stands between labels, such as `;`"
        )));
    }
    let Some((column, annotation)) = said.instead() else {
        return Ok(wishes);
    };
    let of_classes = [
        ("domain", said.domain.is_some()),
        ("classes", wishes.classes.is_some()),
        ("test_classes", wishes.test_classes.is_some()),
        ("unseen", !wishes.unseen.is_empty()),
        ("validation_classes", wishes.validation_classes.is_some()),
        ("per_class", wishes.per_class.is_some()),
        ("hold_out = \"classes\"", hold_out == HoldOut::Classes),
    ];
    if let Some((setting, _)) = of_classes.iter().find(|(_, is_there)| *is_there) {
        return Err(Error::Settings(format!(
            "`{setting}` of `data.{data}` is about classes, but with `{column}` the data have {}; leave it out",
            annotation.name()
        )));
    }
    Ok(Wishes {
        by_class: false,
        ..wishes
    })
}

pub(super) fn masks(
    set: &MaskSet,
    limits: &Limits,
    stored: Option<&Preparation>,
    sink: &mut dyn Sink,
) -> Result<Source, Error> {
    let path = given(&set.path, "masks")?;
    let (files, of_masks) = masked::read(path, sink)?;
    let mut rows = RowsBuilder::default();
    files.iter().for_each(|_| rows.push("", "all"));
    let rows = rows.finish();
    let place = shown(path);
    let likeness = Likeness {
        size: set.size,
        color: set.color,
        dark_ink: set.dark_ink,
        stored,
        place: &place,
        limits,
    };
    let alike = likeness.of(&files, sink)?;
    let preparation = Preparation::Images {
        size: alike.size,
        color: alike.color,
        dark_ink: alike.dark_ink,
    };
    let images = ImageFiles::new(files, alike, &rows, limits);
    let size = (alike.size, alike.resize);
    let dataset = Arc::new(MaskedImages::new(images, of_masks, size, limits));
    let content = Content::Ready {
        dataset,
        preparation,
    };
    Ok(of_folder(
        rows,
        content,
        place,
        (set.test, HoldOut::Samples),
    ))
}

/// How images are made alike: as a run stored it, or as the settings and the first image say.
pub(super) struct Likeness<'a> {
    pub(super) size: Option<Size>,
    pub(super) color: Option<Color>,
    pub(super) dark_ink: bool,
    pub(super) stored: Option<&'a Preparation>,
    pub(super) place: &'a str,
    pub(super) limits: &'a Limits,
}

impl Likeness<'_> {
    pub(super) fn of(&self, files: &[ImageFile], sink: &mut dyn Sink) -> Result<Alike, Error> {
        if let Some(Preparation::Images {
            size,
            color,
            dark_ink,
        }) = self.stored
        {
            return Ok(Alike {
                size: *size,
                color: *color,
                dark_ink: *dark_ink,
                resize: true,
            });
        }
        let size = self.size.map(|size| size.check("size")).transpose()?;
        first_alike(
            files,
            size,
            self.color,
            self.dark_ink,
            self.place,
            self.limits,
            sink,
        )
    }
}

pub(super) fn image_files(
    files: Vec<ImageFile>,
    rows: &Rows,
    likeness: &Likeness<'_>,
    sink: &mut dyn Sink,
) -> Result<Content, Error> {
    let alike = likeness.of(&files, sink)?;
    let preparation = Preparation::Images {
        size: alike.size,
        color: alike.color,
        dark_ink: alike.dark_ink,
    };
    Ok(Content::Ready {
        dataset: Arc::new(ImageFiles::new(files, alike, rows, likeness.limits)),
        preparation,
    })
}

/// Whether parts should share no class: where classes are held out.
pub(super) fn disjoint(hold_out: HoldOut) -> Disjoint {
    match hold_out {
        HoldOut::Samples => Disjoint::No,
        HoldOut::Classes => Disjoint::Yes,
    }
}

/// What lies in a folder, as a source that is divided by the names of its folders, or else by what is held out.
pub(super) fn of_folder(
    rows: Rows,
    content: Content,
    place: String,
    (test, hold_out): (Option<Fraction>, HoldOut),
) -> Source {
    Source {
        division: Division::of_own(&rows, test, hold_out),
        rows,
        roles: None,
        content,
        said: None,
        place,
        disjoint: disjoint(hold_out),
    }
}

pub(super) fn given<'a>(path: &'a Path, data: &str) -> Result<&'a Path, Error> {
    if path.as_os_str().is_empty() {
        return Err(Error::Settings(format!(
            "`data.{data}.path` is not set; it says where the data are"
        )));
    }
    Ok(path)
}

pub(super) fn folder(
    set: &Folder,
    limits: &Limits,
    stored: Option<&Preparation>,
    sink: &mut dyn Sink,
) -> Result<Source, Error> {
    let path = given(&set.path, "folder")?;
    let (files, rows) = class_folders::read(path, Wanted::Images, limits, sink)?;
    let files = files.into_iter().map(ImageFile::whole).collect();
    let place = shown(path);
    let likeness = Likeness {
        size: set.size,
        color: set.color,
        dark_ink: set.dark_ink,
        stored,
        place: &place,
        limits,
    };
    let content = image_files(files, &rows, &likeness, sink)?;
    Ok(of_folder(rows, content, place, (set.test, set.hold_out)))
}

pub(super) fn images_csv(
    set: &ImagesCsv,
    said: &SaidSettings<'_>,
    limits: &Limits,
    stored: Option<&Preparation>,
    sink: &mut dyn Sink,
) -> Result<Source, Error> {
    let path = given(&set.path, "images_csv")?;
    let label = Column::Name("label".into());
    let (lines, list) = list(path, set.folder.as_deref(), &label, said, limits, sink)?;
    let likeness = Likeness {
        size: set.size,
        color: set.color,
        dark_ink: set.dark_ink,
        stored,
        place: &lines.path,
        limits,
    };
    let content = image_files(list.files, &list.rows, &likeness, sink)?;
    Ok(Source {
        division: Division::of_own(&list.rows, set.test, set.hold_out),
        rows: list.rows,
        disjoint: disjoint_list(set.hold_out, list.roles.as_deref()),
        roles: list.roles,
        content,
        said: list.said.finish(&lines.path)?,
        place: lines.path,
    })
}

/// Whether the parts of a list should share no class: by custom they do not where rows are queries and galleries.
fn disjoint_list(hold_out: HoldOut, roles: Option<&[Roles]>) -> Disjoint {
    match (hold_out, roles) {
        (HoldOut::Classes, _) => Disjoint::Yes,
        (HoldOut::Samples, Some(_)) => Disjoint::Usually,
        (HoldOut::Samples, None) => Disjoint::No,
    }
}

/// How sounds become frames, and how much of each is used: as a run stored it, or as the settings say.
pub(super) fn sound_content(
    origins: Vec<Origin>,
    rows: &Rows,
    (log_mel, seconds): (&LogMel, Positive),
    limits: &Limits,
    stored: Option<&Preparation>,
) -> Result<Content, Error> {
    let (log_mel, seconds) = match stored {
        Some(Preparation::Sounds { log_mel, seconds }) => (&**log_mel, *seconds),
        _ => (log_mel, longest(seconds)?),
    };
    let front_end = FrontEnd::new(log_mel)?;
    Ok(Content::Ready {
        dataset: Arc::new(Sounds::new(origins, front_end, seconds.get(), rows, limits)),
        preparation: Preparation::Sounds {
            log_mel: Box::new(log_mel.clone()),
            seconds,
        },
    })
}

/// A length of sounds, if it is one that can be worked with.
fn longest(seconds: Positive) -> Result<Positive, Error> {
    const MOST: f64 = 3_600.0;
    if seconds.get() > MOST {
        return Err(Error::Settings(format!(
            "`seconds` of the data is {}; up to {MOST} are possible, and networks are good for tens",
            seconds.get()
        )));
    }
    Ok(seconds)
}

pub(super) fn sounds(
    set: &SoundFolder,
    limits: &Limits,
    stored: Option<&Preparation>,
    sink: &mut dyn Sink,
) -> Result<Source, Error> {
    let path = given(&set.path, "sounds")?;
    let (files, rows) = class_folders::read(path, Wanted::Sounds, limits, sink)?;
    let origins = files.into_iter().map(Origin::File).collect();
    let content = sound_content(origins, &rows, (&set.log_mel, set.seconds), limits, stored)?;
    let place = shown(path);
    Ok(of_folder(rows, content, place, (set.test, set.hold_out)))
}

pub(super) fn sounds_csv(
    set: &SoundsCsv,
    said: &SaidSettings<'_>,
    limits: &Limits,
    stored: Option<&Preparation>,
    sink: &mut dyn Sink,
) -> Result<Source, Error> {
    let path = given(&set.path, "sounds_csv")?;
    let (lines, list) = list(path, set.folder.as_deref(), &set.label, said, limits, sink)?;
    let origins = list
        .files
        .into_iter()
        .map(|it| Origin::File(it.path))
        .collect();
    let content = sound_content(
        origins,
        &list.rows,
        (&set.log_mel, set.seconds),
        limits,
        stored,
    )?;
    Ok(Source {
        division: Division::of_own(&list.rows, set.test, set.hold_out),
        rows: list.rows,
        disjoint: disjoint_list(set.hold_out, list.roles.as_deref()),
        roles: list.roles,
        content,
        said: list.said.finish(&lines.path)?,
        place: lines.path,
    })
}

pub(super) fn table(
    set: &TableFile,
    said: &SaidSettings<'_>,
    limits: &Limits,
    sink: &mut dyn Sink,
) -> Result<Source, Error> {
    let path = given(&set.path, "table")?;
    let lines = lines(path, set.format, set.header, limits, sink)?;
    let said = said.columns(&lines)?;
    // A label that something else stands in place of need not be there; where it is, it is no feature.
    let label = match said.replaces_class() {
        true => lines.column(&set.label).ok(),
        false => Some(lines.column(&set.label)?),
    };
    let split = set.split.as_ref().map(|it| lines.column(it)).transpose()?;
    let skip = all(&lines, &set.skip)?;
    let features = match &set.features {
        Some(features) => all(&lines, features)?,
        None => (0..lines.names.len())
            .filter(|it| {
                Some(*it) != label && Some(*it) != split && !skip.contains(it) && !said.has(*it)
            })
            .collect(),
    };
    if features.is_empty() {
        let wanted = "columns of features beside the label";
        return Err(Error::bad(&lines.path, 1, Fault::Empty { wanted }));
    }
    let columns = TableColumns {
        label: label.filter(|_| !said.replaces_class()),
        said,
        split,
        features,
        missing: set.missing.as_deref(),
    };
    let mut rows = RowsBuilder::default();
    let mut table = Table::new(&lines, &columns);
    table.add(&lines, &columns, "all", &mut rows, sink)?;
    let rows = some(rows.finish(), &lines)?;
    let said = std::mem::take(&mut table.said).finish(&lines.path)?;
    Ok(Source {
        division: Division::of_own(&rows, set.test, set.hold_out),
        rows,
        roles: None,
        said,
        content: Content::Table {
            table,
            missing: set.missing.clone(),
            standardize: set.standardize,
        },
        place: lines.path,
        disjoint: disjoint(set.hold_out),
    })
}

pub(super) fn texts(
    set: &TextsFile,
    said: &SaidSettings<'_>,
    limits: &Limits,
    sink: &mut dyn Sink,
) -> Result<Source, Error> {
    let path = given(&set.path, "texts")?;
    let lines = lines(path, set.format, set.header, limits, sink)?;
    let said = said.columns(&lines)?;
    let columns = TextColumns {
        texts: vec![lines.column(&set.text)?],
        label: match said.replaces_class() {
            true => None,
            false => Some(lines.column(&set.label)?),
        },
        said,
        score: None,
        split: set.split.as_ref().map(|it| lines.column(it)).transpose()?,
    };
    let words = Words {
        parses: set.parses.clone(),
        ..set.words()
    };
    let held_out = (set.test, set.hold_out);
    of_texts(&lines, &columns, held_out, None, words, limits, sink)
}

pub(super) fn pairs(
    set: &PairsFile,
    limits: &Limits,
    sink: &mut dyn Sink,
) -> Result<Source, Error> {
    let path = given(&set.path, "pairs")?;
    if set.score.is_some() == set.label.is_some() {
        return Err(Error::Settings(format!(
            "`data.pairs` has {} of `score` and `label`; name the column of one of them",
            if set.score.is_some() { "both" } else { "none" }
        )));
    }
    if let Some([low, high]) = set.range
        && (low.is_nan() || high.is_nan() || low >= high)
    {
        return Err(Error::Settings(format!(
            "`data.pairs.range` is from {low} to {high}; the first must be less than the second"
        )));
    }
    let lines = lines(path, set.format, set.header, limits, sink)?;
    let score = set.score.as_ref().map(|it| lines.column(it)).transpose()?;
    let columns = TextColumns {
        texts: vec![lines.column(&set.left)?, lines.column(&set.right)?],
        label: set.label.as_ref().map(|it| lines.column(it)).transpose()?,
        said: SaidColumns::default(),
        score: score.map(|column| (column, set.range)),
        split: set.split.as_ref().map(|it| lines.column(it)).transpose()?,
    };
    let words = Words {
        parses: set.parses.clone(),
        ..set.words()
    };
    let held_out = (set.test, HoldOut::Samples);
    of_texts(&lines, &columns, held_out, set.range, words, limits, sink)
}

fn of_texts(
    lines: &Lines,
    columns: &TextColumns,
    (test, hold_out): (Option<Fraction>, HoldOut),
    range: Option<[f64; 2]>,
    words: Words,
    limits: &Limits,
    sink: &mut dyn Sink,
) -> Result<Source, Error> {
    let mut raw = RawTexts::default();
    if let Some(parses) = &words.parses {
        raw.sentences = Some(sentences(parses, limits, sink)?);
    }
    let mut rows = RowsBuilder::default();
    let part = |word: &str| part_of(word).map(str::to_owned);
    raw.add(lines, columns, "all", &part, &mut rows, sink)?;
    let rows = some(rows.finish(), lines)?;
    Ok(Source {
        division: Division::of_own(&rows, test, hold_out),
        rows,
        roles: None,
        said: std::mem::take(&mut raw.said).finish(&lines.path)?,
        content: Content::Texts {
            raw,
            annotation: columns.annotation(),
            range,
            words,
        },
        place: lines.path.clone(),
        disjoint: disjoint(hold_out),
    })
}

/// The sentences that cells name.
fn sentences(parses: &Parses, limits: &Limits, sink: &mut dyn Sink) -> Result<Sentences, Error> {
    if parses.path.as_os_str().is_empty() {
        return Err(Error::Settings(
            "`path` of the `parses` is not set; it says where the file in CoNLL-U is".into(),
        ));
    }
    let bytes = file_bytes(&parses.path, limits)?;
    Sentences::read(&shown(&parses.path), &bytes, &parses.basic, sink)
}

/// The lines of a list of files and what they say; paths are relative to `folder`, or to the list's own.
fn list(
    path: &Path,
    folder: Option<&Path>,
    label: &Column,
    said: &SaidSettings<'_>,
    limits: &Limits,
    sink: &mut dyn Sink,
) -> Result<(Lines, FileList), Error> {
    let lines = lines(path, Some(LineFormat::Csv), true, limits, sink)?;
    let folder = folder.unwrap_or(path.parent().unwrap_or(Path::new("")));
    let columns = ListColumns {
        label,
        said: said.columns(&lines)?,
    };
    let list = file_list::read(&lines, folder, &columns, sink)?;
    Ok((lines, list))
}

pub(super) fn lines(
    path: &Path,
    format: Option<LineFormat>,
    header: bool,
    limits: &Limits,
    sink: &mut dyn Sink,
) -> Result<Lines, Error> {
    let format = format.map_or_else(|| LineFormat::of(path), Ok)?;
    let reading = Reading {
        format,
        header,
        more_columns: false,
    };
    Lines::read(&shown(path), &file_bytes(path, limits)?, reading, sink)
}

fn all(lines: &Lines, columns: &[Column]) -> Result<Vec<usize>, Error> {
    columns.iter().map(|it| lines.column(it)).collect()
}

/// Rows, if there are any.
pub(super) fn some(rows: Rows, lines: &Lines) -> Result<Rows, Error> {
    if rows.len() == 0 {
        let wanted = "rows that can be used";
        return Err(Error::bad(&lines.path, None, Fault::Empty { wanted }));
    }
    Ok(rows)
}
