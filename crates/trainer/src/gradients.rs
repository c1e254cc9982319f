//! Gradients by the names of their parameters.

use std::collections::BTreeMap;

use candle_core::backprop::GradStore;
use candle_core::{DType, Result, Tensor};
use nearfar_kernels::global_norm;

/// Gradients by the names of their parameters; everything walks them in that order, so that sums have the same bits on every run.
#[derive(Clone, Debug, Default)]
pub struct Gradients(BTreeMap<String, Tensor>);

impl Gradients {
    /// Takes the gradients of named tensors out of what `backward` gave. A tensor without one is not listed.
    pub fn take<'a>(
        store: &mut GradStore,
        tensors: impl IntoIterator<Item = (&'a str, &'a Tensor)>,
    ) -> Self {
        let taken = tensors
            .into_iter()
            .filter_map(|(name, tensor)| Some((name.to_string(), store.remove(tensor)?)));
        Self(taken.collect())
    }

    /// The gradient of a parameter, if it has one.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.0.get(name)
    }

    /// In the order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.0.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// How many parameters have one.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no parameter has one.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The Euclidean norm of all of them together. Squares are added in f64; it is not finite when a number is not.
    ///
    /// # Errors
    /// Those of candle.
    pub fn norm(&self) -> Result<f64> {
        let gradients: Vec<&Tensor> = self.0.values().collect();
        global_norm(&gradients)
    }

    /// Scales all of them so that their norm is at most `max_norm`, and returns the norm before:
    /// the factor is `min(1, max_norm / (norm + 1e-6))`, as in torch's `clip_grad_norm_`.
    ///
    /// # Errors
    /// Those of candle.
    pub fn clip_norm(&mut self, max_norm: f64) -> Result<f64> {
        let norm = self.norm()?;
        self.clip_from(norm, max_norm)?;
        Ok(norm)
    }

    /// The same where the norm is known.
    pub(crate) fn clip_from(&mut self, norm: f64, max_norm: f64) -> Result<()> {
        let factor = max_norm / (norm + 1e-6);
        if factor < 1.0 {
            self.scale(factor)?;
        }
        Ok(())
    }

    /// Clamps each number to `[-limit, limit]`, as torch's `clip_grad_value_`.
    ///
    /// # Errors
    /// Those of candle.
    pub fn clip_value(&mut self, limit: f64) -> Result<()> {
        for gradient in self.0.values_mut() {
            *gradient = gradient.clamp(-limit, limit)?;
        }
        Ok(())
    }

    /// Multiplies all of them.
    ///
    /// # Errors
    /// Those of candle.
    pub fn scale(&mut self, factor: f64) -> Result<()> {
        for gradient in self.0.values_mut() {
            *gradient = (&*gradient * factor)?;
        }
        Ok(())
    }

    /// Adds others; a parameter that has one in only one of the two has that.
    ///
    /// # Errors
    /// When shapes differ.
    pub fn add(&mut self, others: Self) -> Result<()> {
        for (name, other) in others.0 {
            let sum = match self.0.get(&name) {
                Some(own) => (own + other)?,
                None => other,
            };
            self.0.insert(name, sum);
        }
        Ok(())
    }

    /// The names of those with a number that is not finite.
    ///
    /// # Errors
    /// Those of candle.
    pub fn not_finite(&self) -> Result<Vec<&str>> {
        let mut names = Vec::new();
        for (name, gradient) in &self.0 {
            if !all_finite(gradient)? {
                names.push(name.as_str());
            }
        }
        Ok(names)
    }
}

impl FromIterator<(String, Tensor)> for Gradients {
    fn from_iter<I: IntoIterator<Item = (String, Tensor)>>(gradients: I) -> Self {
        Self(gradients.into_iter().collect())
    }
}

impl IntoIterator for Gradients {
    type Item = (String, Tensor);
    type IntoIter = std::collections::btree_map::IntoIter<String, Tensor>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// Whether all numbers are finite: `0 · x` is zero for those that are, and NaN for others.
pub(crate) fn all_finite(tensor: &Tensor) -> Result<bool> {
    let tensor = tensor.detach();
    let residue = (tensor * 0.0)?.sum_all()?;
    Ok(numbers(&[residue])?[0] == 0.0)
}

/// Scalars on the host, in one transfer.
pub(crate) fn numbers(scalars: &[Tensor]) -> Result<Vec<f64>> {
    let flat = scalars
        .iter()
        .map(|scalar| scalar.detach().reshape(()))
        .collect::<Result<Vec<_>>>()?;
    let stacked = Tensor::stack(&flat, 0)?;
    if stacked.dtype() == DType::F64 {
        return stacked.to_vec1();
    }
    let numbers = stacked.to_dtype(DType::F32)?.to_vec1::<f32>()?;
    Ok(numbers.into_iter().map(f64::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn gradients(numbers: &[(&str, &[f32])]) -> Gradients {
        numbers
            .iter()
            .map(|(name, numbers)| {
                let tensor = Tensor::new(*numbers, &Device::Cpu).expect("small");
                (name.to_string(), tensor)
            })
            .collect()
    }

    #[test]
    fn clipping_keeps_the_direction() -> Result<()> {
        let mut long = gradients(&[("a", &[3.0]), ("b", &[0.0, 4.0])]);
        assert_eq!(long.clip_norm(1.0)?, 5.0);
        let factor = (1.0 / (5.0 + 1e-6)) as f32;
        assert_eq!(
            long.get("a").expect("listed").to_vec1::<f32>()?,
            [3.0 * factor]
        );
        assert_eq!(
            long.get("b").expect("listed").to_vec1::<f32>()?,
            [0.0, 4.0 * factor]
        );
        let mut short = gradients(&[("a", &[3.0]), ("b", &[0.0, 4.0])]);
        assert_eq!(short.clip_norm(6.0)?, 5.0);
        assert_eq!(short.get("a").expect("listed").to_vec1::<f32>()?, [3.0]);
        let mut none = gradients(&[("a", &[0.0])]);
        assert_eq!(none.clip_norm(1.0)?, 0.0);
        assert_eq!(none.get("a").expect("listed").to_vec1::<f32>()?, [0.0]);
        Ok(())
    }

    #[test]
    fn large_numbers_have_a_norm() -> Result<()> {
        // Their squares do not fit in f32.
        assert!((gradients(&[("a", &[3e30]), ("b", &[4e30])]).norm()? / 5e30 - 1.0).abs() < 1e-6);
        Ok(())
    }

    #[test]
    fn what_is_not_finite_is_named() -> Result<()> {
        let bad = gradients(&[
            ("a", &[1.0]),
            ("b", &[1.0, f32::NAN]),
            ("c", &[f32::INFINITY]),
        ]);
        assert_eq!(bad.not_finite()?, ["b", "c"]);
        assert!(!bad.norm()?.is_finite());
        assert!(
            gradients(&[("a", &[f32::MAX, f32::MAX])])
                .not_finite()?
                .is_empty()
        );
        Ok(())
    }

    #[test]
    fn adding_keeps_those_that_only_one_has() -> Result<()> {
        let mut sum = gradients(&[("a", &[1.0])]);
        sum.add(gradients(&[("a", &[2.0]), ("b", &[5.0])]))?;
        assert_eq!(sum.get("a").expect("listed").to_vec1::<f32>()?, [3.0]);
        assert_eq!(sum.get("b").expect("listed").to_vec1::<f32>()?, [5.0]);
        Ok(())
    }
}
