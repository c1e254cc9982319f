//! A network that compares two images place by place.

use candle_core::{Result, Tensor};
use nearfar_core::{Embeddings, Error, Mode, PairScorer, Pairs, Parameter};
use nearfar_kernels::relu;
use serde::{Deserialize, Serialize};

use super::{MAPS, Shown, sides};
use crate::Params;
use crate::input_shape::size;
use crate::layers::{ConvBlock, ConvSettings, Linear};

/// Compares the maps of two images before they are pooled: each place of one with the neighborhood of that place in the other.
///
/// ```text
/// K(x, y) = max(0, f(x, y) − N[g](x, y))        for each channel: a place of f against k × k places of g, zeros beyond the border
/// K′                                            the same with f and g exchanged
/// K ─▶ conv k×k with stride k, filters ─▶ conv 3×3, filters ─▶ ReLU ─▶ max 2×2 ─┐
/// K′ ─▶ the same with weights of its own ───────────────────────────────────────┴─▶ hidden ─▶ ReLU ─▶ 1 = s      P(same) = σ(s)
/// ```
///
/// The `k × k` differences of a place are channels here, of which the first convolution is one of 1 × 1: no image `k` times as large is
/// made. The paper's softmax of two numbers is the logistic function of their difference, which is the one number here. The score
/// of `(y, x)` is another than that of `(x, y)`.
///
/// Compares the `maps` of `model.ahmed`, or of `model.conv4` with `maps = true`, of at least 4 × 4 places. It is no embedding: each pair
/// is a pass through the network, and a search orders only its first neighbors by it, with `evaluation.rerank`.
///
/// Names: `summary.0.conv.weight` of `K`, `summary.1.conv.weight` of `K′`, likewise `across.0`, `across.1`, then `hidden.weight`,
/// `score.weight`, each with a bias.
///
/// Source: Ahmed, Jones, Marks, "An Improved Deep Learning Architecture for Person Re-Identification", CVPR 2015, section 3.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CrossInput {
    /// Side `k` of the neighborhood, odd.
    pub neighborhood: usize,
    /// Channels of both convolutions.
    pub filters: usize,
    /// Units of the full layer.
    pub hidden: usize,
}

impl Default for CrossInput {
    /// Those of the paper.
    fn default() -> Self {
        Self {
            neighborhood: 5,
            filters: 25,
            hidden: 500,
        }
    }
}

const fn plain(kernel: usize, relu: bool, pool: usize) -> ConvSettings {
    ConvSettings {
        kernel,
        padding: 0,
        norm: None,
        relu,
        pool,
    }
}

const SUMMARY: ConvSettings = plain(1, false, 1);
const ACROSS: ConvSettings = plain(3, true, 2);

/// What one side is compared by.
#[derive(Debug)]
struct Branch {
    summary: ConvBlock,
    across: ConvBlock,
}

#[derive(Debug)]
struct Network {
    neighborhood: usize,
    maps: [usize; 3],
    branches: [Branch; 2],
    hidden: Linear,
    score: Linear,
    params: Params,
}

impl CrossInput {
    pub(super) const READS_MAPS: bool = true;

    /// The network for maps of a size, with its parameters made in `params`.
    ///
    /// # Errors
    /// [`Error::Settings`] when there are no maps or they are too small, and for sizes out of range.
    pub fn build(&self, shown: Shown, params: &Params) -> Result<impl PairScorer + use<>> {
        let k = size("cross_input", "neighborhood", self.neighborhood)?;
        let filters = size("cross_input", "filters", self.filters)?;
        if k.is_multiple_of(2) || k > 31 {
            Err(Error::Settings(format!(
                "cross_input: `neighborhood` is {k}; an odd number up to 31 is wanted, with the place itself in the middle"
            )))?;
        }
        let Some(maps @ [channels, rows, columns]) = shown.maps else {
            return Err(Error::Settings(
                "cross_input compares maps of two images, and the model gives none; take `model.ahmed`, or `model.conv4` with `maps = true`"
                    .into(),
            ))?;
        };
        let (Some(high), Some(wide)) = (ACROSS.output(rows), ACROSS.output(columns)) else {
            return Err(Error::Settings(format!(
                "cross_input: maps of {rows} × {columns} places are too small; at least 4 × 4 are needed: take larger images, or fewer \
                 poolings before the maps"
            )))?;
        };
        let branch = |index: usize| -> Result<Branch> {
            let differences = channels.saturating_mul(k * k);
            let place = |name: &str| params.at(name).at(index);
            Ok(Branch {
                summary: ConvBlock::new(&place("summary"), differences, filters, SUMMARY)?,
                across: ConvBlock::new(&place("across"), filters, filters, ACROSS)?,
            })
        };
        let hidden = size("cross_input", "hidden", self.hidden)?;
        Ok(Network {
            neighborhood: k,
            maps,
            branches: [branch(0)?, branch(1)?],
            hidden: Linear::new(
                &params.at("hidden"),
                2 * filters * high * wide,
                hidden,
                true,
            )?,
            score: Linear::new(&params.at("score"), hidden, 1, true)?,
            params: params.clone(),
        })
    }
}

