//! Any function of two rows, for every row with every row.

use std::fmt::Debug;

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, DType, Device, Layout, Result, Shape, Tensor, bail};
use pulp::{Simd, WithSimd};

use crate::differences::{check, transpose};
use crate::host::{by_type, give, read, serves, slice};
use crate::lanes::Element;
use crate::slices::{dispatch, run};

/// Numbers that one task goes through.
const TASK: usize = 1 << 17;
/// Rows of the other side that stay in the cache while the rows of a task go by.
const BLOCK: usize = 64;
/// What one number costs, in multiplications of a matrix product.
const COST: usize = 8;

/// A function of two rows and its derivative: what [`row_pairs`] computes for every pair, without an `(n, m, d)`.
///
/// Rows come as f64 whatever the tensors hold, so that sums keep their digits and powers do not overflow. Mark the
/// functions `#[inline(always)]`: what is inlined is compiled for the instruction set of the machine.
pub trait RowPair: Clone + Debug + Send + Sync + 'static {
    /// What it must know of a row besides its numbers, such as its mean; computed once for each row.
    type Known: Copy + Send + Sync;

    /// Its name, for messages.
    fn name(&self) -> &'static str;

    /// What it must know of a row.
    fn know(&self, row: &[f64]) -> Self::Known;

    /// The value of two rows.
    fn value(&self, x: RowOf<'_, Self::Known>, y: RowOf<'_, Self::Known>) -> f64;

    /// Adds `gradient` times the derivative by `x` to `pulled`. `value` is the value, rounded to what the tensors hold.
    fn pull(
        &self,
        x: RowOf<'_, Self::Known>,
        y: RowOf<'_, Self::Known>,
        value: f64,
        gradient: f64,
        pulled: &mut [f64],
    );

    /// The same by `y`. Of a symmetric function it is [`pull`](Self::pull) with the rows exchanged.
    #[inline(always)]
    fn pull_other(
        &self,
        x: RowOf<'_, Self::Known>,
        y: RowOf<'_, Self::Known>,
        value: f64,
        gradient: f64,
        pulled: &mut [f64],
    ) {
        self.pull(y, x, value, gradient, pulled);
    }
}

/// A row, and what is [known](RowPair::know) of it.
#[derive(Clone, Copy, Debug)]
pub struct RowOf<'a, K> {
    /// Its numbers.
    pub numbers: &'a [f64],
    /// What is known of it.
    pub known: K,
}

/// A function of every row of `x` with every row of `y`: `(n, d), (m, d) → (n, m)`.
///
/// On the CPU no `(n, m, d)` is made, there or back: beside the result there is a copy of the rows in f64. Sums are in a
/// fixed order, so the result has the same bits for any number of threads. A finite value that f32 cannot hold becomes
/// its largest number. Tensors of other devices and number types go through the CPU, as f32, and back.
///
/// # Errors
///
/// If the shapes are not `(n, d)` and `(m, d)`, or the number types differ.
pub fn row_pairs<F: RowPair>(x: &Tensor, y: &Tensor, function: &F) -> Result<Tensor> {
    check(function.name(), x, y)?;
    through_cpu(x, y, |x, y| {
        let way = Way::Every;
        x.apply_op2(
            y,
            Op {
                function: function.clone(),
                way,
            },
        )
    })
}

/// The same of row `i` of `x` with row `i` of `y`: `(n, d), (n, d) → (n)`.
///
/// # Errors
///
/// If the shapes are not the same `(n, d)`, or the number types differ.
pub fn paired_rows<F: RowPair>(x: &Tensor, y: &Tensor, function: &F) -> Result<Tensor> {
    check(function.name(), x, y)?;
    if x.dim(0)? != y.dim(0)? {
        bail!(
            "{}: `x` has {} rows, `y` {}; they must agree",
            function.name(),
            x.dim(0)?,
            y.dim(0)?
        );
    }
    through_cpu(x, y, |x, y| {
        let way = Way::Paired;
        x.apply_op2(
            y,
            Op {
                function: function.clone(),
                way,
            },
        )
    })
}

