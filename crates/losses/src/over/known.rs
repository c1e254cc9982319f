//! Values whose gradients are known as soon as they are: they were counted on the host, or block by block.

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, Var};

/// A value with its gradient with respect to `x`.
///
/// `values` is a scalar, or one for each row of `x`, of which each depends on its own row alone; `gradient` has the shape of
/// `x`.
pub(crate) fn known(x: &Tensor, values: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    let (values, gradient) = (values.detach(), gradient.detach());
    if x.device().is_cpu() && matches!(x.dtype(), DType::F32 | DType::F64) {
        return x.contiguous()?.apply_op1(Known { values, gradient });
    }
    // Elsewhere as the tangent plane through the point, whose gradient is the same.
    let over = |x: &Tensor| -> Result<Tensor> {
        let products = (x * &gradient)?;
        match values.rank() {
            0 => products.sum_all(),
            _ => products.flatten_from(1)?.sum(1),
        }
    };
    over(x)? + (&values - over(&x.detach())?)?
}

/// Numbers of the host as such values: of a matrix, row-major.
pub(crate) fn known_from(matrix: &Tensor, value: f64, gradient: Vec<f64>) -> Result<Tensor> {
    let value = Tensor::new(value, matrix.device())?.to_dtype(matrix.dtype())?;
    known(matrix, &value, &like(matrix, gradient)?)
}

/// One number for each row of a matrix.
pub(crate) fn known_rows_from(
    matrix: &Tensor,
    values: Vec<f64>,
    gradient: Vec<f64>,
) -> Result<Tensor> {
    let count = values.len();
    let values = Tensor::from_vec(values, count, &candle_core::Device::Cpu)?;
    let values = values
        .to_dtype(matrix.dtype())?
        .to_device(matrix.device())?;
    known(matrix, &values, &like(matrix, gradient)?)
}

fn like(matrix: &Tensor, numbers: Vec<f64>) -> Result<Tensor> {
    Tensor::from_vec(numbers, matrix.shape(), &candle_core::Device::Cpu)?
        .to_dtype(matrix.dtype())?
        .to_device(matrix.device())
}

/// The numbers of a tensor on the host, row-major, without a gradient.
pub(crate) fn host(tensor: &Tensor) -> Result<Vec<f64>> {
    tensor
        .detach()
        .to_dtype(DType::F64)?
        .flatten_all()?
        .to_vec1::<f64>()
}

/// `Σ f(inputs, block)` over blocks, in the memory of one: each block's gradient is taken as soon as its value is known.
///
/// `f` gives a scalar, or none where a block adds nothing. None of all blocks gives none.
pub(crate) fn blockwise<B>(
    inputs: &[&Tensor],
    blocks: impl IntoIterator<Item = B>,
    mut f: impl FnMut(&[Tensor], B) -> Result<Option<Tensor>>,
) -> Result<Option<Tensor>> {
    let vars: Vec<Var> = inputs
        .iter()
        .map(|input| Var::from_tensor(&input.detach()))
        .collect::<Result<_>>()?;
    let points: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let mut total: Option<Tensor> = None;
    let mut gradients: Vec<Tensor> = points
        .iter()
        .map(Tensor::zeros_like)
        .collect::<Result<_>>()?;
    for block in blocks {
        let Some(value) = f(&points, block)? else {
            continue;
        };
        let store = value.backward()?;
        for (sum, point) in gradients.iter_mut().zip(&points) {
            if let Some(gradient) = store.get(point) {
                *sum = (&*sum + gradient)?;
            }
        }
        let value = value.detach();
        total = Some(match total {
            None => value,
            Some(sum) => (sum + value)?,
        });
    }
    let Some(total) = total else {
        return Ok(None);
    };
    let mut sum: Option<Tensor> = None;
    for (input, gradient) in inputs.iter().zip(&gradients) {
        let value = match sum {
            None => total.clone(),
            Some(_) => total.zeros_like()?,
        };
        let part = known(input, &value, gradient)?;
        sum = Some(match sum {
            None => part,
            Some(sum) => (sum + part)?,
        });
    }
    Ok(sum)
}

struct Known {
    values: Tensor,
    gradient: Tensor,
}

impl CustomOp1 for Known {
    fn name(&self) -> &'static str {
        "known"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        let flat = self.values.flatten_all()?;
        let storage = match flat.dtype() {
            DType::F32 => CpuStorage::F32(flat.to_vec1()?),
            _ => CpuStorage::F64(flat.to_dtype(DType::F64)?.to_vec1()?),
        };
        Ok((storage, self.values.shape().clone()))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, pull: &Tensor) -> Result<Option<Tensor>> {
        let pull = match pull.rank() {
            0 => pull.clone(),
            _ => {
                let mut shape = vec![1; self.gradient.rank()];
                shape[0] = pull.elem_count();
                pull.reshape(shape)?
            }
        };
        Ok(Some(self.gradient.broadcast_mul(&pull)?))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use nearfar_kernels::test_util::check_agreement;

    use super::*;

    #[test]
    fn values_and_gradients_are_those_that_were_given() -> Result<()> {
        let x = Tensor::new(&[[1f64, 2.0], [3.0, -1.0]], &Device::Cpu)?;
        let rows = |x: &[Tensor]| {
            let values = vec![5.0, 10.0]; // Sums of squares.
            known_rows_from(&x[0], values, vec![2.0, 4.0, 6.0, -2.0])
        };
        let inputs = std::slice::from_ref(&x);
        check_agreement(rows, |x| x[0].sqr()?.sum(1), inputs, 1e-15)?;
        let all = |x: &[Tensor]| known_from(&x[0], 15.0, vec![2.0, 4.0, 6.0, -2.0]);
        check_agreement(all, |x| x[0].sqr()?.sum_all(), inputs, 1e-15)?;
        let blocks = |x: &[Tensor]| {
            let sum = blockwise(&[&x[0]], 0..2usize, |x, row| {
                Ok(Some(x[0].get(row)?.sqr()?.sum_all()?))
            });
            Ok(sum?.expect("two blocks"))
        };
        check_agreement(blocks, |x| x[0].sqr()?.sum_all(), inputs, 1e-15)
    }
}