impl Network {
    fn maps<'a>(&self, side: &'a Embeddings) -> Result<&'a Tensor> {
        let maps = side.extra.get(MAPS).ok_or_else(|| {
            Error::Input("cross_input: there are no `maps` beside the embeddings".into())
        })?;
        if maps.rank() != 4 || maps.dims()[1..] != self.maps {
            Err(Error::Shape(format!(
                "cross_input: `maps` have shape {:?}, and (b, {}, {}, {}) is wanted",
                maps.dims(),
                self.maps[0],
                self.maps[1],
                self.maps[2]
            )))?;
        }
        Ok(maps)
    }

    /// Each place of `f` less the neighborhood of that place in `g`: `(t, c, h, w)` twice to `(t, c · k², h, w)`.
    fn differences(&self, f: &Tensor, g: &Tensor) -> Result<Tensor> {
        let (pairs, channels, rows, columns) = f.dims4()?;
        let (k, beyond) = (self.neighborhood, self.neighborhood / 2);
        let around = g
            .pad_with_zeros(2, beyond, beyond)?
            .pad_with_zeros(3, beyond, beyond)?;
        let mut moved = Vec::with_capacity(k * k);
        for down in 0..k {
            let strip = around.narrow(2, down, rows)?;
            for right in 0..k {
                moved.push(strip.narrow(3, right, columns)?);
            }
        }
        let neighbors = Tensor::stack(&moved, 2)?; // (t, c, k², h, w)
        let differences = relu(&f.unsqueeze(2)?.broadcast_sub(&neighbors)?)?;
        differences.reshape((pairs, channels * k * k, rows, columns))
    }
}

impl PairScorer for Network {
    fn score(
        &self,
        left: &Embeddings,
        right: &Embeddings,
        pairs: &Pairs,
        mut mode: Mode<'_>,
    ) -> Result<Tensor> {
        let (left, right) = (self.maps(left)?, self.maps(right)?);
        if pairs.is_empty() {
            return Tensor::zeros(0, self.params.dtype(), self.params.device());
        }
        let (f, g) = sides("cross_input", left, right, pairs)?;
        let mut seen = Vec::new();
        for (branch, (ours, theirs)) in self.branches.iter().zip([(&f, &g), (&g, &f)]) {
            let differences = self.differences(ours, theirs)?;
            let summary = branch.summary.forward(&differences, &mut mode)?;
            seen.push(
                branch
                    .across
                    .forward(&summary, &mut mode)?
                    .flatten_from(1)?,
            );
        }
        let hidden = self.hidden.forward(&Tensor::cat(&seen, 1)?, &mut mode)?;
        self.score.forward(&relu(&hidden)?, &mut mode)?.squeeze(1)
    }

