//! Own and generated data.

use std::{path::Path, sync::Arc};

use nearfar_catalogue::{Column, Selection};
use nearfar_core::Seed;

use super::{Folder, GlyphSet, ImagesCsv, PairsFile, TableFile, TextsFile};
use crate::{
    Color, Dataset, Error, Glyphs, Limits, LineFormat, Preparation, Size,
    data::{Content, Disjoint, Source, Words},
    error::{Fault, Sink, shown},
    formats::{
        file_bytes, folder as class_folders,
        image_files::{Alike, ImageFile, ImageFiles, first_alike},
        image_list,
        lines::{Lines, Reading},
        table::{Table, TableColumns},
        texts::{RawTexts, TextColumns},
    },
    rows::{Rows, RowsBuilder},
    split::{Division, HoldOut, TEST, TRAIN, part_of},
};

pub(super) fn glyphs(set: &GlyphSet) -> Result<Source, Error> {
    let classes = set.classes.checked_add(set.test_classes).ok_or_else(|| {
        Error::Settings("`data.glyphs` asks for more classes than can be counted".into())
    })?;
    let glyphs = Glyphs::new(classes, set.samples, set.size, Seed(set.seed))?;
    let mut rows = RowsBuilder::default();
    for &label in glyphs.labels() {
        let part = if (label as usize) < set.classes {
            TRAIN
        } else {
            TEST
        };
        rows.push(&glyphs.classes()[label as usize], part);
    }
    let part = |name: &str| Selection {
        parts: Some(vec![name.to_owned()]),
        ..Selection::default()
    };
    let preparation = Preparation::Images {
        size: Size::square(set.size),
        color: Color::Gray,
        dark_ink: false,
    };
    Ok(Source {
        rows: rows.finish(),
        division: Division {
            train: part(TRAIN),
            validation: None,
            test: (set.test_classes > 0).then(|| part(TEST)),
        },
        roles: None,
        content: Content::Images {
            dataset: Arc::new(glyphs),
            preparation,
        },
        place: "data.glyphs".into(),
        disjoint: Disjoint::No,
    })
}

/// How images are made alike: as a run stored it, or as the settings and the first image say.
struct Likeness<'a> {
    size: Option<Size>,
    color: Option<Color>,
    dark_ink: bool,
    stored: Option<&'a Preparation>,
    place: &'a str,
    limits: &'a Limits,
}

impl Likeness<'_> {
    fn of(&self, files: &[ImageFile], sink: &mut dyn Sink) -> Result<Alike, Error> {
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

fn image_files(
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
    Ok(Content::Images {
        dataset: Arc::new(ImageFiles::new(files, alike, rows, likeness.limits)),
        preparation,
    })
}

/// Whether parts should share no class: where classes are held out.
fn disjoint(hold_out: HoldOut) -> Disjoint {
    match hold_out {
        HoldOut::Samples => Disjoint::No,
        HoldOut::Classes => Disjoint::Yes,
    }
}

fn given<'a>(path: &'a Path, data: &str) -> Result<&'a Path, Error> {
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
    let (files, rows) = class_folders::read(path, limits, sink)?;
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
    Ok(Source {
        division: Division::of_own(&rows, set.test, set.hold_out),
        rows,
        roles: None,
        content,
        place,
        disjoint: disjoint(set.hold_out),
    })
}

pub(super) fn images_csv(
    set: &ImagesCsv,
    limits: &Limits,
    stored: Option<&Preparation>,
    sink: &mut dyn Sink,
) -> Result<Source, Error> {
    let path = given(&set.path, "images_csv")?;
    let lines = lines(path, Some(LineFormat::Csv), true, limits, sink)?;
    let folder = match &set.folder {
        Some(folder) => folder,
        None => path.parent().unwrap_or(Path::new("")),
    };
    let list = image_list::read(&lines, folder, sink)?;
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
        disjoint: match (set.hold_out, &list.roles) {
            (HoldOut::Classes, _) => Disjoint::Yes,
            (HoldOut::Samples, Some(_)) => Disjoint::Usually,
            (HoldOut::Samples, None) => Disjoint::No,
        },
        roles: list.roles,
        content,
        place: lines.path,
    })
}

pub(super) fn table(
    set: &TableFile,
    limits: &Limits,
    sink: &mut dyn Sink,
) -> Result<Source, Error> {
    let path = given(&set.path, "table")?;
    let lines = lines(path, set.format, set.header, limits, sink)?;
    let label = lines.column(&set.label)?;
    let split = set.split.as_ref().map(|it| lines.column(it)).transpose()?;
    let skip = all(&lines, &set.skip)?;
    let features = match &set.features {
        Some(features) => all(&lines, features)?,
        None => (0..lines.names.len())
            .filter(|it| *it != label && Some(*it) != split && !skip.contains(it))
            .collect(),
    };
    if features.is_empty() {
        let wanted = "columns of features beside the label";
        return Err(Error::bad(&lines.path, 1, Fault::Empty { wanted }));
    }
    let columns = TableColumns {
        label: Some(label),
        split,
        features,
        missing: set.missing.as_deref(),
    };
    let mut rows = RowsBuilder::default();
    let mut table = Table::new(&lines, &columns);
    table.add(&lines, &columns, "all", &mut rows, sink)?;
    let rows = some(rows.finish(), &lines)?;
    Ok(Source {
        division: Division::of_own(&rows, set.test, set.hold_out),
        rows,
        roles: None,
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
    limits: &Limits,
    sink: &mut dyn Sink,
) -> Result<Source, Error> {
    let path = given(&set.path, "texts")?;
    let lines = lines(path, set.format, set.header, limits, sink)?;
    let columns = TextColumns {
        texts: vec![lines.column(&set.text)?],
        label: Some(lines.column(&set.label)?),
        score: None,
        split: set.split.as_ref().map(|it| lines.column(it)).transpose()?,
    };
    let words = Words {
        min_count: set.min_count,
        most: set.most_words,
        length: set.length,
    };
    of_texts(&lines, &columns, set.test, set.hold_out, None, words, sink)
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
        score: score.map(|column| (column, set.range)),
        split: set.split.as_ref().map(|it| lines.column(it)).transpose()?,
    };
    let words = Words {
        min_count: set.min_count,
        most: set.most_words,
        length: set.length,
    };
    of_texts(
        &lines,
        &columns,
        set.test,
        HoldOut::Samples,
        set.range,
        words,
        sink,
    )
}

fn of_texts(
    lines: &Lines,
    columns: &TextColumns,
    test: Option<nearfar_core::Fraction>,
    hold_out: HoldOut,
    range: Option<[f64; 2]>,
    words: Words,
    sink: &mut dyn Sink,
) -> Result<Source, Error> {
    let (mut raw, mut rows) = (RawTexts::default(), RowsBuilder::default());
    let part = |word: &str| part_of(word).map(str::to_owned);
    raw.add(lines, columns, "all", &part, &mut rows, sink)?;
    let rows = some(rows.finish(), lines)?;
    Ok(Source {
        division: Division::of_own(&rows, test, hold_out),
        rows,
        roles: None,
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

fn lines(
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
fn some(rows: Rows, lines: &Lines) -> Result<Rows, Error> {
    if rows.len() == 0 {
        let wanted = "rows that can be used";
        return Err(Error::bad(&lines.path, None, Fault::Empty { wanted }));
    }
    Ok(rows)
}
