//! Two kinds of things in the rows of one file.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Branch, TwoKindsFile,
    own::{Likeness, given, image_files, lines, some, sound_content},
};
use crate::{
    Annotation, Error, Limits, Preparation,
    data::{Content, Disjoint, Source},
    error::{Fault, Sink},
    formats::{
        file_list::found,
        image_files::ImageFile,
        lines::{Line, Lines},
        sounds::Origin,
        texts::{RawText, RawTexts},
    },
    rows::{Rows, RowsBuilder},
    split::{Division, HoldOut, part_of},
};

pub(super) fn two_kinds(
    set: &TwoKindsFile,
    limits: &Limits,
    stored: Option<&Preparation>,
    sink: &mut dyn Sink,
) -> Result<Source, Error> {
    let path = given(&set.path, "two_kinds")?;
    let lines = lines(path, set.format, true, limits, sink)?;
    let folder = match &set.folder {
        Some(folder) => folder,
        None => path.parent().unwrap_or(Path::new("")),
    };
    let mut sides = [
        Cells::of(&set.first, folder, &lines)?,
        Cells::of(&set.second, folder, &lines)?,
    ];
    let label = set.label.as_ref().map(|it| lines.column(it)).transpose()?;
    let split = set.split.as_ref().map(|it| lines.column(it)).transpose()?;
    if label.is_none() && set.hold_out == HoldOut::Classes {
        return Err(Error::Settings(
            "`data.two_kinds.hold_out` is \"classes\", but without a `label` each row is its own; leave it out".into(),
        ));
    }
    let (mut rows, mut places) = (RowsBuilder::default(), Vec::new());
    let of_file: Arc<str> = lines.path.as_str().into();
    for line in &lines.rows {
        let mut faults = Vec::new();
        let class = label.map_or("", |column| &line.cells[column]);
        if label.is_some() && class.is_empty() {
            faults.push(Fault::EmptyLabel);
        }
        let text = split.map(|column| &line.cells[column]);
        let part = match text.map(|text| (text, part_of(text))) {
            None => "all",
            Some((_, Some(part))) => part,
            Some((text, None)) => {
                faults.push(Fault::Split { text: text.into() });
                ""
            }
        };
        for side in &sides {
            faults.extend(side.fault(&lines, line));
        }
        if faults.is_empty() {
            rows.push(class, part);
            places.push((Arc::clone(&of_file), line.number));
            sides.iter_mut().for_each(|side| side.push(line));
        }
        for fault in faults {
            sink.take(lines.bad(line, fault))?;
        }
    }
    let rows = some(rows.finish(), &lines)?;
    let [first, second] = sides;
    let mut content = |cells: Cells, branch: &Branch, side: usize| {
        let stored = stored.map(|stored| stored.of_input(side));
        let made = Making {
            rows: &rows,
            places: &places,
            place: &lines.path,
            limits,
            stored,
        };
        made.content(cells, branch, sink)
    };
    let sides = Box::new([
        content(first, &set.first, 0)?,
        content(second, &set.second, 1)?,
    ]);
    Ok(Source {
        division: Division::of_own(&rows, set.test, set.hold_out),
        rows,
        roles: None,
        content: Content::TwoKinds {
            sides,
            numbered: label.is_none(),
        },
        said: None,
        place: lines.path,
        disjoint: match set.hold_out {
            HoldOut::Classes => Disjoint::Yes,
            HoldOut::Samples => Disjoint::No,
        },
    })
}

/// What a column holds.
struct Cells {
    column: usize,
    /// Where files are; none for texts.
    folder: Option<PathBuf>,
    texts: Vec<String>,
}

impl Cells {
    fn of(branch: &Branch, folder: &Path, lines: &Lines) -> Result<Self, Error> {
        let (column, folder) = match branch {
            Branch::Text(it) => (&it.column, None),
            Branch::Image(it) => (&it.column, Some(folder.to_owned())),
            Branch::Sound(it) => (&it.column, Some(folder.to_owned())),
        };
        Ok(Self {
            column: lines.column(column)?,
            folder,
            texts: Vec::new(),
        })
    }

    fn fault(&self, lines: &Lines, line: &Line) -> Option<Fault> {
        let text = &line.cells[self.column];
        match &self.folder {
            None => crate::vocabulary::words(text).next().is_none().then(|| {
                let column = lines.names[self.column].clone();
                Fault::EmptyText { column }
            }),
            Some(folder) => {
                let there = !text.is_empty() && found(folder, text).is_file();
                (!there).then(|| Fault::NoFile { file: text.into() })
            }
        }
    }

    fn push(&mut self, line: &Line) {
        self.texts.push(line.cells[self.column].to_owned());
    }

    fn files(&self) -> impl Iterator<Item = PathBuf> {
        let folder = self.folder.as_deref().unwrap_or(Path::new(""));
        self.texts.iter().map(move |text| found(folder, text))
    }
}

/// What the contents of both columns need to know.
struct Making<'a> {
    rows: &'a Rows,
    places: &'a [(Arc<str>, u64)],
    place: &'a str,
    limits: &'a Limits,
    stored: Option<&'a Preparation>,
}

