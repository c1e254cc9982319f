//! Generated data.

use std::sync::Arc;

use nearfar_catalogue::Selection;
use nearfar_core::Seed;

use super::{GlyphSet, SceneSet, SeenAs, SolidSet};
use crate::{
    Color, Dataset, Error, Glyphs, Preparation, Scenes, Size,
    data::{Content, Disjoint, Source},
    formats::{
        masks::TwoInks,
        said::Said,
        solids::{Seen, Solids},
    },
    rows::{Rows, RowsBuilder},
    split::{Division, TEST, TRAIN},
};

pub(super) fn glyphs(set: &GlyphSet) -> Result<Source, Error> {
    let classes = set.classes.checked_add(set.test_classes).ok_or_else(|| {
        Error::Settings("`data.glyphs` asks for more classes than can be counted".into())
    })?;
    let glyphs = Glyphs::new(classes, set.samples, set.size, Seed(set.seed))?;
    let preparation = gray(set.size);
    let names = |row: usize| glyphs.classes()[glyphs.labels()[row] as usize].as_str();
    let rows = rows(glyphs.len(), set.classes * set.samples, names);
    let (mut dataset, mut said): (Arc<dyn Dataset>, _) = (Arc::new(glyphs), None);
    if set.domains {
        let count = dataset.len() as u32;
        let inks = TwoInks {
            base: dataset,
            samples: set.samples as u32,
        };
        said = Some(Said::Domains(
            (0..count).map(|index| inks.domain(index)).collect(),
        ));
        dataset = Arc::new(inks);
    }
    Ok(Source {
        said,
        ..generated(
            "data.glyphs",
            rows,
            set.test_classes > 0,
            dataset,
            preparation,
        )
    })
}

pub(super) fn scenes(set: &SceneSet) -> Result<Source, Error> {
    let count = set.scenes.checked_add(set.test_scenes).ok_or_else(|| {
        Error::Settings("`data.scenes` asks for more scenes than can be counted".into())
    })?;
    if set.scenes == 0 {
        return Err(Error::Settings(
            "`data.scenes.scenes` is 0; it must be 1 or more".into(),
        ));
    }
    let scenes = Scenes::new(count, set.shapes, set.size, Seed(set.seed))?;
    let rows = rows(count, set.scenes, |_| "");
    let (scenes, preparation) = (Arc::new(scenes), gray(set.size));
    Ok(generated(
        "data.scenes",
        rows,
        set.test_scenes > 0,
        scenes,
        preparation,
    ))
}

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
    let names = |row: usize| solids.classes()[solids.labels()[row] as usize].as_str();
    let rows = rows(solids.len(), set.classes * set.samples, names);
    let solids = Arc::new(solids);
    Ok(generated(
        "data.solids",
        rows,
        set.test_classes > 0,
        solids,
        preparation,
    ))
}

/// Rows with the names of their classes, of which the first are the training part and the others the test.
fn rows<'a>(count: usize, training: usize, name: impl Fn(usize) -> &'a str) -> Rows {
    let mut rows = RowsBuilder::default();
    for row in 0..count {
        rows.push(name(row), if row < training { TRAIN } else { TEST });
    }
    rows.finish()
}

/// Gray images of this side.
fn gray(side: usize) -> Preparation {
    Preparation::Images {
        size: Size::square(side),
        color: Color::Gray,
        dark_ink: false,
    }
}

/// Generated samples as a source, with a test part if some are in it.
fn generated(
    place: &str,
    rows: Rows,
    tested: bool,
    dataset: Arc<dyn Dataset>,
    preparation: Preparation,
) -> Source {
    let part = |name: &str| Selection {
        parts: Some(vec![name.to_owned()]),
        ..Selection::default()
    };
    Source {
        rows,
        division: Division {
            train: part(TRAIN),
            validation: None,
            test: tested.then(|| part(TEST)),
        },
        roles: None,
        content: Content::Ready {
            dataset,
            preparation,
        },
        said: None,
        place: place.to_owned(),
        disjoint: Disjoint::No,
    }
}
