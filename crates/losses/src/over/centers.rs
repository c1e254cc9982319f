//! Rows, the centers of classes, and what they are to one another.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::{DType, Device, Result, Tensor, Var};
use nearfar_core::{Error, Fraction, Purpose, Rng, Seed, position_of_name, shape};
use nearfar_kernels::{l2_normalize, log_softmax, safe_sqrt};
use serde::{Deserialize, Serialize};

/// What rows and the centers of all classes are to one another.
#[derive(Clone, Debug)]
pub struct ToCenters {
    /// Cosines (or what else the loss compares by): `(n, c)`, or `(n, c, k)` where a class has `k` centers and `k > 1`.
    pub cosine: Tensor,
    /// 1 (of u8) in the column of a row's own class, else 0: `(n, c)`.
    pub own: Tensor,
    /// The rows, `(n, d)`.
    pub rows: Tensor,
    /// The centers, `(c · k, d)`; those of one class lie together.
    pub centers: Tensor,
    /// How many training samples each class has; empty where nobody said.
    pub class_sizes: Vec<u64>,
    /// How much of each label is spread over all classes, or over those of its super-class.
    pub label_smoothing: Fraction,
    /// The super-class of each class, within which labels are smoothed; empty where they are smoothed over all.
    pub super_classes: Vec<u32>,
}

impl ToCenters {
    /// Cosines of rows `(n, d)` with centers `(c · k, d)`, and a mask of the rows' classes. No labels: nobody's class is known.
    ///
    /// # Errors
    /// When the widths differ, `k` does not divide the number of centers, or a label has no center.
    pub fn new(rows: &Tensor, centers: &Tensor, k: usize, labels: &[u32]) -> Result<Self> {
        let cosine = l2_normalize(rows)?.matmul(&l2_normalize(centers)?.t()?)?;
        Self::of(cosine, rows, centers, k, labels)
    }

    /// The same with what is given in place of cosines, `(n, c · k)`.
    pub(crate) fn of(
        cosine: Tensor,
        rows: &Tensor,
        centers: &Tensor,
        k: usize,
        labels: &[u32],
    ) -> Result<Self> {
        let (n, all) = shape::matrix("centers", ("comparison with rows", &cosine))?;
        if k == 0 || all % k != 0 {
            Err(Error::Shape(format!(
                "there are {all} centers, which are not {k} for each class"
            )))?;
        }
        let classes = all / k;
        let mut own = vec![0u8; n * classes];
        for (row, &label) in labels.iter().enumerate() {
            if row >= n || label as usize >= classes {
                Err(Error::Input(format!(
                    "row {row} of {n} has label {label}, but there are {classes} classes"
                )))?;
            }
            own[row * classes + label as usize] = 1;
        }
        Ok(Self {
            own: Tensor::from_vec(own, (n, classes), cosine.device())?,
            cosine: if k == 1 {
                cosine
            } else {
                cosine.reshape((n, classes, k))?
            },
            rows: rows.clone(),
            centers: centers.clone(),
            class_sizes: Vec::new(),
            label_smoothing: Fraction::literal(0.0),
            super_classes: Vec::new(),
        })
    }

    /// Lengths of the rows, `(n, 1)`. A row of zeros has length 0 and no gradient.
    ///
    /// # Errors
    /// Those of candle.
    pub fn row_lengths(&self) -> Result<Tensor> {
        safe_sqrt(&self.rows.sqr()?.sum_keepdim(1)?)
    }

    /// Lengths of the centers, `(1, c · k)`.
    ///
    /// # Errors
    /// Those of candle.
    pub fn center_lengths(&self) -> Result<Tensor> {
        safe_sqrt(&self.centers.sqr()?.sum_keepdim(1)?)?.t()
    }

    /// Of numbers for each class, `(n, c)`, that of each row's own: `(n)`; 0 where no class is its own.
    ///
    /// # Errors
    /// When the shape is another.
    pub fn of_own(&self, x: &Tensor) -> Result<Tensor> {
        shape::same("of own", ("numbers", x), ("own", &self.own))?;
        self.own.where_cond(x, &x.zeros_like()?)?.sum(1)
    }

