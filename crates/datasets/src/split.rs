//! Which rows are trained on, and which are looked at.

use nearfar_catalogue::{Selection, Split};
use nearfar_core::{Fraction, Purpose, Seed, position_of_name};
use serde::{Deserialize, Serialize};

use crate::{Error, names, rows::Rows};

/// The name of a class, written as a text or as a number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "NumberOrText", into = "String")]
pub struct ClassName(pub String);

#[derive(Deserialize)]
#[serde(untagged, expecting = "the name of a class")]
enum NumberOrText {
    Number(i64),
    Text(String),
}

impl From<NumberOrText> for ClassName {
    fn from(written: NumberOrText) -> Self {
        Self(match written {
            NumberOrText::Number(number) => number.to_string(),
            NumberOrText::Text(text) => text,
        })
    }
}

impl From<ClassName> for String {
    fn from(name: ClassName) -> Self {
        name.0
    }
}

impl From<&str> for ClassName {
    fn from(name: &str) -> Self {
        Self(name.to_owned())
    }
}

/// What of own data without named parts is held out for testing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldOut {
    /// Some samples of each class, by the run's seed.
    #[default]
    Samples,
    /// All samples of some classes: the last by name.
    Classes,
}

/// The selections of a split.
#[derive(Clone, Debug, Default)]
pub(crate) struct Division {
    pub(crate) train: Selection,
    pub(crate) validation: Option<Selection>,
    pub(crate) test: Option<Selection>,
}

impl From<&Split> for Division {
    fn from(split: &Split) -> Self {
        Self {
            train: split.train.clone(),
            validation: split.validation.clone(),
            test: Some(split.test.clone()),
        }
    }
}

impl Division {
    /// That of own data: by the parts that rows name, or else a fraction is held out.
    pub(crate) fn of_own(rows: &Rows, test: Option<Fraction>, hold_out: HoldOut) -> Self {
        let part = |name: &str| Selection {
            parts: Some(vec![name.to_owned()]),
            ..Selection::default()
        };
        let (has_test, has_validation) = (rows.has_part(TEST), rows.has_part(VALIDATION));
        let named = has_test || has_validation;
        let test = match test {
            Some(test) => test.get(),
            None if named => 0.0,
            None => 0.2,
        };
        // What is held out is of the training part.
        let held = |between: [f64; 2]| {
            let mut selection = if named {
                part(TRAIN)
            } else {
                Selection::default()
            };
            match hold_out {
                HoldOut::Samples => selection.rows_between = Some(between),
                HoldOut::Classes => selection.classes_between = Some(between),
            }
            selection
        };
        let train = match (named, test > 0.0) {
            (_, true) => held([0.0, 1.0 - test]),
            (true, false) => part(TRAIN),
            (false, false) => Selection::default(),
        };
        Self {
            train,
            validation: has_validation.then(|| part(VALIDATION)),
            test: if has_test {
                Some(part(TEST))
            } else {
                (test > 0.0).then(|| held([1.0 - test, 1.0]))
            },
        }
    }
}

pub(crate) const TRAIN: &str = "train";
pub(crate) const VALIDATION: &str = "validation";
pub(crate) const TEST: &str = "test";
pub(crate) const UNSEEN: &str = "unseen";

/// The part that a word in a split column stands for: `train`, `validation` or `test`, under any of their usual names.
pub(crate) fn part_of(word: &str) -> Option<&'static str> {
    match word.to_lowercase().as_str() {
        "train" | "training" => Some(TRAIN),
        "validation" | "valid" | "val" | "dev" | "trial" => Some(VALIDATION),
        "test" | "testing" | "eval" | "evaluation" => Some(TEST),
        _ => None,
    }
}

/// What the settings say beyond the split.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wishes<'a> {
    pub(crate) classes: Option<&'a [ClassName]>,
    pub(crate) test_classes: Option<&'a [ClassName]>,
    pub(crate) unseen: &'a [ClassName],
    pub(crate) validation: Option<Fraction>,
    pub(crate) validation_classes: Option<Fraction>,
    pub(crate) per_class: Option<usize>,
    /// Whether rows have classes that matter for dividing; pairs have not.
    pub(crate) by_class: bool,
}

