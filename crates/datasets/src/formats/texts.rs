//! Texts, and pairs of texts.

use std::sync::Arc;

use crate::{
    Annotation, Dataset, Error, Sample, Value,
    error::{Fault, Sink},
    formats::{
        conllu::{Sentence, Sentences},
        lines::{Line, Lines},
        said::{SaidColumns, SaidRows},
    },
    rows::{Rows, RowsBuilder},
};

/// A text before its words have numbers.
#[derive(Clone)]
pub(crate) enum RawText {
    Plain(String),
    Parsed(Arc<Sentence>),
}

impl RawText {
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Plain(text) => text,
            Self::Parsed(sentence) => &sentence.text,
        }
    }
}

/// Texts as they are in a file, before words have numbers.
#[derive(Default)]
pub(crate) struct RawTexts {
    /// One or two for each row.
    pub(crate) texts: Vec<Vec<RawText>>,
    /// What the cells of a file name, where they are no texts.
    pub(crate) sentences: Option<Sentences>,
    /// The score of each pair, where pairs are scored.
    pub(crate) targets: Vec<f32>,
    pub(crate) places: Vec<(Arc<str>, u64)>,
    /// What rows say beside a label, or in place of one.
    pub(crate) said: SaidRows,
}

/// Which columns are what.
pub(crate) struct TextColumns {
    /// One, or two for pairs.
    pub(crate) texts: Vec<usize>,
    /// The class; or, of labeled pairs, yes or no.
    pub(crate) label: Option<usize>,
    /// What is said beside it, or in place of it.
    pub(crate) said: SaidColumns,
    /// The score of a pair, and the least and greatest there can be.
    pub(crate) score: Option<(usize, Option<[f64; 2]>)>,
    /// The part, in words.
    pub(crate) split: Option<usize>,
}

impl TextColumns {
    pub(crate) fn annotation(&self) -> Annotation {
        match (self.texts.len(), &self.score) {
            (2, Some(_)) => Annotation::ScoredPairs,
            (2, None) => Annotation::LabeledPairs,
            _ => Annotation::Classes,
        }
    }
}

impl RawTexts {
    /// Adds the rows of a file. What is wrong with one goes to the sink, and the row is left out. `part_of` says what a
    /// word of the split column stands for.
    pub(crate) fn add(
        &mut self,
        lines: &Lines,
        columns: &TextColumns,
        part: &str,
        part_of: &dyn Fn(&str) -> Option<String>,
        rows: &mut RowsBuilder,
        sink: &mut dyn Sink,
    ) -> Result<(), Error> {
        let path: Arc<str> = lines.path.as_str().into();
        for line in &lines.rows {
            let mut faults = Vec::new();
            let mut texts = Vec::with_capacity(columns.texts.len());
            for &column in &columns.texts {
                match self.text(&line.cells[column], &lines.names[column]) {
                    Ok(text) => texts.push(text),
                    Err(fault) => faults.push(fault),
                }
            }
            let class = label(lines, line, columns).unwrap_or_else(|fault| {
                faults.push(fault);
                String::new()
            });
            let target = score(lines, line, columns).unwrap_or_else(|fault| {
                faults.push(fault);
                0.0
            });
            let said = columns.said.read(lines, line, &mut faults);
            let mut part = part.to_owned();
            if let Some(column) = columns.split {
                let text = &line.cells[column];
                match part_of(text) {
                    Some(found) => part = found,
                    None => faults.push(Fault::Split {
                        text: text.to_owned(),
                    }),
                }
            }
            if faults.is_empty() {
                rows.push(&class, &part);
                self.said.push(said);
                self.texts.push(texts);
                if columns.score.is_some() {
                    self.targets.push(target);
                }
                self.places.push((Arc::clone(&path), line.number));
            }
            for fault in faults {
                sink.take(lines.bad(line, fault))?;
            }
        }
        Ok(())
    }