    /// Numbers for each class, `(n, c)`, with those of the rows' own classes replaced, `(n)`.
    ///
    /// # Errors
    /// When a shape is another.
    pub fn with_own(&self, x: &Tensor, own: &Tensor) -> Result<Tensor> {
        shape::same("with own", ("numbers", x), ("own", &self.own))?;
        self.own
            .where_cond(&own.unsqueeze(1)?.broadcast_as(x.shape())?.contiguous()?, x)
    }

    /// Cross-entropy of each row, `(n)`, of logits `(n, c)`.
    ///
    /// ```text
    /// −(1 − ε) log p_own − ε · mean of log p_c over all classes c (or those of the own super-class)
    /// p = softmax of the logits,   ε = label_smoothing
    /// ```
    ///
    /// # Errors
    /// When the logits are of another shape.
    pub fn cross_entropy(&self, logits: &Tensor) -> Result<Tensor> {
        shape::same("cross-entropy", ("logits", logits), ("own", &self.own))?;
        let log_p = log_softmax(logits)?;
        let own = self.of_own(&log_p)?.neg()?;
        match self.label_smoothing.get() {
            0.0 => Ok(own),
            smoothing => (own * (1.0 - smoothing))? - (self.mean_around(&log_p)? * smoothing)?,
        }
    }

    /// Of numbers for each class, `(n, c)`, their mean over all classes, or over those of each row's super-class: `(n)`.
    fn mean_around(&self, x: &Tensor) -> Result<Tensor> {
        if self.super_classes.is_empty() {
            return x.mean(1);
        }
        let (_, c) = x.dims2()?;
        shape::length(
            "super-classes",
            ("super-classes", self.super_classes.len()),
            ("classes", c),
        )?;
        let mut places = BTreeMap::new();
        for &group in &self.super_classes {
            let next = places.len();
            places.entry(group).or_insert(next);
        }
        let g = places.len();
        let (mut within, mut sizes) = (vec![0f32; c * g], vec![0f32; g]);
        for (class, group) in self.super_classes.iter().enumerate() {
            within[class * g + places[group]] = 1.0;
            sizes[places[group]] += 1.0;
        }
        let on = |numbers: Vec<f32>, size: (usize, usize)| {
            Tensor::from_vec(numbers, size, x.device())?.to_dtype(x.dtype())
        };
        let within = on(within, (c, g))?;
        let group = self.own.to_dtype(x.dtype())?.matmul(&within)?; // (n, g)
        let sums = x.matmul(&within)?.broadcast_div(&on(sizes, (1, g))?)?;
        (sums * group)?.sum(1)
    }
}

/// How class centers start, `(c · k, d)`, by name and seed.
///
/// Of most losses only the direction of a center counts; then its first length says how fast it turns: the longer, the slower.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CenterStart {
    /// Normal, of deviation 1.
    Normal,
    /// Normal, of deviation 0.01 (insightface).
    Small,
    /// Normal, of deviation `√(2 / (c k))` (He et al. 2015, by the number of centers).
    KaimingNormal,
    /// Uniform within `1 / √(c k)` (the usual start of a linear layer, by the number of centers).
    KaimingUniform,
    /// Normal, of deviation `√(2 / (c k + d))` (Glorot, Bengio 2010).
    XavierNormal,
    /// Uniform within `√(6 / (c k + d))` (Glorot, Bengio 2010).
    XavierUniform,
    /// Uniform within 1, then of length 1.
    Unit,
}