fn through_cpu(
    x: &Tensor,
    y: &Tensor,
    f: impl FnOnce(&Tensor, &Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    if serves(x) {
        return f(&x.contiguous()?, &y.contiguous()?);
    }
    let dtype = match x.dtype() {
        DType::F64 => DType::F64,
        _ => DType::F32,
    };
    let moved = |x: &Tensor| x.to_device(&Device::Cpu)?.to_dtype(dtype)?.contiguous();
    let result = f(&moved(x)?, &moved(y)?)?;
    result.to_dtype(x.dtype())?.to_device(x.device())
}

/// Which rows meet.
#[derive(Clone, Copy)]
enum Way {
    Every,
    Paired,
}

struct Op<F> {
    function: F,
    way: Way,
}

impl<F: RowPair> CustomOp2 for Op<F> {
    fn name(&self) -> &'static str {
        self.function.name()
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_at: &Layout,
        y: &CpuStorage,
        y_at: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let ((n, d), (m, _)) = (x_at.shape().dims2()?, y_at.shape().dims2()?);
        by_type!(x.dtype(), self.function.name(), T => {
            let x = Known::of(&self.function, slice::<T>(x, x_at)?, n, d);
            let y = Known::of(&self.function, slice::<T>(y, y_at)?, m, d);
            Ok(match self.way {
                Way::Every => give(every::<T, F>(&self.function, &x, &y), (n, m)),
                Way::Paired => give(paired::<T, F>(&self.function, &x, &y), n),
            })
        })
    }

    fn bwd(
        &self,
        x: &Tensor,
        y: &Tensor,
        value: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let ((n, d), m) = (x.dims2()?, y.dim(0)?);
        by_type!(x.dtype(), self.function.name(), T => {
            let rows = |x: &Tensor, n| read::<T, _>(x, |x| Ok(Known::of(&self.function, x, n, d)));
            let (known, others) = (rows(x, n)?, rows(y, m)?);
            let (to_x, to_y) = read::<T, _>(value, |value| read(gradient, |gradient| {
                let f = &self.function;
                Ok(match self.way {
                    Way::Every => {
                        let turned = |x: &[T]| {
                            let mut turned = vec![T::ZERO; x.len()];
                            transpose(x, n, m, &mut turned);
                            turned
                        };
                        let to_x = pull::<T, F, false>(f, &known, &others, value, gradient, m);
                        let (value, gradient) = (turned(value), turned(gradient));
                        (to_x, pull::<T, F, true>(f, &others, &known, &value, &gradient, n))
                    }
                    Way::Paired => (
                        pull_paired::<T, F, false>(f, &known, &others, value, gradient),
                        pull_paired::<T, F, true>(f, &others, &known, value, gradient),
                    ),
                })
            }))?;
            Ok((Some(Tensor::from_vec(to_x, (n, d), x.device())?), Some(Tensor::from_vec(to_y, (m, d), x.device())?)))
        })
    }
}

/// Rows in f64, and what is known of each.
struct Known<K> {
    numbers: Vec<f64>,
    known: Vec<K>,
    d: usize,
}

impl<K: Copy> Known<K> {
    fn of<T: Element, F: RowPair<Known = K>>(function: &F, x: &[T], n: usize, d: usize) -> Self {
        let numbers: Vec<f64> = x.iter().map(|x| x.to_f64()).collect();
        let known = (0..n).map(|i| function.know(&numbers[i * d..(i + 1) * d]));
        Self {
            known: known.collect(),
            numbers,
            d,
        }
    }

    #[inline(always)]
    fn row(&self, i: usize) -> RowOf<'_, K> {
        RowOf {
            numbers: &self.numbers[i * self.d..(i + 1) * self.d],
            known: self.known[i],
        }
    }

    fn len(&self) -> usize {
        self.known.len()
    }
}

/// A number as the tensor holds it; one that is too large for it becomes the largest.
#[inline(always)]
fn narrow<T: Element>(x: f64) -> T {
    let narrowed = T::from_f64(x);
    if x.is_finite() && !narrowed.to_f64().is_finite() {
        return T::from_f64(f64::from(f32::MAX).copysign(x));
    }
    narrowed
}

/// How many rows of `d` numbers meet `m` others in one task.
fn rows_of_a_task(m: usize, d: usize) -> usize {
    (TASK / (m * d).max(1)).max(8)
}

fn every<T: Element, F: RowPair>(f: &F, x: &Known<F::Known>, y: &Known<F::Known>) -> Vec<T> {
    let (n, m) = (x.len(), y.len());
    let mut values = vec![T::ZERO; n * m];
    if values.is_empty() {
        return values;
    }
    let size = rows_of_a_task(m, x.d);
    let tasks = values.chunks_mut(size * m).enumerate().collect();
    run(n * m * x.d * COST, tasks, |(task, values)| {
        dispatch(Every {
            f,
            x,
            y,
            from: task * size,
            values,
        });
    });
    values
}

struct Every<'a, T, F: RowPair> {
    f: &'a F,
    x: &'a Known<F::Known>,
    y: &'a Known<F::Known>,
    from: usize,
    values: &'a mut [T],
}

