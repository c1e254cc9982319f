//! Which places of padded maps are real.

use candle_core::{Device, Result, Tensor};

/// How many rows of each map `(b, c, t, m)` are real; those behind are padding. A convolution that reads zeros there gives what it
/// would give without padding, so maps are made zero there before each layer that looks at neighbors.
#[derive(Clone, Debug)]
pub(crate) struct Valid {
    lengths: Vec<u32>,
}

impl Valid {
    pub(crate) fn new(lengths: &[u32]) -> Self {
        Self {
            lengths: lengths.to_vec(),
        }
    }

    /// The same behind a layer that goes by so many rows and keeps the size otherwise: `⌈length / stride⌉`.
    pub(crate) fn by(&self, stride: usize) -> Self {
        let stride = u32::try_from(stride).unwrap_or(u32::MAX);
        Self {
            lengths: self.lengths.iter().map(|it| it.div_ceil(stride)).collect(),
        }
    }

    pub(crate) fn lengths(&self) -> &[u32] {
        &self.lengths
    }

    /// Maps with zeros where there is padding.
    pub(crate) fn keep(&self, maps: Tensor) -> Result<Tensor> {
        let rows = maps.dim(2)?;
        if self.lengths.iter().all(|&it| it as usize >= rows) {
            return Ok(maps);
        }
        let flags = self
            .lengths
            .iter()
            .flat_map(|&length| (0..rows).map(move |row| u8::from(row < length as usize)));
        let shape = (self.lengths.len(), 1, rows, 1);
        let mask = Tensor::from_vec(flags.collect(), shape, &Device::Cpu)?
            .to_device(maps.device())?
            .broadcast_as(maps.shape())?;
        mask.where_cond(&maps, &maps.zeros_like()?) // A product would keep NaN.
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_becomes_zero_and_lengths_shrink_with_the_stride() -> Result<()> {
        let valid = Valid::new(&[3, 1]);
        assert_eq!(valid.by(2).lengths(), [2, 1]);
        let maps = Tensor::full(f32::NAN, (2, 1, 3, 1), &Device::Cpu)?;
        let kept = valid.keep(maps)?.flatten_all()?.to_vec1::<f32>()?;
        let real: Vec<bool> = kept.iter().map(|it| it.is_nan()).collect();
        assert_eq!(real, [true, true, true, true, false, false]);
        assert_eq!(kept[4..], [0.0, 0.0]);
        Ok(())
    }
}
