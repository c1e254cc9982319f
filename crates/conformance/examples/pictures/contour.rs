//! Where a function of two numbers is at least so large: marching squares.

use std::collections::BTreeMap;

/// Values of a function at the crossings of lines: `values[row · xs.len() + column]`, rows by y.
pub(crate) struct Grid<'a> {
    pub(crate) xs: &'a [f64],
    pub(crate) ys: &'a [f64],
    pub(crate) values: &'a [f64],
}

/// A crossing of the outline with a line between two neighbors: the left or lower one of them, and whether the other lies to
/// its right.
type Edge = (usize, usize, bool);

impl Grid<'_> {
    /// The value at a place of the grid with a border around it, on which it is below everything.
    fn at(&self, column: usize, row: usize) -> f64 {
        let (width, height) = (self.xs.len(), self.ys.len());
        if column == 0 || row == 0 || column > width || row > height {
            return f64::NEG_INFINITY;
        }
        self.values[(row - 1) * width + column - 1]
    }

    /// Where that place is; the border lies on the outermost lines.
    fn place(&self, column: usize, row: usize) -> (f64, f64) {
        let within = |at: usize, list: &[f64]| list[at.clamp(1, list.len()) - 1];
        (within(column, self.xs), within(row, self.ys))
    }

    /// Where the outline crosses.
    fn crossing(&self, (column, row, right): Edge, level: f64) -> (f64, f64) {
        let other = if right {
            (column + 1, row)
        } else {
            (column, row + 1)
        };
        let (from, to) = (self.at(column, row), self.at(other.0, other.1));
        let ((x, y), (x2, y2)) = (self.place(column, row), self.place(other.0, other.1));
        let share = if from.is_finite() && to.is_finite() {
            (level - from) / (to - from)
        } else {
            0.5 // Both places are one.
        };
        (x + share * (x2 - x), y + share * (y2 - y))
    }
}

/// The outlines of all regions with values of at least `level`, each closed; what is inside lies on their left.
pub(crate) fn regions(grid: &Grid<'_>, level: f64) -> Vec<Vec<(f64, f64)>> {
    let mut next = BTreeMap::<Edge, Edge>::new();
    for row in 0..=grid.ys.len() {
        for column in 0..=grid.xs.len() {
            let (bottom, right) = ((column, row, true), (column + 1, row, false));
            let (top, left) = ((column, row + 1, true), (column, row, false));
            let corners = [
                grid.at(column, row),
                grid.at(column + 1, row),
                grid.at(column + 1, row + 1),
                grid.at(column, row + 1),
            ];
            let inside = corners.map(|it| it >= level);
            let case = (0..4)
                .filter(|&at| inside[at])
                .map(|at| 1 << at)
                .sum::<u8>();
            let middle = corners.iter().sum::<f64>() / 4.0 >= level;
            let steps: &[(Edge, Edge)] = match case {
                1 => &[(bottom, left)],
                2 => &[(right, bottom)],
                3 => &[(right, left)],
                4 => &[(top, right)],
                5 if middle => &[(bottom, right), (top, left)],
                5 => &[(bottom, left), (top, right)],
                6 => &[(top, bottom)],
                7 => &[(top, left)],
                8 => &[(left, top)],
                9 => &[(bottom, top)],
                10 if middle => &[(left, bottom), (right, top)],
                10 => &[(right, bottom), (left, top)],
                11 => &[(right, top)],
                12 => &[(left, right)],
                13 => &[(bottom, right)],
                14 => &[(left, bottom)],
                _ => &[],
            };
            next.extend(steps.iter().copied());
        }
    }
    let mut regions = Vec::new();
    while let Some((&first, _)) = next.first_key_value() {
        let (mut outline, mut edge) = (Vec::new(), first);
        while let Some(following) = next.remove(&edge) {
            outline.push(grid.crossing(edge, level));
            edge = following;
        }
        outline.dedup();
        regions.push(outline);
    }
    regions
}
