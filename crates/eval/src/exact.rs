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
    /// Its length after that.
    length: Vec<f64>,
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

/// Inner products of some rows of `x` with some of `y`, in f32, and a bound of their error for rows of length 1.
pub(crate) fn products(
    x: &Rows<'_>,
    x_rows: Range<usize>,
    y: &Rows<'_>,
    y_rows: Range<usize>,
    sums: &mut Vec<f64>,
) -> Result<f64> {
    let dim = x.table.dim;
    sums.clear();
    if x.huge || y.huge {
        sums.resize(x_rows.len() * y_rows.len(), f64::NAN); // Leads to the exact key.
        return Ok(f64::NAN);
    }
    sums.resize(x_rows.len() * y_rows.len(), 0.0);
    for start in (0..dim).step_by(COLUMNS) {
        let columns = start..(start + COLUMNS).min(dim);
        let product = x
            .part(x_rows.clone(), columns.clone())?
            .matmul(&y.part(y_rows.clone(), columns)?.t()?)?
            .flatten_all()?
            .to_vec1::<f32>()?;
        for (sum, product) in sums.iter_mut().zip(product) {
            *sum += f64::from(product);
        }
    }
    // |fl(x·y) − x·y| ≤ γ ‖x‖ ‖y‖ with γ = n u / (1 − n u) for a sum of n products in any order (Higham, "Accuracy and
    // Stability of Numerical Algorithms", section 3.1), and 2 u for the rounding of scaled rows; 4 for what is left out.
    let unit = f64::from(f32::EPSILON) / 2.0;
    Ok((dim.min(COLUMNS) as f64 + 6.0) * unit * 1.01)
}

/// A key from a product, and how far from the exact key it can be.
#[inline]
pub(crate) fn about(
    x: &Rows<'_>,
    i: usize,
    y: &Rows<'_>,
    j: usize,
    product: f64,
    error: f64,
) -> (f64, f64) {
    let (x_length, y_length) = (x.length[i], y.length[j]);
    // Products below the smallest normal number of f32 lose more than a fraction of themselves.
    let error = error * x_length * y_length + 1e-40 + x.table.dim as f64 * 1e-44;
    if x.product {
        (-product, error)
    } else {
        let squares = x_length * x_length + y_length * y_length;
        (squares - 2.0 * product, 2.0 * error + 1e-13 * squares)
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