impl CenterStart {
    /// `(c · k, d)` numbers.
    fn numbers(self, centers: usize, width: usize, rng: &mut Rng) -> Vec<f64> {
        let (c, d) = (centers as f64, width as f64);
        let normal = |deviation: f64, rng: &mut Rng| -> Vec<f64> {
            (0..centers * width)
                .map(|_| deviation * rng.normal())
                .collect()
        };
        let uniform = |bound: f64, rng: &mut Rng| -> Vec<f64> {
            (0..centers * width)
                .map(|_| rng.uniform_between(-bound, bound))
                .collect()
        };
        match self {
            Self::Normal => normal(1.0, rng),
            Self::Small => normal(0.01, rng),
            Self::KaimingNormal => normal((2.0 / c).sqrt(), rng),
            Self::KaimingUniform => uniform(1.0 / c.sqrt(), rng),
            Self::XavierNormal => normal((2.0 / (c + d)).sqrt(), rng),
            Self::XavierUniform => uniform((6.0 / (c + d)).sqrt(), rng),
            Self::Unit => {
                let mut numbers = uniform(1.0, rng);
                for row in numbers.chunks_mut(width) {
                    let length = row.iter().map(|x| x * x).sum::<f64>().sqrt();
                    if length > 0.0 {
                        row.iter_mut().for_each(|x| *x /= length);
                    }
                }
                numbers
            }
        }
    }

    /// A parameter that starts so; `name` is its full name.
    pub(crate) fn var(
        self,
        (centers, width): (usize, usize),
        name: &str,
        seed: Seed,
        dtype: DType,
        device: &Device,
    ) -> Result<Var> {
        let mut rng = seed.rng(Purpose::Init, position_of_name(name));
        let numbers = self.numbers(centers, width, &mut rng);
        let numbers = Tensor::from_vec(numbers, (centers, width), &Device::Cpu)?;
        Var::from_tensor(&numbers.to_dtype(dtype)?.to_device(device)?)
    }
}

/// Which of the rows look like mistakes, by the sub-centers of their classes: see [`outliers`].
#[derive(Clone, Debug, PartialEq)]
pub struct Outliers {
    /// Rows farther from their class's dominant center than allowed, ascending.
    pub rows: Vec<usize>,
    /// For each class among the labels, ascending, the number of its dominant center, from 0.
    pub dominant: Vec<(u32, usize)>,
}

/// Rows that lie far from where most of their class lies.
///
/// Of the `k` centers of a class, that to which most of its rows are nearest is dominant (the first of several). A row whose
/// angle to it is above `degrees` is an outlier: a wrong label, or a hard sample. Deng et al. 2020 drop those above 75° and
/// train again with one center a class.
///
/// # Errors
/// When the shapes or labels do not fit.
pub fn outliers(
    rows: &Tensor,
    centers: &Tensor,
    k: usize,
    labels: &[u32],
    degrees: f64,
) -> Result<Outliers> {
    shape::length("outliers", ("labels", labels.len()), ("rows", rows.dim(0)?))?;
    let to = ToCenters::new(rows, centers, k, labels)?;
    let (n, classes) = to.own.dims2()?;
    let cosine = to
        .cosine
        .reshape((n, classes * k))?
        .to_dtype(DType::F64)?
        .to_vec2::<f64>()?;
    let own = |row: usize| &cosine[row][labels[row] as usize * k..][..k];
    let lowest = degrees.to_radians().cos();
    let mut found = Outliers {
        rows: Vec::new(),
        dominant: Vec::new(),
    };
    for label in labels.iter().copied().collect::<BTreeSet<u32>>() {
        let members: Vec<usize> = (0..n).filter(|&row| labels[row] == label).collect();
        let mut counts = vec![0usize; k];
        for &row in &members {
            counts[first_of_largest(own(row))] += 1;
        }
        let counts: Vec<f64> = counts.into_iter().map(|count| count as f64).collect();
        let dominant = first_of_largest(&counts);
        found.dominant.push((label, dominant));
        let far = members.iter().filter(|&&row| own(row)[dominant] < lowest);
        found.rows.extend(far);
    }
    found.rows.sort_unstable();
    Ok(found)
}

