//! The digits of the catalogue, as what is embedded and as small drawings.

use nearfar_catalogue::Digits;
use nearfar_core::EmbeddingTable;
use nearfar_eval::LinearMap;

use crate::contour::{Grid, regions};
use crate::svg::Svg;

/// Digits with an embedding: principal components of their pixels, which no training went into.
pub(crate) struct Handwriting {
    pub(crate) digits: Digits,
    pub(crate) table: EmbeddingTable,
}

impl Handwriting {
    /// All digits in a number of dimensions, at length 1 where it is wanted.
    pub(crate) fn new(dim: usize, unit: bool) -> Self {
        let digits = nearfar_catalogue::digits();
        let count = Digits::COUNT;
        let pixels = EmbeddingTable {
            vectors: digits.pixels.iter().map(|&it| f32::from(it)).collect(),
            dim: Digits::SIDE * Digits::SIDE,
            labels: digits.labels.iter().map(|&it| u32::from(it)).collect(),
            ids: (0..count as u64).collect(),
        };
        let map = LinearMap::pca(&pixels, dim).expect("64 numbers of each");
        let mut table = map.apply(&pixels).expect("what it was fitted to");
        for row in table.vectors.chunks_mut(dim) {
            let length = row.iter().map(|it| it * it).sum::<f32>().sqrt();
            // Thousandths: the last digits of a sum may depend on the processor, and nobody sees them.
            let scale = if unit { length } else { 20.0 };
            row.iter_mut()
                .for_each(|it| *it = (*it / scale * 1000.0).round() / 1000.0);
        }
        Self { digits, table }
    }

    /// The first samples of some classes, by class; `skip` leaves out as many of each first.
    pub(crate) fn some(&self, classes: &[u32], samples: usize, skip: usize) -> Vec<usize> {
        let of = |class: u32| {
            let rows = (0..Digits::COUNT).filter(move |&row| self.table.labels[row] == class);
            rows.skip(skip).take(samples)
        };
        classes.iter().flat_map(|&class| of(class)).collect()
    }
}

/// Puts the drawings of some digits into a picture, to be used by `#d…`: outlines of what is half ink and of what is nearly all.
pub(crate) fn define(svg: &mut Svg, digits: &Digits, which: impl Iterator<Item = usize>) {
    let mut which: Vec<usize> = which.collect();
    which.sort_unstable();
    which.dedup();
    let middles: Vec<f64> = (0..Digits::SIDE).map(|at| at as f64 * 10.0 + 5.0).collect();
    svg.raw("<defs>");
    for index in which {
        let image = digits.image(index);
        let values: Vec<f64> = image.iter().map(|&it| f64::from(it)).collect();
        let grid = Grid {
            xs: &middles,
            ys: &middles,
            values: &values,
        };
        let mut drawing = format!(r#"<symbol id="d{index}" viewBox="0 0 80 80">"#);
        for (level, opacity) in [(4.0, 0.45), (8.0, 0.85)] {
            let outlines = regions(&grid, level);
            let path: String = outlines.iter().map(|it| rounded(it)).collect();
            drawing += &format!(r#"<path class="ink" fill-opacity="{opacity}" d="{path}"/>"#);
        }
        svg.raw(&(drawing + "</symbol>"));
    }
    svg.raw("</defs>");
}

/// A closed line whose corners are rounded: a curve from the middle of each side to the middle of the next, in whole units.
fn rounded(points: &[(f64, f64)]) -> String {
    let whole = |x: f64, y: f64| (x.round() as i64, y.round() as i64);
    let middle = |at: usize| {
        let ((x, y), (x2, y2)) = (points[at], points[(at + 1) % points.len()]);
        whole(f64::midpoint(x, x2), f64::midpoint(y, y2))
    };
    let (mut x, mut y) = middle(points.len() - 1);
    let mut path = format!("M{x} {y}");
    for (at, &(corner_x, corner_y)) in points.iter().enumerate() {
        let ((cx, cy), (x2, y2)) = (whole(corner_x, corner_y), middle(at));
        path += &format!("q{} {} {} {}", cx - x, cy - y, x2 - x, y2 - y);
        (x, y) = (x2, y2);
    }
    path + "z"
}