    fn parameters(&self) -> Vec<Parameter> {
        let prefix = self.params.prefix().len();
        let named = self.params.parameters().into_iter();
        named
            .map(|it| Parameter {
                name: it.name[prefix..].to_owned(),
                ..it
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use nearfar_core::Seed;

    fn build(
        settings: &CrossInput,
        maps: Option<[usize; 3]>,
    ) -> Result<(Params, Box<dyn PairScorer>)> {
        let params = Params::new(Seed(1), DType::F32, &Device::Cpu)?;
        let scorer = settings.build(Shown { width: 3, maps }, &params)?;
        Ok((params, Box::new(scorer)))
    }

    #[test]
    fn its_parameters_are_those_of_the_paper() -> Result<()> {
        // 60 × 160 pixels become 25 maps of 12 × 37 places, and 5 × 17 after the comparison.
        let (_, scorer) = build(&CrossInput::default(), Some([25, 37, 12]))?;
        let count: usize = scorer
            .parameters()
            .iter()
            .map(|it| it.var.elem_count())
            .sum();
        let branch = 25 * 25 * 25 + 25 + 25 * 25 * 9 + 25;
        assert_eq!(
            count,
            2 * branch + (2 * 25 * 17 * 5 * 500 + 500) + (500 + 1)
        );
        Ok(())
    }

    #[test]
    fn a_place_is_compared_with_the_neighborhood_of_the_same_place() -> Result<()> {
        let params = Params::new(Seed(1), DType::F32, &Device::Cpu)?;
        let network = Network {
            neighborhood: 3,
            maps: [1, 2, 2],
            branches: [0, 1].map(|index| {
                let place = params.at(index);
                let block = |name: &str, settings| {
                    ConvBlock::new(&place.at(name), 1, 1, settings).expect("small")
                };
                Branch {
                    summary: block("summary", SUMMARY),
                    across: block("across", ACROSS),
                }
            }),
            hidden: Linear::new(&params.at("hidden"), 1, 1, true)?,
            score: Linear::new(&params.at("score"), 1, 1, true)?,
            params: params.clone(),
        };
        let map = |values: [[f32; 2]; 2]| Tensor::new(&[[values]], &Device::Cpu);
        let (f, g) = (
            map([[5.0, 0.0], [0.0, 4.0]])?,
            map([[1.0, 2.0], [3.0, 9.0]])?,
        );
        let found = network.differences(&f, &g)?;
        assert_eq!(found.dims(), [1, 9, 2, 2]);
        let at = |row: usize, column: usize| -> Result<Vec<f32>> {
            found
                .get(0)?
                .narrow(1, row, 1)?
                .narrow(2, column, 1)?
                .flatten_all()?
                .to_vec1()
        };
        // Of 5 at the corner: zeros beyond the border, then 1 2 / 3 9.
        assert_eq!(at(0, 0)?, [5.0, 5.0, 5.0, 5.0, 4.0, 3.0, 5.0, 2.0, 0.0]);
        assert_eq!(at(1, 1)?, [3.0, 2.0, 4.0, 1.0, 0.0, 4.0, 4.0, 4.0, 4.0]);
        Ok(())
    }

    #[test]
    fn what_cannot_be_is_told() -> Result<()> {
        let error = |settings: &CrossInput, maps| {
            build(settings, maps).expect_err("not possible").to_string()
        };
        let usual = CrossInput::default();
        assert!(error(&usual, None).contains("take `model.ahmed`"));
        assert!(error(&usual, Some([2, 3, 9])).contains("maps of 3 × 9 places are too small"));
        let even = CrossInput {
            neighborhood: 4,
            ..usual.clone()
        };
        assert!(error(&even, Some([2, 4, 4])).contains("an odd number"));
        let (_, scorer) = build(&usual, Some([2, 4, 4]))?;
        let rows = Embeddings::labeled(Tensor::zeros((1, 3), DType::F32, &Device::Cpu)?, vec![0])?;
        let pairs = Pairs::from_iter([(0, 0)]);
        let error = scorer
            .score(&rows, &rows, &pairs, Mode::Eval)
            .expect_err("no maps");
        assert!(error.to_string().contains("no `maps`"), "{error}");
        let mut other = rows.clone();
        other.extra.insert(
            MAPS.into(),
            Tensor::zeros((1, 2, 5, 4), DType::F32, &Device::Cpu)?,
        );
        let error = scorer
            .score(&other, &other, &pairs, Mode::Eval)
            .expect_err("other maps");
        assert!(
            error.to_string().contains("(b, 2, 4, 4) is wanted"),
            "{error}"
        );
        Ok(())
    }
}