impl<T: Element, F: RowPair> WithSimd for Every<'_, T, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let m = self.y.len();
        for block in (0..m).step_by(BLOCK) {
            let others = block..m.min(block + BLOCK);
            for (i, values) in self.values.chunks_exact_mut(m).enumerate() {
                let x = self.x.row(self.from + i);
                for j in others.clone() {
                    values[j] = narrow(self.f.value(x, self.y.row(j)));
                }
            }
        }
    }
}

fn paired<T: Element, F: RowPair>(f: &F, x: &Known<F::Known>, y: &Known<F::Known>) -> Vec<T> {
    (0..x.len())
        .map(|i| narrow(f.value(x.row(i), y.row(i))))
        .collect()
}

/// What the rows of `y` pull on each row of `x`; if `OTHER`, the rows of `x` are the second arguments.
fn pull<T: Element, F: RowPair, const OTHER: bool>(
    f: &F,
    x: &Known<F::Known>,
    y: &Known<F::Known>,
    values: &[T],
    gradients: &[T],
    m: usize,
) -> Vec<T> {
    let d = x.d;
    let mut pulled = vec![T::ZERO; x.numbers.len()];
    if pulled.is_empty() || m == 0 {
        return pulled;
    }
    let size = rows_of_a_task(m, d);
    let tasks = pulled.chunks_mut(size * d).enumerate().collect();
    run(x.len() * m * d * COST, tasks, |(task, pulled)| {
        dispatch(Pull::<T, F, OTHER> {
            f,
            x,
            y,
            values,
            gradients,
            from: task * size,
            pulled,
        });
    });
    pulled
}

struct Pull<'a, T, F: RowPair, const OTHER: bool> {
    f: &'a F,
    x: &'a Known<F::Known>,
    y: &'a Known<F::Known>,
    values: &'a [T],
    gradients: &'a [T],
    from: usize,
    pulled: &'a mut [T],
}

impl<T: Element, F: RowPair, const OTHER: bool> WithSimd for Pull<'_, T, F, OTHER> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let (m, d) = (self.y.len(), self.x.d);
        let mut sums = vec![0.0; self.pulled.len()];
        for block in (0..m).step_by(BLOCK) {
            let others = block..m.min(block + BLOCK);
            for (i, sums) in sums.chunks_exact_mut(d).enumerate() {
                let i = self.from + i;
                let x = self.x.row(i);
                for j in others.clone() {
                    // After mining most are zero.
                    let gradient = self.gradients[i * m + j];
                    if gradient == T::ZERO {
                        continue;
                    }
                    let (value, gradient) = (self.values[i * m + j].to_f64(), gradient.to_f64());
                    if OTHER {
                        self.f.pull_other(self.y.row(j), x, value, gradient, sums);
                    } else {
                        self.f.pull(x, self.y.row(j), value, gradient, sums);
                    }
                }
            }
        }
        for (pulled, &sum) in self.pulled.iter_mut().zip(&sums) {
            *pulled = narrow(sum);
        }
    }
}

fn pull_paired<T: Element, F: RowPair, const OTHER: bool>(
    f: &F,
    x: &Known<F::Known>,
    y: &Known<F::Known>,
    values: &[T],
    gradients: &[T],
) -> Vec<T> {
    let d = x.d;
    let mut sums = vec![0.0; x.numbers.len()];
    for i in 0..x.len() {
        let (value, gradient) = (values[i].to_f64(), gradients[i].to_f64());
        let sums = &mut sums[i * d..(i + 1) * d];
        if gradient == 0.0 {
            continue;
        }
        if OTHER {
            f.pull_other(y.row(i), x.row(i), value, gradient, sums);
        } else {
            f.pull(x.row(i), y.row(i), value, gradient, sums);
        }
    }
    sums.into_iter().map(narrow).collect()
}

#[cfg(test)]
mod tests {
    use candle_core::Var;

    use super::*;
    use crate::test_util::{check_agreement, check_gradient, noise};

    /// `Σ x_k² y_k`, which is not symmetric, with the sum of a row as what is known of it.
    #[derive(Clone, Debug)]
    struct Skew;

    impl RowPair for Skew {
        type Known = f64;

        fn name(&self) -> &'static str {
            "skew"
        }

        fn know(&self, row: &[f64]) -> f64 {
            row.iter().sum()
        }

        #[inline(always)]
        fn value(&self, x: RowOf<'_, f64>, y: RowOf<'_, f64>) -> f64 {
            assert_eq!(x.known, x.numbers.iter().sum::<f64>());
            let pairs = x.numbers.iter().zip(y.numbers);
            pairs.map(|(x, y)| x * x * y).sum()
        }