/// Rows of each part, and the classes as the parts number them.
#[derive(Debug, PartialEq)]
pub(crate) struct Plan {
    pub(crate) train: Vec<u32>,
    pub(crate) evaluation: Vec<(&'static str, Vec<u32>)>,
    /// Those that are trained on first.
    pub(crate) classes: Vec<String>,
    /// How many are trained on.
    pub(crate) train_classes: usize,
    /// New label of each old one; that of a class that is in no part does not matter.
    pub(crate) labels: Vec<u32>,
}

/// Divides rows.
pub(crate) fn divide(
    rows: &Rows,
    division: &Division,
    wishes: &Wishes<'_>,
    seed: Seed,
) -> Result<Plan, Error> {
    for (setting, names) in [
        ("classes", wishes.classes.unwrap_or_default()),
        ("test_classes", wishes.test_classes.unwrap_or_default()),
        ("unseen", wishes.unseen),
    ] {
        known(setting, names, rows)?;
    }
    let listed = |names: &[ClassName], row: u32| {
        let class = &rows.classes[rows.labels[row as usize] as usize];
        names.iter().any(|name| name.0 == *class)
    };
    let unseen = |row: u32| listed(wishes.unseen, row);
    let pick = |selection: &Selection, classes: Option<&[ClassName]>| -> Vec<u32> {
        let mut picked = selected(rows, selection, wishes.by_class, seed);
        picked.retain(|&row| !unseen(row) && classes.is_none_or(|classes| listed(classes, row)));
        picked
    };

    let mut train = pick(&division.train, wishes.classes);
    let test_classes = wishes.test_classes.or(wishes.classes);
    let mut evaluation = Vec::new();
    if let Some(selection) = &division.validation {
        evaluation.push((VALIDATION, pick(selection, wishes.classes)));
    }
    for (fraction, of_classes) in [
        (wishes.validation, false),
        (wishes.validation_classes, true),
    ] {
        let Some(fraction) = fraction.filter(|it| it.get() > 0.0) else {
            continue;
        };
        if !evaluation.is_empty() {
            return Err(Error::Settings(format!(
                "`{}` asks for a second validation part; there is one by the split, or by the other setting",
                if of_classes {
                    "validation_classes"
                } else {
                    "validation"
                }
            )));
        }
        let between = [1.0 - fraction.get(), 1.0];
        let held = if of_classes {
            classes_between(&train, rows, between)
        } else {
            rows_between(&train, rows, between, wishes.by_class, seed, "validation")
        };
        let mut is_held = vec![false; rows.len()];
        held.iter().for_each(|&row| is_held[row as usize] = true);
        train.retain(|&row| !is_held[row as usize]);
        evaluation.push((VALIDATION, held));
    }
    if let Some(selection) = &division.test {
        evaluation.push((TEST, pick(selection, test_classes)));
    }
    if !wishes.unseen.is_empty() {
        let mut all = selected(rows, &everything(&division.train), wishes.by_class, seed);
        if let Some(test) = &division.test {
            all.extend(selected(rows, &everything(test), wishes.by_class, seed));
        }
        all.sort_unstable();
        all.dedup();
        all.retain(|&row| unseen(row));
        evaluation.push((UNSEEN, all));
    }
    if let Some(most) = wishes.per_class {
        let mut counts = vec![0; rows.classes.len()];
        train = shuffled_by_class(&train, rows, wishes.by_class, seed, "per_class")
            .into_iter()
            .flatten()
            .filter(|&row| {
                let count = &mut counts[rows.labels[row as usize] as usize];
                *count += 1;
                *count <= most
            })
            .collect();
        train.sort_unstable();
    }
    if train.is_empty() {
        return Err(Error::Settings(format!(
            "no sample is left to train on, of {}; look at `split`, `classes`, `unseen` and the fractions of `data`",
            rows.len()
        )));
    }
    if let Some((name, _)) = evaluation.iter().find(|(_, rows)| rows.is_empty()) {
        return Err(Error::Settings(format!(
            "the part `{name}` has no sample, of {}; look at `split` and `test_classes` of `data`, and at its fractions: a \
             small part of a small class is nothing",
            rows.len()
        )));
    }
    Ok(numbered(rows, train, evaluation))
}

/// A selection without what it says of classes and of rows within them.
fn everything(selection: &Selection) -> Selection {
    Selection {
        classes: None,
        classes_between: None,
        rows_between: None,
        ..selection.clone()
    }
}

/// Numbers the classes: those of the training part in their order, then the others that are in a part.
fn numbered(rows: &Rows, train: Vec<u32>, evaluation: Vec<(&'static str, Vec<u32>)>) -> Plan {
    let mut rank = vec![2u8; rows.classes.len()];
    for &row in evaluation.iter().flat_map(|(_, rows)| rows) {
        rank[rows.labels[row as usize] as usize] = 1;
    }
    for &row in &train {
        rank[rows.labels[row as usize] as usize] = 0;
    }
    let mut order: Vec<usize> = (0..rows.classes.len()).filter(|&it| rank[it] < 2).collect();
    order.sort_by_key(|&class| rank[class]); // Stable, so names stay in order.
    let mut labels = vec![0; rows.classes.len()];
    for (label, &class) in (0..).zip(&order) {
        labels[class] = label;
    }
    Plan {
        train,
        evaluation,
        train_classes: order.iter().filter(|&&class| rank[class] == 0).count(),
        classes: order
            .into_iter()
            .map(|class| rows.classes[class].clone())
            .collect(),
        labels,
    }
}

fn known(setting: &str, listed: &[ClassName], rows: &Rows) -> Result<(), Error> {
    match listed.iter().find(|name| !rows.classes.contains(&name.0)) {
        None => Ok(()),
        Some(ClassName(name)) => {
            let known = rows.classes.iter().map(String::as_str);
            let hint = match names::nearest(name, known) {
                Some(nearest) => format!("did you mean `{nearest}`?"),
                None => {
                    let some: Vec<&str> =
                        rows.classes.iter().take(10).map(String::as_str).collect();
                    format!(
                        "there are {}, such as `{}`",
                        rows.classes.len(),
                        some.join("`, `")
                    )
                }
            };
            Err(Error::Settings(format!(
                "`{setting}` lists the class `{name}`, which the data do not have; {hint}"
            )))
        }
    }
}

/// The rows of a selection, in order.
fn selected(rows: &Rows, selection: &Selection, by_class: bool, seed: Seed) -> Vec<u32> {
    let mut picked: Vec<u32> = (0..rows.len() as u32)
        .filter(|&row| {
            let row = row as usize;
            let class = &rows.classes[rows.labels[row] as usize];
            selection.admits(rows.part(row), rows.fields(row))
                && selection
                    .classes
                    .as_ref()
                    .is_none_or(|classes| classes.contains(class))
        })
        .collect();
    if let Some(between) = selection.classes_between {
        picked = classes_between(&picked, rows, between);
    }
    if let Some(between) = selection.rows_between {
        picked = rows_between(&picked, rows, between, by_class, seed, "split");
    }
    picked
}

/// Whether a place among `count` is in a part of the whole.
fn is_between(place: usize, count: usize, [from, to]: [f64; 2]) -> bool {
    // Rounded, so that 0.7 · 10 is 7 and not 6.999…, and the two sides of a split share their border.
    let border = |part: f64| (part * count as f64 * 1e6).round() / 1e6;
    (border(from)..border(to)).contains(&(place as f64))
}

/// The rows whose class lies in a part of the order of class names, among the classes that these rows have.
fn classes_between(picked: &[u32], rows: &Rows, between: [f64; 2]) -> Vec<u32> {
    let mut present = vec![false; rows.classes.len()];
    picked
        .iter()
        .for_each(|&row| present[rows.labels[row as usize] as usize] = true);
    let classes: Vec<usize> = (0..present.len()).filter(|&it| present[it]).collect();
    let mut wanted = vec![false; rows.classes.len()];
    for (place, &class) in classes.iter().enumerate() {
        wanted[class] = is_between(place, classes.len(), between);
    }
    picked
        .iter()
        .copied()
        .filter(|&row| wanted[rows.labels[row as usize] as usize])
        .collect()
}

/// The rows that lie in a part of the shuffled order of their class.
fn rows_between(
    picked: &[u32],
    rows: &Rows,
    between: [f64; 2],
    by_class: bool,
    seed: Seed,
    what: &str,
) -> Vec<u32> {
    let mut held: Vec<u32> = shuffled_by_class(picked, rows, by_class, seed, what)
        .into_iter()
        .flat_map(|members| {
            let count = members.len();
            members
                .into_iter()
                .enumerate()
                .filter(move |(place, _)| is_between(*place, count, between))
        })
        .map(|(_, row)| row)
        .collect();
    held.sort_unstable();
    held
}

/// The rows of each class in a random order, which depends on the seed, the purpose and the class alone.
fn shuffled_by_class(
    picked: &[u32],
    rows: &Rows,
    by_class: bool,
    seed: Seed,
    what: &str,
) -> Vec<Vec<u32>> {
    let mut members = vec![Vec::new(); if by_class { rows.classes.len() } else { 1 }];
    for &row in picked {
        let class = if by_class {
            rows.labels[row as usize] as usize
        } else {
            0
        };
        members[class].push(row);
    }
    for (class, members) in members.iter_mut().enumerate() {
        let name = if by_class { &rows.classes[class] } else { "" };
        let position = position_of_name(&format!("{what}/{name}"));
        seed.rng(Purpose::Generation, position).shuffle(members);
    }
    members
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::RowsBuilder;
    use proptest::prelude::*;

    fn rows(count: usize, classes: usize, parts: &[&str]) -> Rows {
        let mut builder = RowsBuilder::default();
        for row in 0..count {
            builder.push(&(row % classes).to_string(), parts[row % parts.len()]);
        }
        builder.finish()
    }

    fn wishes() -> Wishes<'static> {
        Wishes {
            by_class: true,
            ..Wishes::default()
        }
    }

    fn classes_of(rows: &Rows, picked: &[u32]) -> Vec<u32> {
        let mut classes: Vec<u32> = picked
            .iter()
            .map(|&row| rows.labels[row as usize])
            .collect();
        classes.sort_unstable();
        classes.dedup();
        classes
    }

    #[test]
    fn held_out_samples_are_stratified_and_unseen_classes_are_seen_nowhere() -> Result<(), Error> {
        let rows = rows(100, 10, &["all"]);
        let division = Division::of_own(&rows, Some(Fraction::literal(0.3)), HoldOut::Samples);
        let unseen = ["8".into(), "9".into()];
        let wishes = Wishes {
            unseen: &unseen,
            validation: Some(Fraction::literal(0.5)),
            ..wishes()
        };
        let plan = divide(&rows, &division, &wishes, Seed(1))?;
        let [(VALIDATION, validation), (TEST, test), (UNSEEN, unseen)] = &plan.evaluation[..]
        else {
            panic!("{plan:?}")
        };
        // Of 10 of each of 8 classes 3 are the test; of the other 7 the places from 3.5 on are the validation.
        assert_eq!(
            [plan.train.len(), validation.len(), test.len(), unseen.len()],
            [32, 24, 24, 20]
        );
        for picked in [&plan.train, validation, test] {
            assert_eq!(classes_of(&rows, picked), (0..8).collect::<Vec<_>>());
        }
        assert_eq!(classes_of(&rows, unseen), [8, 9]);
        assert_eq!((plan.train_classes, plan.classes.len()), (8, 10));
        let other = divide(&rows, &division, &wishes, Seed(2))?;
        assert_ne!(other.train, plan.train);
        assert_eq!(other.evaluation[2], plan.evaluation[2]);
        Ok(())
    }

    #[test]
    fn classes_of_the_training_part_are_numbered_first() -> Result<(), Error> {
        let rows = rows(40, 4, &["train", "test"]);
        let (classes, test_classes) = (["2".into(), "3".into()], ["0".into(), "1".into()]);
        let wishes = Wishes {
            classes: Some(&classes),
            test_classes: Some(&test_classes),
            ..wishes()
        };
        let division = Division::of_own(&rows, None, HoldOut::Samples);
        let plan = divide(&rows, &division, &wishes, Seed(0))?;
        // Class `c` is in the training part when `c` is even.
        assert_eq!(plan.classes, ["2", "1"]);
        assert_eq!((plan.labels[2], plan.labels[1]), (0, 1));
        assert_eq!(plan.evaluation[0].1.len(), 10);
        Ok(())
    }

    #[test]
    fn classes_are_held_out_whole_and_few_samples_of_each_are_kept() -> Result<(), Error> {
        let rows = rows(60, 6, &["all"]);
        let division = Division::of_own(&rows, Some(Fraction::literal(0.5)), HoldOut::Classes);
        let wishes = Wishes {
            validation_classes: Some(Fraction::literal(0.34)),
            per_class: Some(4),
            ..wishes()
        };
        let plan = divide(&rows, &division, &wishes, Seed(0))?;
        assert_eq!(classes_of(&rows, &plan.train), [0, 1]);
        assert_eq!(plan.train.len(), 8);
        assert_eq!(classes_of(&rows, &plan.evaluation[0].1), [2]);
        assert_eq!(classes_of(&rows, &plan.evaluation[1].1), [3, 4, 5]);
        Ok(())
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let rows = rows(20, 4, &["all"]);
        let refuse = |wishes: Wishes<'_>| {
            divide(
                &rows,
                &Division::of_own(&rows, None, HoldOut::Samples),
                &wishes,
                Seed(0),
            )
            .expect_err("impossible")
            .to_string()
        };
        let strange = ["7".into()];
        assert_eq!(
            refuse(Wishes {
                classes: Some(&strange),
                ..wishes()
            }),
            "`classes` lists the class `7`, which the data do not have; there are 4, such as `0`, `1`, `2`, `3`"
        );
        let all: Vec<ClassName> = ["0", "1", "2", "3"].map(Into::into).to_vec();
        assert!(
            refuse(Wishes {
                unseen: &all,
                ..wishes()
            })
            .contains("no sample is left to train on, of 20")
        );
        assert!(
            refuse(Wishes {
                validation: Some(Fraction::literal(0.01)),
                ..wishes()
            })
            .contains("the part `validation` has no sample")
        );
        assert!(
            refuse(Wishes {
                validation: Some(Fraction::literal(0.5)),
                validation_classes: Some(Fraction::literal(0.5)),
                ..wishes()
            })
            .contains("second validation part")
        );
    }

    proptest! {
        #[test]
        fn parts_share_no_row(
            count in 20usize..120, classes in 1usize..7, test in 0.1f64..0.6, validation in 0.2f64..0.6, seed: u64, whole: bool,
        ) {
            let rows = rows(count, classes, &["all"]);
            let hold_out = if whole { HoldOut::Classes } else { HoldOut::Samples };
            let division = Division::of_own(&rows, Some(Fraction::new(test).unwrap()), hold_out);
            let wishes = Wishes { validation: Some(Fraction::new(validation).unwrap()), ..wishes() };
            let Ok(plan) = divide(&rows, &division, &wishes, Seed(seed)) else { return Ok(()) };
            let mut all = plan.train.clone();
            plan.evaluation.iter().for_each(|(_, rows)| all.extend(rows));
            let together = all.len();
            all.sort_unstable();
            all.dedup();
            prop_assert_eq!(all.len(), together);
            prop_assert_eq!(all.len(), count);
        }
    }
}
