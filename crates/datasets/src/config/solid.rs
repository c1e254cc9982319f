//! Data of solids: volumes, points and views, generated and in files.

use std::{path::PathBuf, sync::Arc};

use nearfar_catalogue::Selection;
use nearfar_core::Seed;

use super::{
    PointFolder, SeenAs, SolidSet, ViewFolder, VolumeFolder,
    own::{Likeness, disjoint, given},
};
use crate::{
    Color, Dataset, Error, Limits, Preparation, Size,
    data::{Content, Disjoint, Source},
    error::{Sink, shown},
    formats::{
        arrays::{ArrayFiles, Arrays},
        folder::{self as class_folders, Wanted},
        image_files::{ImageFile, ImageFiles},
        solids::{Seen, Solids},
        view_files::{self, ViewFiles},
    },
    rows::{Rows, RowsBuilder},
    split::{Division, HoldOut, TEST, TRAIN},
};

pub(super) fn solids(set: &SolidSet) -> Result<Source, Error> {
    let classes = set.classes.checked_add(set.test_classes).ok_or_else(|| {
        Error::Settings("`data.solids` asks for more classes than can be counted".into())
    })?;
    let (size, views, most) = (set.size, set.views, set.points);
    let (seen, preparation) = match set.seen {
        SeenAs::Volumes => {
            let shape = [1, size, size, size];
            (Seen::Volumes { size }, Preparation::Volumes { shape })
        }
        SeenAs::Views => (
            Seen::Views { views, size },
            Preparation::Views {
                views,
                size: Size::square(size),
                color: Color::Gray,
                dark_ink: false,
            },
        ),
        SeenAs::Points => (
            Seen::Points { most },
            Preparation::Points { features: 3, most },
        ),
    };
    let solids = Solids::new(classes, set.samples, seen, Seed(set.seed))?;
    let mut rows = RowsBuilder::default();
    for &label in solids.labels() {
        let part = match (label as usize) < set.classes {
            true => TRAIN,
            false => TEST,
        };
        rows.push(&solids.classes()[label as usize], part);
    }
    let part = |name: &str| Selection {
        parts: Some(vec![name.to_owned()]),
        ..Selection::default()
    };
    Ok(Source {
        rows: rows.finish(),
        division: Division {
            train: part(TRAIN),
            validation: None,
            test: (set.test_classes > 0).then(|| part(TEST)),
        },
        roles: None,
        content: Content::Ready {
            dataset: Arc::new(solids),
            preparation,
        },
        said: None,
        place: "data.solids".into(),
        disjoint: Disjoint::No,
    })
}

/// A folder of arrays, as a source.
fn of_arrays(
    (files, rows): (Vec<PathBuf>, Rows),
    kind: Arrays,
    (test, hold_out): (Option<nearfar_core::Fraction>, HoldOut),
    place: String,
    limits: &Limits,
) -> Source {
    let preparation = match kind {
        Arrays::Volumes(shape) => Preparation::Volumes { shape },
        Arrays::Points { features, most } => Preparation::Points { features, most },
    };
    let dataset = Arc::new(ArrayFiles::new(files, kind, &rows, limits));
    Source {
        division: Division::of_own(&rows, test, hold_out),
        rows,
        roles: None,
        content: Content::Ready {
            dataset,
            preparation,
        },
        said: None,
        place,
        disjoint: disjoint(hold_out),
    }
}

pub(super) fn volumes(
    set: &VolumeFolder,
    limits: &Limits,
    stored: Option<&Preparation>,
    sink: &mut dyn Sink,
) -> Result<Source, Error> {
    let path = given(&set.path, "volumes")?;
    let found = class_folders::read(path, Wanted::Arrays, limits, sink)?;
    let place = shown(path);
    let kind = match stored {
        Some(&Preparation::Volumes { shape }) => Arrays::Volumes(shape),
        _ => Arrays::volumes(&found.0, &place, limits, sink)?,
    };
    Ok(of_arrays(
        found,
        kind,
        (set.test, set.hold_out),
        place,
        limits,
    ))
}

pub(super) fn points(
    set: &PointFolder,
    limits: &Limits,
    stored: Option<&Preparation>,
    sink: &mut dyn Sink,
) -> Result<Source, Error> {
    let path = given(&set.path, "points")?;
    if set.most == 0 {
        return Err(Error::Settings(
            "`data.points.most` is 0; a set has one point or more".into(),
        ));
    }
    let found = class_folders::read(path, Wanted::Arrays, limits, sink)?;
    let place = shown(path);
    let kind = match stored {
        Some(&Preparation::Points { features, most }) => Arrays::Points { features, most },
        _ => Arrays::points(&found.0, set.most, &place, limits, sink)?,
    };
    Ok(of_arrays(
        found,
        kind,
        (set.test, set.hold_out),
        place,
        limits,
    ))
}

pub(super) fn views(
    set: &ViewFolder,
    limits: &Limits,
    stored: Option<&Preparation>,
    sink: &mut dyn Sink,
) -> Result<Source, Error> {
    let path = given(&set.path, "multi_view")?;
    if set.views == Some(0) {
        return Err(Error::Settings(
            "`data.multi_view.views` is 0; a thing has one view or more".into(),
        ));
    }
    let (files, rows) = class_folders::read(path, Wanted::Images, limits, sink)?;
    let files = files.into_iter().map(ImageFile::whole).collect();
    let place = shown(path);
    let (views, as_images) = match stored {
        Some(&Preparation::Views {
            views,
            size,
            color,
            dark_ink,
        }) => {
            let alike = Preparation::Images {
                size,
                color,
                dark_ink,
            };
            (Some(views), Some(alike))
        }
        _ => (set.views, None),
    };
    let (files, rows, views) = view_files::things(files, &rows, views, &place, sink)?;
    let likeness = Likeness {
        size: set.size,
        color: set.color,
        dark_ink: set.dark_ink,
        stored: as_images.as_ref(),
        place: &place,
        limits,
    };
    let alike = likeness.of(&files, sink)?;
    let preparation = Preparation::Views {
        views,
        size: alike.size,
        color: alike.color,
        dark_ink: alike.dark_ink,
    };
    // Labels are those of things.
    let images = ImageFiles::new(files, alike, &Rows::default(), limits);
    let dataset = Arc::new(ViewFiles::new(images, views, &rows));
    Ok(Source {
        division: Division::of_own(&rows, set.test, set.hold_out),
        rows,
        roles: None,
        content: Content::Ready {
            dataset,
            preparation,
        },
        said: None,
        place,
        disjoint: disjoint(set.hold_out),
    })
}
