//! What is known of all samples of a source before it is divided.

use std::collections::BTreeMap;

use crate::names;

/// Class, part and fields of each row.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    /// Class of each, as an index of `classes`.
    pub(crate) labels: Vec<u32>,
    /// In the order of [`names::order`].
    pub(crate) classes: Vec<String>,
    /// Part of each, as an index of `part_names`.
    parts: Vec<u32>,
    part_names: Vec<String>,
    /// Fields of each; empty where there are none.
    fields: Vec<BTreeMap<String, String>>,
}

impl Rows {
    pub(crate) fn len(&self) -> usize {
        self.labels.len()
    }

    pub(crate) fn part(&self, row: usize) -> &str {
        &self.part_names[self.parts[row] as usize]
    }

    /// Whether a row is in a part of this name.
    pub(crate) fn has_part(&self, name: &str) -> bool {
        (0..self.part_names.len())
            .any(|it| self.part_names[it] == name && self.parts.contains(&(it as u32)))
    }

    pub(crate) fn fields(&self, row: usize) -> &BTreeMap<String, String> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        self.fields.get(row).unwrap_or(&NONE)
    }
}

/// Rows in the making.
#[derive(Default)]
pub(crate) struct RowsBuilder {
    rows: Rows,
    classes: BTreeMap<String, u32>,
}

impl RowsBuilder {
    pub(crate) fn push(&mut self, class: &str, part: &str) {
        let next = self.classes.len() as u32;
        let label = match self.classes.get(class) {
            Some(&label) => label,
            None => *self.classes.entry(class.to_owned()).or_insert(next),
        };
        let names = &mut self.rows.part_names;
        let part = names.iter().position(|it| it == part).unwrap_or_else(|| {
            names.push(part.to_owned());
            names.len() - 1
        });
        self.rows.labels.push(label);
        self.rows.parts.push(part as u32);
    }

    /// The fields of the row that was pushed last; of all rows or of none.
    pub(crate) fn fields(&mut self, fields: BTreeMap<String, String>) {
        self.rows.fields.push(fields);
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn finish(self) -> Rows {
        let mut rows = self.rows;
        let mut order: Vec<(String, u32)> = self.classes.into_iter().collect();
        order.sort_by(|(a, _), (b, _)| names::order(a, b));
        let mut sorted = vec![0; order.len()];
        for (label, (_, old)) in (0..).zip(&order) {
            sorted[*old as usize] = label;
        }
        rows.labels
            .iter_mut()
            .for_each(|label| *label = sorted[*label as usize]);
        rows.classes = order.into_iter().map(|(name, _)| name).collect();
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_in_the_order_of_their_names() {
        let mut builder = RowsBuilder::default();
        for (class, part) in [("10", "train"), ("a", "test"), ("9", "train"), ("10", "x")] {
            builder.push(class, part);
        }
        let rows = builder.finish();
        assert_eq!(rows.classes, ["9", "10", "a"]);
        assert_eq!(rows.labels, [1, 2, 0, 1]);
        assert_eq!(rows.part(1), "test");
        assert!(rows.has_part("x") && !rows.has_part("y"));
        assert!(rows.fields(2).is_empty());
    }
}