        #[inline(always)]
        fn pull(
            &self,
            x: RowOf<'_, f64>,
            y: RowOf<'_, f64>,
            _: f64,
            gradient: f64,
            pulled: &mut [f64],
        ) {
            for (k, pulled) in pulled.iter_mut().enumerate() {
                *pulled += gradient * 2.0 * x.numbers[k] * y.numbers[k];
            }
        }

        #[inline(always)]
        fn pull_other(
            &self,
            x: RowOf<'_, f64>,
            _: RowOf<'_, f64>,
            _: f64,
            gradient: f64,
            pulled: &mut [f64],
        ) {
            for (k, pulled) in pulled.iter_mut().enumerate() {
                *pulled += gradient * x.numbers[k] * x.numbers[k];
            }
        }
    }

    #[test]
    fn every_pair_is_there_and_back_as_by_matrix_products() -> Result<()> {
        for (n, m, d) in [
            (0, 3, 2),
            (3, 0, 2),
            (2, 3, 0),
            (1, 1, 1),
            (5, 70, 3),
            (130, 9, 17),
        ] {
            let inputs = [noise((n, d), 1)?, noise((m, d), 2)?];
            let ours = |x: &[Tensor]| row_pairs(&x[0], &x[1], &Skew);
            let theirs = |x: &[Tensor]| x[0].sqr()?.matmul(&x[1].t()?);
            if d > 0 {
                check_agreement(ours, theirs, &inputs, 1e-13)?;
            } else {
                assert_eq!(ours(&inputs)?.to_vec2::<f64>()?, [[0.0; 3]; 2]);
            }
        }
        let inputs = [noise((4, 3), 3)?, noise((4, 3), 4)?];
        check_gradient(|x| paired_rows(&x[0], &x[1], &Skew), &inputs, 1e-7)?;
        check_gradient(|x| row_pairs(&x[0], &x[0], &Skew), &inputs[..1], 1e-7)
    }

    #[test]
    fn half_numbers_go_through_f32_and_keep_their_gradient() -> Result<()> {
        let x =
            Var::from_tensor(&Tensor::new(&[[1f32, 2.0]], &Device::Cpu)?.to_dtype(DType::BF16)?)?;
        let y = Tensor::new(&[[3f32, 1.0]], &Device::Cpu)?.to_dtype(DType::BF16)?;
        let value = row_pairs(&x, &y, &Skew)?;
        assert_eq!(value.dtype(), DType::BF16);
        let gradients = value.backward()?;
        let gradient = gradients.get(&x).expect("it depends on it");
        let gradient = gradient.to_dtype(DType::F32)?.to_vec2::<f32>()?;
        assert_eq!(gradient, [[6.0, 4.0]]);
        Ok(())
    }

    #[test]
    fn the_number_of_threads_does_not_change_a_bit() -> Result<()> {
        let on = |threads: usize| -> Result<Vec<u64>> {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .expect("a pool of threads");
            pool.install(|| {
                let x = Var::from_tensor(&noise((300, 20), 5)?)?;
                let y = Var::from_tensor(&noise((250, 20), 6)?)?;
                let values = row_pairs(&x, &y, &Skew)?;
                let gradients = (&values * noise((300, 250), 7)?)?.sum_all()?.backward()?;
                let mut bits = Vec::new();
                let gradient = |x: &Var| gradients.get(x).expect("it depends on both").clone();
                for tensor in [values.clone(), gradient(&x), gradient(&y)] {
                    let numbers = tensor.flatten_all()?.to_vec1::<f64>()?;
                    bits.extend(numbers.into_iter().map(f64::to_bits));
                }
                Ok(bits)
            })
        };
        const { assert!(300 * 250 * 20 * COST > crate::slices::PARALLEL_WORK) };
        assert!(rows_of_a_task(250, 20) < 300, "there is one task only");
        assert_eq!(on(1)?, on(3)?);
        Ok(())
    }

    #[test]
    fn what_f32_cannot_hold_is_its_largest_number() -> Result<()> {
        let x = Tensor::new(&[[1e20f32], [-1e20]], &Device::Cpu)?;
        let values = row_pairs(&x, &x, &Skew)?.to_vec2::<f32>()?;
        assert_eq!(values[0], [f32::MAX, -f32::MAX]);
        let message = paired_rows(&x, &x.narrow(0, 0, 1)?, &Skew).expect_err("2 and 1");
        assert!(message.to_string().contains("2 rows, `y` 1"));
        Ok(())
    }
}