    /// The text of a cell, or the sentence that it names.
    fn text(&self, cell: &str, column: &str) -> Result<RawText, Fault> {
        let column = || column.to_owned();
        match &self.sentences {
            None if crate::vocabulary::words(cell).next().is_none() => {
                Err(Fault::EmptyText { column: column() })
            }
            None => Ok(RawText::Plain(cell.to_owned())),
            Some(sentences) => match sentences.find(cell) {
                Some(sentence) => Ok(RawText::Parsed(Arc::clone(sentence))),
                None => Err(Fault::NoSentence {
                    column: column(),
                    text: cell.to_owned(),
                }),
            },
        }
    }

    /// Sentences of a file, one a row, without a label.
    pub(crate) fn of_sentences(sentences: Sentences, rows: &mut RowsBuilder) -> Self {
        let mut raw = Self::default();
        for sentence in sentences.all {
            rows.push("", "all");
            raw.places
                .push((Arc::clone(&sentences.path), sentence.line));
            raw.texts.push(vec![RawText::Parsed(sentence)]);
        }
        raw
    }
}

/// The class of a row; of a labeled pair `0` or `1`.
fn label(lines: &Lines, line: &Line, columns: &TextColumns) -> Result<String, Fault> {
    let Some(column) = columns.label else {
        return Ok(String::new());
    };
    let text = &line.cells[column];
    if text.is_empty() {
        return Err(Fault::EmptyLabel);
    }
    if columns.annotation() != Annotation::LabeledPairs {
        return Ok(text.to_owned());
    }
    flag(text)
        .map(|flag| u8::from(flag).to_string())
        .ok_or_else(|| Fault::NotAFlag {
            column: lines.names[column].clone(),
            text: text.to_owned(),
        })
}

/// Yes or no.
pub(crate) fn flag(text: &str) -> Option<bool> {
    match text.to_lowercase().as_str() {
        "1" | "true" | "yes" | "1.0" => Some(true),
        "0" | "false" | "no" | "0.0" => Some(false),
        _ => None,
    }
}

fn score(lines: &Lines, line: &Line, columns: &TextColumns) -> Result<f32, Fault> {
    let Some((column, range)) = columns.score else {
        return Ok(0.0);
    };
    let text = &line.cells[column];
    let score: f64 = text.parse().map_err(|_| Fault::NotANumber {
        column: lines.names[column].clone(),
        text: text.to_owned(),
    })?;
    let [low, high] = range.unwrap_or([f64::from(f32::MIN), f64::from(f32::MAX)]);
    if !(low..=high).contains(&score) {
        return Err(Fault::Score { score, low, high });
    }
    Ok(score as f32)
}

/// Texts in memory, as numbers of words.
pub(crate) struct Texts {
    raw: RawTexts,
    values: Vec<Vec<Value>>,
    annotation: Annotation,
    labels: Vec<u32>,
    classes: Arc<[String]>,
}

/// Makes numbers of a text.
pub(crate) type ValueOf<'a> = dyn Fn(&RawText) -> Result<Value, Error> + 'a;

impl Texts {
    /// These texts as numbers.
    pub(crate) fn new(
        raw: RawTexts,
        rows: &Rows,
        annotation: Annotation,
        value: &ValueOf<'_>,
    ) -> Result<Self, Error> {
        let values = raw
            .texts
            .iter()
            .map(|texts| texts.iter().map(value).collect())
            .collect::<Result<_, Error>>()?;
        // Of labeled pairs the class `1` is 1, whether or not there is a `0`.
        let labels = match annotation {
            Annotation::LabeledPairs => rows
                .labels
                .iter()
                .map(|&label| u32::from(rows.classes[label as usize] == "1"))
                .collect(),
            _ => rows.labels.clone(),
        };
        let classes = match annotation {
            Annotation::LabeledPairs => vec!["apart".to_owned(), "together".to_owned()].into(),
            _ => rows.classes.clone().into(),
        };
        Ok(Self {
            raw,
            values,
            annotation,
            labels,
            classes,
        })
    }
}

