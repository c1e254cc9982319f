//! Distances that are functions of inner products: nearly, from products of blocks in f32, and exactly, in f64.

use std::ops::Range;

use candle_core::{Device, Tensor};
use nearfar_core::{EmbeddingTable, Gram};

use crate::error::Result;

/// A table with what its rows' distances are made of.
pub(crate) struct Rows<'a> {
    table: &'a EmbeddingTable,
    /// Whether a key is `−x·y` and not `‖x − y‖²`.
    product: bool,
    /// What each row is multiplied with: 1, or 1 over its length.
    scale: Vec<f64>,
    /// Its length after that, and the square of it.
    length: Vec<f64>,
    square: Vec<f64>,
    pub(crate) finite: Vec<bool>,
    /// Whether rows are so long that their products may not be finite in f32.
    huge: bool,
}

/// A row shorter than this is not made longer, as in torch's `normalize`.
const SHORTEST: f64 = 1e-12;

impl<'a> Rows<'a> {
    pub(crate) fn new(table: &'a EmbeddingTable, kind: Gram, unit_rows: bool) -> Self {
        let norms: Vec<f64> = (0..table.len())
            .map(|index| dot(table.row(index), table.row(index)).sqrt())
            .collect();
        let unit = unit_rows || kind == Gram::Cosine;
        let scale: Vec<f64> = norms
            .iter()
            .map(|norm| if unit { 1.0 / norm.max(SHORTEST) } else { 1.0 })
            .collect();
        let length: Vec<f64> = norms
            .iter()
            .zip(&scale)
            .map(|(norm, scale)| norm * scale)
            .collect();
        Self {
            table,
            product: matches!(kind, Gram::Cosine | Gram::Dot),
            scale,
            finite: norms.iter().map(|norm| norm.is_finite()).collect(),
            huge: length
                .iter()
                .any(|&length| length.is_finite() && length > 1e18),
            square: length.iter().map(|length| length * length).collect(),
            length,
        }
    }

    /// Columns of some rows in f32, scaled.
    fn part(&self, rows: Range<usize>, columns: Range<usize>) -> Result<Tensor> {
        let mut part = Vec::with_capacity(rows.len() * columns.len());
        for index in rows.clone() {
            let row = &self.table.row(index)[columns.clone()];
            let scale = self.scale[index];
            if scale == 1.0 {
                part.extend_from_slice(row);
            } else {
                part.extend(row.iter().map(|&value| (f64::from(value) * scale) as f32));
            }
        }
        Ok(Tensor::from_vec(
            part,
            (rows.len(), columns.len()),
            &Device::Cpu,
        )?)
    }
}

/// Columns whose products are added in f32; sums of more are f64. The bound on the rounding error grows with it.
const COLUMNS: usize = 128;

/// What is known of the keys of some rows of `x` with some of `y`.
#[derive(Default)]
pub(crate) struct Tile {
    /// Inner products, or the exact keys.
    pub(crate) values: Vec<f64>,
    exact: bool,
    /// A bound of the products' errors for rows of length 1.
    error: f64,
}

impl Tile {
    /// Compares rows.
    pub(crate) fn fill(
        &mut self,
        x: &Rows<'_>,
        x_rows: Range<usize>,
        y: &Rows<'_>,
        y_rows: Range<usize>,
    ) -> Result<()> {
        let dim = x.table.dim;
        self.values.clear();
        self.exact = x.huge || y.huge; // Products may overflow.
        if self.exact {
            for i in x_rows {
                self.values.extend(y_rows.clone().map(|j| key(x, i, y, j)));
            }
            return Ok(());
        }
        for start in (0..dim).step_by(COLUMNS) {
            let columns = start..(start + COLUMNS).min(dim);
            let products = x
                .part(x_rows.clone(), columns.clone())?
                .matmul(&y.part(y_rows.clone(), columns)?.t()?)?
                .flatten_all()?
                .to_vec1::<f32>()?;
            if start == 0 {
                self.values.extend(products.into_iter().map(f64::from));
            } else {
                for (sum, product) in self.values.iter_mut().zip(products) {
                    *sum += f64::from(product);
                }
            }
        }
        // |fl(x·y) − x·y| ≤ γ ‖x‖ ‖y‖ with γ = n u / (1 − n u) for a sum of n products in any order (Higham, "Accuracy
        // and Stability of Numerical Algorithms", section 3.1), 2 u for the rounding of scaled rows, 4 u for good measure.
        let unit = f64::from(f32::EPSILON) / 2.0;
        self.error = (dim.min(COLUMNS) as f64 + 6.0) * unit * 1.01;
        Ok(())
    }

