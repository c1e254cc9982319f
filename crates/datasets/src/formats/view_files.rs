//! Things of which there are several images each.

use std::{path::Path, sync::Arc};

use super::image_files::{ImageFile, ImageFiles};
use crate::{
    Array, Dataset, Error, Sample, Thumbnail, Value,
    error::{Fault, Sink, shown},
    rows::{Rows, RowsBuilder},
};

/// The images of a class folder as things: those that lie in one folder are views of one thing, in the order of their names. `wanted` is
/// how many views there are of each; as many as of the first where nothing is said. Things with fewer or more go to the sink.
pub(crate) fn things(
    files: Vec<ImageFile>,
    rows: &Rows,
    wanted: Option<usize>,
    place: &str,
    sink: &mut dyn Sink,
) -> Result<(Vec<ImageFile>, Rows, usize), Error> {
    let mut views = wanted;
    let (mut kept, mut of_things) = (Vec::with_capacity(files.len()), RowsBuilder::default());
    let mut start = 0;
    let folder = |at: usize| files[at].path.parent().unwrap_or(Path::new(""));
    while start < files.len() {
        let end = (start..files.len())
            .find(|&at| folder(at) != folder(start))
            .unwrap_or(files.len());
        let found = end - start;
        let wanted = *views.get_or_insert(found);
        if found == wanted {
            kept.extend_from_slice(&files[start..end]);
            of_things.push(&rows.classes[rows.labels[start] as usize], rows.part(start));
        } else {
            let fault = Fault::Unknown {
                what: format!(
                    "the folder has {found} views, and {wanted} of each thing are wanted"
                ),
                expected: "add or take away images, or set `views`; each thing has a folder of its own, such as `cup/1/a.png`",
            };
            sink.take(Error::bad(shown(folder(start)), None, fault))?;
        }
        start = end;
    }
    match views {
        Some(views) if of_things.len() > 0 => Ok((kept, of_things.finish(), views)),
        _ => {
            let wanted = "things with as many views as are wanted";
            Err(Error::bad(place, None, Fault::Empty { wanted }))
        }
    }
}

/// Images in files, of which so many that follow one another are views of one thing.
pub(crate) struct ViewFiles {
    images: ImageFiles,
    views: usize,
    labels: Vec<u32>,
    classes: Arc<[String]>,
}

impl ViewFiles {
    /// `rows` are those of the things.
    pub(crate) fn new(images: ImageFiles, views: usize, rows: &Rows) -> Self {
        Self {
            images,
            views,
            labels: rows.labels.clone(),
            classes: rows.classes.clone().into(),
        }
    }

    fn first(&self, index: u32) -> u32 {
        index * self.views as u32
    }
}

impl Dataset for ViewFiles {
    fn labels(&self) -> &[u32] {
        &self.labels
    }

    fn sample(&self, index: u32) -> Result<Sample, Error> {
        let mut array = Array {
            shape: Vec::new(),
            values: Vec::new(),
        };
        for view in self.first(index)..self.first(index + 1) {
            for value in self.images.sample(view)?.inputs {
                if let Value::Image(image) = value {
                    array.shape = vec![self.views, image.channels, image.height, image.width];
                    array.values.extend(image.values);
                }
            }
        }
        Ok(Sample::of(Value::Array(array)))
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn describe(&self, index: u32) -> String {
        let first = self.images.describe(self.first(index));
        format!("the views of {first}")
    }

    fn thumbnail(&self, index: u32) -> Option<Thumbnail> {
        self.images.thumbnail(self.first(index))
    }
}