impl Dataset for Texts {
    fn labels(&self) -> &[u32] {
        &self.labels
    }

    fn sample(&self, index: u32) -> Result<Sample, Error> {
        Ok(Sample {
            inputs: self.values[index as usize].clone(),
        })
    }

    fn annotation(&self) -> Annotation {
        self.annotation
    }

    fn targets(&self) -> &[f32] {
        &self.raw.targets
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn describe(&self, index: u32) -> String {
        let (path, row) = &self.raw.places[index as usize];
        let texts = self.raw.texts[index as usize].iter();
        let texts: Vec<&str> = texts.map(RawText::text).collect();
        format!("{} ({path}, row {row})", texts.join(" | "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TextUnit;
    use crate::{
        Vocabulary,
        check::Problems,
        formats::lines::{LineFormat, Reading},
    };

    const CSV: Reading = Reading {
        format: LineFormat::Csv,
        header: true,
        more_columns: false,
    };

    fn read(bytes: &[u8], columns: &TextColumns) -> (RawTexts, Rows, Vec<String>) {
        let mut problems = Problems::new(10);
        let lines = Lines::read("p.csv", bytes, CSV, &mut problems).expect("problems are kept");
        let (mut raw, mut rows) = (RawTexts::default(), RowsBuilder::default());
        let part_of = |word: &str| crate::split::part_of(word).map(str::to_owned);
        raw.add(&lines, columns, "all", &part_of, &mut rows, &mut problems)
            .expect("problems are kept");
        let messages = problems.errors().map(ToString::to_string).collect();
        (raw, rows.finish(), messages)
    }

    #[test]
    fn scored_pairs_have_scores_in_their_range() {
        let columns = TextColumns {
            texts: vec![0, 1],
            label: None,
            said: SaidColumns::default(),
            score: Some((2, Some([1.0, 5.0]))),
            split: None,
        };
        let bytes = b"a,b,s\na cat,a dog,3.5\na,?!,2\na,b,6\na,b,nan\na,b,x\n";
        let (raw, rows, messages) = read(bytes, &columns);
        assert_eq!((raw.targets.as_slice(), rows.len()), (&[3.5][..], 1));
        assert!(messages[0].starts_with("p.csv, row 3: the text in `b` has no words"));
        assert_eq!(
            messages[1],
            "p.csv, row 4: the score 6 is not between 1 and 5"
        );
        assert!(messages[2].contains("NaN") && messages[3].contains("`x`"));
        let vocabulary = Vocabulary::of(["a cat a dog"], TextUnit::Words, 1, None);
        let value = |text: &RawText| Ok(Value::Tokens(vocabulary.tokens(text.text(), 1)));
        let texts = Texts::new(raw, &rows, columns.annotation(), &value).expect("words");
        assert_eq!(
            texts.sample(0).expect("in memory").inputs,
            [Value::Tokens(vec![1]), Value::Tokens(vec![1])]
        );
        assert_eq!(texts.describe(0), "a cat | a dog (p.csv, row 2)");
        assert_eq!(texts.annotation(), Annotation::ScoredPairs);
    }

    #[test]
    fn labeled_pairs_are_yes_or_no() {
        let columns = TextColumns {
            texts: vec![0, 1],
            label: Some(2),
            said: SaidColumns::default(),
            score: None,
            split: None,
        };
        let (raw, rows, messages) = read(b"a,b,same\nx,y,true\nx,z,1\nx,w,\nx,v,maybe\n", &columns);
        assert_eq!(messages.len(), 2);
        let vocabulary = Vocabulary::of(["x"], TextUnit::Words, 1, None);
        let value = |text: &RawText| Ok(Value::Tokens(vocabulary.tokens(text.text(), 9)));
        let texts = Texts::new(raw, &rows, columns.annotation(), &value).expect("words");
        assert_eq!(texts.labels(), [1, 1]);
    }
}