/// The place of the largest; the first of several.
fn first_of_largest(numbers: &[f64]) -> usize {
    let mut best = 0;
    for (place, number) in numbers.iter().enumerate() {
        if *number > numbers[best] {
            best = place;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoothed_labels_give_a_share_to_every_class() -> Result<()> {
        let rows = Tensor::new(&[[1f64, 0.0]], &Device::Cpu)?;
        let centers = Tensor::new(&[[1f64, 0.0], [0.0, 1.0]], &Device::Cpu)?;
        let mut to = ToCenters::new(&rows, &centers, 1, &[0])?;
        let logits = Tensor::new(&[[3f64.ln(), 0.0]], &Device::Cpu)?; // ¾ and ¼.
        let plain = to.cross_entropy(&logits)?.to_vec1::<f64>()?;
        assert!((plain[0] - (4.0f64 / 3.0).ln()).abs() < 1e-15);
        to.label_smoothing = Fraction::literal(0.2);
        let smooth = to.cross_entropy(&logits)?.to_vec1::<f64>()?;
        let wanted = 0.9 * (4.0f64 / 3.0).ln() + 0.1 * 4.0f64.ln();
        assert!((smooth[0] - wanted).abs() < 1e-15);
        Ok(())
    }

    #[test]
    fn labels_are_smoothed_within_their_super_class() -> Result<()> {
        let logits = Tensor::new(&[[1f64, 2.0, -1.0], [0.5, 0.0, 3.0]], &Device::Cpu)?;
        let rows = Tensor::new(&[[1f64], [1.0]], &Device::Cpu)?;
        let centers = Tensor::new(&[[1f64], [1.0], [1.0]], &Device::Cpu)?;
        let mut to = ToCenters::new(&rows, &centers, 1, &[0, 1])?;
        to.label_smoothing = Fraction::literal(0.2);
        to.super_classes = vec![7, 4, 7];
        let found = to.cross_entropy(&logits)?.to_vec1::<f64>()?;
        let log_p = log_softmax(&logits)?.to_vec2::<f64>()?;
        let wanted = [
            -0.8 * log_p[0][0] - 0.2 * (log_p[0][0] + log_p[0][2]) / 2.0,
            -log_p[1][1], // Alone in its super-class.
        ];
        for (found, wanted) in found.iter().zip(wanted) {
            assert!((found - wanted).abs() < 1e-12, "{found} {wanted}");
        }
        to.super_classes = vec![7];
        assert!(to.cross_entropy(&logits).is_err());
        Ok(())
    }

    #[test]
    fn starts_have_the_spread_that_they_say() -> Result<()> {
        let of = |start: CenterStart| -> Result<Vec<f64>> {
            let var = start.var((200, 50), "centers", Seed(1), DType::F64, &Device::Cpu)?;
            var.flatten_all()?.to_vec1::<f64>()
        };
        for (start, deviation) in [
            (CenterStart::Normal, 1.0),
            (CenterStart::Small, 0.01),
            (CenterStart::KaimingNormal, 0.1),
            (CenterStart::KaimingUniform, (1.0f64 / 600.0).sqrt()),
            (CenterStart::XavierNormal, (2.0f64 / 250.0).sqrt()),
            (CenterStart::XavierUniform, (2.0f64 / 250.0).sqrt()),
            (CenterStart::Unit, (1.0f64 / 50.0).sqrt()),
        ] {
            let numbers = of(start)?;
            let square = numbers.iter().map(|x| x * x).sum::<f64>() / numbers.len() as f64;
            assert!((square.sqrt() / deviation - 1.0).abs() < 0.03, "{start:?}");
        }
        Ok(())
    }

    #[test]
    fn a_row_far_from_where_its_class_lies_is_an_outlier() -> Result<()> {
        let centers = [[1f64, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]];
        let centers = Tensor::new(&centers, &Device::Cpu)?; // Two of class 0, two of class 1.
        let rows = [[1f64, 0.1], [1.0, -0.1], [0.1, 1.0], [-0.1, -1.0]];
        let rows = Tensor::new(&rows, &Device::Cpu)?;
        let found = outliers(&rows, &centers, 2, &[0, 0, 0, 1], 75.0)?;
        assert_eq!(found.rows, [2], "84° from the first center of its class");
        assert_eq!(found.dominant, [(0, 0), (1, 1)]);
        Ok(())
    }
}