impl Making<'_> {
    fn content(
        &self,
        cells: Cells,
        branch: &Branch,
        sink: &mut dyn Sink,
    ) -> Result<Content, Error> {
        match branch {
            Branch::Text(it) => Ok(Content::Texts {
                raw: RawTexts {
                    texts: (cells.texts.into_iter())
                        .map(|text| vec![RawText::Plain(text)])
                        .collect(),
                    places: self.places.to_vec(),
                    ..RawTexts::default()
                },
                annotation: Annotation::Classes,
                range: None,
                words: it.words(),
            }),
            Branch::Image(it) => {
                let likeness = Likeness {
                    size: it.size,
                    color: it.color,
                    dark_ink: it.dark_ink,
                    stored: self.stored,
                    place: self.place,
                    limits: self.limits,
                };
                let files = cells.files().map(ImageFile::whole).collect();
                image_files(files, self.rows, &likeness, sink)
            }
            Branch::Sound(it) => {
                let origins = cells.files().map(Origin::File).collect();
                let settings = (&it.log_mel, it.seconds);
                sound_content(origins, self.rows, settings, self.limits, self.stored)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use nearfar_catalogue::Column;
    use nearfar_core::Seed;

    use super::*;
    use crate::{Data, DataConfig, Shape, TextBranch};

    /// Two columns of texts: what is a text and what a file does not matter here.
    fn loaded(csv: &str, label: bool, stored: Option<&Preparation>) -> Result<Data, Error> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list.csv");
        std::fs::write(&path, csv).unwrap();
        let branch = |column: &str| {
            Branch::Text(TextBranch {
                column: Column::Name(column.into()),
                ..TextBranch::default()
            })
        };
        let config = DataConfig::TwoKinds(TwoKindsFile {
            path,
            first: branch("a"),
            second: branch("b"),
            label: label.then(|| Column::Name("label".into())),
            ..TwoKindsFile::default()
        });
        match stored {
            None => config.load(Path::new(""), Seed(1)),
            Some(stored) => config.load_prepared(Path::new(""), Seed(1), stored),
        }
    }

    fn list() -> String {
        let rows = (0..40).map(|row| format!("a{row},b{row} b,{}\n", row % 4));
        std::iter::once("a,b,label\n".to_owned())
            .chain(rows)
            .collect()
    }

    #[test]
    fn both_of_a_row_are_in_one_part() {
        for label in [false, true] {
            let data = loaded(&list(), label, None).unwrap();
            assert_eq!(data.annotation(), Annotation::Domains);
            let test = &data.evaluation[0];
            assert_eq!((data.train.len(), test.dataset.len()), (64, 16));
            assert_eq!(data.train_classes, if label { 4 } else { 40 });
            for part in [&data.train, &test.dataset] {
                let mut of_class: BTreeMap<u32, [usize; 2]> = BTreeMap::new();
                for (&label, &domain) in part.labels().iter().zip(part.domains()) {
                    of_class.entry(label).or_default()[domain as usize] += 1;
                }
                assert!(of_class.values().all(|[first, second]| first == second));
                // Samples of a row stand side by side, and say the same of where they are from.
                for row in (0..part.len() as u32).step_by(2) {
                    let place = |index| {
                        let place = part.describe(index);
                        place.split_once('(').map(|(_, place)| place.to_owned())
                    };
                    assert!(place(row).is_some());
                    assert_eq!(place(row), place(row + 1));
                }
            }
            let roles = test.roles.as_ref().unwrap();
            assert!(roles[0].query && !roles[0].gallery && roles[1].gallery);
        }
    }

    #[test]
    fn each_kind_is_prepared_by_itself_and_as_it_was_stored() {
        let data = loaded(&list(), false, None).unwrap();
        let words = |shape: Shape| match shape {
            Shape::Tokens { vocabulary, .. } => vocabulary,
            other => panic!("{other:?}"),
        };
        // 32 training rows; `b` is one word more; and one number for words that are not known.
        let known = data.shapes().into_iter().map(words).collect::<Vec<_>>();
        assert_eq!(known[1], known[0] + 1);
        let others = list().replace("a1", "x");
        let again = loaded(&others, false, Some(&data.preparation));
        assert_eq!(again.unwrap().preparation, data.preparation);
        let text = serde_json::to_string(&data.preparation).unwrap();
        assert_eq!(
            serde_json::from_str::<Preparation>(&text).unwrap(),
            data.preparation
        );
        let error = data.preparation.open(Path::new("new.txt")).err().unwrap();
        assert!(
            error.to_string().contains("can be texts or texts"),
            "{error}"
        );
    }

    #[test]
    fn what_is_wrong_is_told_with_its_row() {
        let error = loaded("a,b,label\n,b,1\n", true, None).err().unwrap();
        assert!(error.to_string().contains("row 2"), "{error}");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list.csv");
        std::fs::write(&path, "text,image\nwords,none.png\n").unwrap();
        let config = TwoKindsFile {
            path,
            ..TwoKindsFile::default()
        };
        let of = |config: TwoKindsFile| {
            let data = DataConfig::TwoKinds(config).load(Path::new(""), Seed(1));
            data.err().unwrap().to_string()
        };
        assert!(of(config.clone()).contains("none.png"));
        let by_class = TwoKindsFile {
            hold_out: HoldOut::Classes,
            ..config
        };
        assert!(of(by_class).contains("without a `label` each row is its own"));
    }
}