    /// How row `i` of `x` reads its values.
    pub(crate) fn bounds(&self, x: &Rows<'_>, i: usize) -> Bounds {
        if self.exact {
            return Bounds {
                slope: 1.0,
                ..Bounds::default()
            };
        }
        let length = x.length[i];
        // Products below the smallest normal number of f32 lose more than a fraction of themselves.
        let tiny = 1e-40 + x.table.dim as f64 * 1e-44;
        if x.product {
            return Bounds {
                slope: -1.0,
                relative: self.error * length,
                absolute: tiny,
                ..Bounds::default()
            };
        }
        Bounds {
            constant: length * length,
            squares: 1.0,
            slope: -2.0,
            relative: 2.0 * self.error * length,
            absolute: 2.0 * tiny + 1e-13 * length * length,
            of_squares: 1e-13,
        }
    }
}

/// A key is `constant + squares · ‖y‖² + slope · value`, up to `absolute + relative · ‖y‖ + of_squares · ‖y‖²`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bounds {
    constant: f64,
    squares: f64,
    slope: f64,
    relative: f64,
    absolute: f64,
    of_squares: f64,
}

impl Bounds {
    /// The key of row `j` of `y`, and how far from it that can be.
    #[inline]
    pub(crate) fn about(&self, y: &Rows<'_>, j: usize, value: f64) -> (f64, f64) {
        (
            self.constant + self.squares * y.square[j] + self.slope * value,
            self.absolute + self.relative * y.length[j] + self.of_squares * y.square[j],
        )
    }

    /// Whether a row of `y` may have a key of at most `limit`; `values` are those of the rows from `start` on. It is never
    /// wrong when it says no.
    #[inline]
    #[allow(clippy::neg_cmp_op_on_partial_ord)] // `!(a > b)` holds for NaN, as it must here.
    pub(crate) fn any_within(
        &self,
        y: &Rows<'_>,
        start: usize,
        values: &[f64],
        limit: f64,
    ) -> bool {
        let squares = &y.square[start..][..values.len()];
        let lengths = &y.length[start..][..values.len()];
        // A little more error than `about` says, for the rounding of another order.
        let constant = self.constant - self.absolute * 1.01;
        let (square, relative) = (self.squares - 1.01 * self.of_squares, self.relative * 1.01);
        let mut any = false;
        for ((value, square_of), length) in values.iter().zip(squares).zip(lengths) {
            let lowest = constant + square * square_of + self.slope * value - relative * length;
            any |= !(lowest > limit);
        }
        any
    }
}

/// What rows are sorted by: `−x·y` or `‖x − y‖²` of the rows as they are compared, in f64.
pub(crate) fn key(x: &Rows<'_>, i: usize, y: &Rows<'_>, j: usize) -> f64 {
    let (a, b) = (x.table.row(i), y.table.row(j));
    let (x_scale, y_scale) = (x.scale[i], y.scale[j]);
    if x.product {
        -(dot(a, b) * (x_scale * y_scale))
    } else if x_scale == 1.0 && y_scale == 1.0 {
        squared_distance(a, b)
    } else {
        sum(a, b, |a, b| {
            let difference = f64::from(a) * x_scale - f64::from(b) * y_scale;
            difference * difference
        })
    }
}

/// The distance that a key stands for.
pub(crate) fn distance(kind: Gram, key: f64) -> f64 {
    match kind {
        Gram::Euclidean => key.sqrt(),
        Gram::Squared | Gram::Dot => key,
        Gram::Cosine => 1.0 + key,
    }
}

/// `x·y` in f64.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f64 {
    sum(a, b, |a, b| f64::from(a) * f64::from(b))
}

/// A sum over two rows in a fixed order: four running sums, so that the compiler can use vectors.
#[inline]
fn sum(a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f64) -> f64 {
    let mut sums = [0.0; 4];
    let ((a4, a_rest), (b4, b_rest)) = (a.as_chunks::<4>(), b.as_chunks::<4>());
    for (a, b) in a4.iter().zip(b4) {
        for lane in 0..4 {
            sums[lane] += term(a[lane], b[lane]);
        }
    }
    for (lane, (a, b)) in a_rest.iter().zip(b_rest).enumerate() {
        sums[lane] += term(*a, *b);
    }
    (sums[0] + sums[1]) + (sums[2] + sums[3])
}

/// `‖a − b‖²` in f64.
pub(crate) fn squared_distance(a: &[f32], b: &[f32]) -> f64 {
    sum(a, b, |a, b| {
        let difference = f64::from(a) - f64::from(b);
        difference * difference
    })
}
