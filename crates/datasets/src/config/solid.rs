//! Solids in files: volumes, points and views.

use std::{path::PathBuf, sync::Arc};

use nearfar_core::Fraction;

use super::{
    PointFolder, ViewFolder, VolumeFolder,
    own::{Likeness, given, of_folder},
};
use crate::{
    Error, Limits, Preparation,
    data::{Content, Source},
    error::{Sink, shown},
    formats::{
        arrays::{ArrayFiles, Arrays},
        folder::{self as class_folders, Wanted},
        image_files::{ImageFile, ImageFiles},
        view_files::{self, ViewFiles},
    },
    rows::Rows,
    split::HoldOut,
};

/// A folder of arrays, as a source.
fn of_arrays(
    (files, rows): (Vec<PathBuf>, Rows),
    kind: Arrays,
    held_out: (Option<Fraction>, HoldOut),
    place: String,
    limits: &Limits,
) -> Source {
    let preparation = match kind {
        Arrays::Volumes(shape) => Preparation::Volumes { shape },
        Arrays::Points { features, most } => Preparation::Points { features, most },
    };
    let content = Content::Ready {
        dataset: Arc::new(ArrayFiles::new(files, kind, &rows, limits)),
        preparation,
    };
    of_folder(rows, content, place, held_out)
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
    let content = Content::Ready {
        dataset,
        preparation,
    };
    Ok(of_folder(rows, content, place, (set.test, set.hold_out)))
}
