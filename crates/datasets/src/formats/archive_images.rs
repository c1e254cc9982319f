//! Images in archives, where names say the classes.

use std::path::PathBuf;

use nearfar_catalogue::{ArchivePart, archive};
use rayon::prelude::*;

use super::{
    archive_limits,
    images::{Images, Names, fits},
};
use crate::{
    Error, Limits, Size,
    error::{Fault, Sink, shown},
    pixels::{Color, Filter, Pixels, decode},
    rows::{Rows, RowsBuilder},
};

/// Archives of images, and which of their members are samples.
pub(crate) struct ArchiveImages<'a> {
    /// Each archive and its members.
    pub(crate) parts: Vec<(PathBuf, &'a ArchivePart)>,
    /// Fields that name the class; several are joined by `/`.
    pub(crate) class: &'a [String],
    /// Whether ink is dark on light paper.
    pub(crate) dark_ink: bool,
    /// Fields that splits ask for.
    pub(crate) fields: Vec<&'a str>,
    /// The size of all images; none to keep theirs.
    pub(crate) size: Option<Size>,
    pub(crate) color: Color,
}

impl ArchiveImages<'_> {
    /// Reads the members in the order of their names and decodes them on all cores.
    pub(crate) fn read(
        &self,
        limits: &Limits,
        sink: &mut dyn Sink,
    ) -> Result<(Images, Rows), Error> {
        let mut members = Vec::new();
        for (path, part) in &self.parts {
            let mut of_part = Vec::new();
            archive::read(
                path,
                &archive_limits(limits),
                |name| part.members.matches(name),
                |name, bytes| {
                    of_part.push((name.to_owned(), bytes));
                    Ok::<(), archive::Error>(())
                },
            )?;
            of_part.sort(); // Whatever order they were packed in.
            members.extend(
                of_part
                    .into_iter()
                    .map(|(name, bytes)| (*part, shown(path), name, bytes)),
            );
        }
        let decoded: Vec<(String, Result<Pixels, Error>)> = members
            .par_iter()
            .map(|(_, path, name, bytes)| {
                let label = format!("{path}: {name}");
                let pixels = decode(bytes, &label, Some(self.color), limits);
                let pixels = pixels.map(|pixels| match self.size {
                    Some(size) => pixels.resized(size, Filter::Box),
                    None => pixels,
                });
                (label, pixels)
            })
            .collect();

        let mut shape = None;
        let mut bytes = Vec::new();
        let mut rows = RowsBuilder::default();
        let mut names = Vec::with_capacity(decoded.len());
        for ((part, _, name, _), (label, pixels)) in members.iter().zip(decoded) {
            let pixels = match pixels {
                Ok(pixels) => pixels,
                Err(error) => {
                    sink.take(error)?;
                    continue;
                }
            };
            let found = [pixels.channels, pixels.height, pixels.width];
            let expected = *shape.get_or_insert(found);
            if found != expected {
                sink.take(Error::bad(
                    label,
                    None,
                    Fault::ImageSize {
                        found: [found[2], found[1]],
                        expected: [expected[2], expected[1]],
                    },
                ))?;
                continue;
            }
            let mut fields = part
                .members
                .fields(name)
                .expect("only names that match were read");
            let class: Vec<&str> = self
                .class
                .iter()
                .map(|field| fields.get(field).map_or("", String::as_str))
                .collect();
            rows.push(&class.join("/"), &part.part);
            if !self.fields.is_empty() {
                fields.retain(|field, _| self.fields.contains(&field.as_str()));
                rows.fields(fields);
            }
            if bytes.capacity() == 0 {
                fits(members.len(), expected, &label, limits)?;
                bytes.reserve_exact(members.len() * pixels.bytes.len());
            }
            bytes.extend_from_slice(&pixels.bytes);
            names.push(name.clone());
        }
        let Some(shape) = shape else {
            let path = self
                .parts
                .first()
                .map_or(String::new(), |(path, _)| shown(path));
            return Err(Error::bad(path, None, Fault::Empty { wanted: "images" }));
        };
        let rows = rows.finish();
        let images = Images::new(shape, bytes, 255, self.dark_ink, &rows, Names::Each(names));
        Ok((images, rows))
    }
}
