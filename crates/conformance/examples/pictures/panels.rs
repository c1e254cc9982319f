//! A table of planes of two distances, four in a row, with what stands around each.

use crate::svg::{Plane, Svg, n};

const COLUMNS: usize = 4;
const SIDE: f64 = 168.0;
const ACROSS: f64 = 208.0;

/// So many planes.
pub(crate) struct Panels {
    pub(crate) count: usize,
    /// From one row of them to the next.
    pub(crate) down: f64,
}

impl Panels {
    /// The length of a side of a plane.
    pub(crate) const SIDE: f64 = SIDE;

    fn rows(&self) -> usize {
        self.count.div_ceil(COLUMNS)
    }

    /// How high all rows are.
    pub(crate) fn height(&self) -> f64 {
        self.rows() as f64 * self.down
    }

    /// The plane of a panel.
    pub(crate) fn plane(&self, index: usize) -> Plane {
        let (column, row) = (index % COLUMNS, index / COLUMNS);
        Plane {
            corner: (46.0 + column as f64 * ACROSS, 88.0 + row as f64 * self.down),
            side: SIDE,
        }
    }

    /// Its title, settings and result, and at the edges of the table what the distances are to, below and on the left.
    pub(crate) fn labels(
        &self,
        svg: &mut Svg,
        index: usize,
        (title, settings, result): (&str, &str, &str),
        (below, left_of): (&str, &str),
    ) {
        let (left, top) = self.plane(index).corner;
        svg.text(left, top - 22.0, "title mono", title);
        svg.text(left, top - 7.0, "soft small", settings);
        svg.text(left + SIDE, top - 7.0, "soft small end", result);
        if index / COLUMNS + 1 == self.rows() {
            svg.text(
                left + SIDE / 2.0,
                top + SIDE + 29.0,
                "middle small",
                &format!("distance to the {below}"),
            );
        }
        if index.is_multiple_of(COLUMNS) {
            svg.raw(&format!(
                r#"<text class="middle small" transform="translate({} {}) rotate(-90)">distance to the {left_of}</text>"#,
                n(left - 26.0),
                n(top + SIDE / 2.0)
            ));
        }
    }
}
