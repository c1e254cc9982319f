//! Each row finds its own answer among those that a guide does not take for right as well.

use candle_core::{DType, Result, Tensor};
use nearfar_core::{Error, NonNegative, Positive, shape};
use nearfar_kernels::{EMPTY, l2_normalize, log_softmax};
use serde::{Deserialize, Serialize};

use super::answers::{Seeking, Seen, seeking_loss};

/// [`multiple_negatives_ranking`](crate::MultipleNegativesRanking) without the negatives that a guide finds nearer than the answer.
///
/// ```text
/// l_i = −log( e^(s(a_i, p_i)/τ) / (e^(s(a_i, p_i)/τ) + Σ e^(s/τ)) )     over the negatives that are kept:
///       s(a_i, p_j) and, with contrast_rows, s(a_i, a_j), with contrast_answers, s(p_i, p_j),   j ≠ i
/// kept where g ≤ g(a_i, p_i) − margin            (relative: g ≤ (1 − margin) g(a_i, p_i))
/// ```
///
/// `g` is the guide's cosine of the same two: what it finds as near as the answer, or nearer, is likely right too, and is no
/// negative. The guide never has a gradient. Its vectors are those called `guide` among what the encoders give beside the
/// embeddings ([`Embeddings::extra`](nearfar_core::Embeddings)), of both sides: another, frozen model of the same inputs. Where
/// there are none, the embeddings guide themselves, so that it works from a run file alone: then no negative that is nearer than
/// the answer pushes, which wants an encoder that was trained before, and `margin` keeps further ones out.
///
/// Where there are more answers than rows (a third view), those behind the rows' own are negatives of all. Where the guide keeps
/// none the loss of a row is 0. Reads two views of each row; takes no miner.
///
/// Source: Solatorio, "GISTEmbed: Guided In-sample Selection of Training Negatives for Text Embedding Fine-tuning", 2024,
/// <https://arxiv.org/abs/2402.16829>, equations 2 to 5; `GISTEmbedLoss` of sentence-transformers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gist {
    /// Smaller looks more closely at the nearest.
    pub temperature: Positive,
    /// By how much less than the answer the guide must find a negative near.
    pub margin: NonNegative,
    /// Whether the margin is a part of what the answer has.
    pub relative: bool,
    /// Whether other rows are negatives too.
    pub contrast_rows: bool,
    /// Whether the answer must be far from other answers too.
    pub contrast_answers: bool,
}

impl Default for Gist {
    /// Those of sentence-transformers.
    fn default() -> Self {
        Self {
            temperature: Positive::literal(0.01),
            margin: NonNegative::literal(0.0),
            relative: false,
            contrast_rows: true,
            contrast_answers: true,
        }
    }
}

/// What the encoders call the guide's vectors.
const GUIDE: &str = "guide";

seeking_loss!(Gist);

impl Seeking for Gist {
    fn parts(&self) -> &'static [&'static str] {
        &["list"]
    }

    fn values(&self, seen: &Seen<'_>) -> Result<Vec<Option<Tensor>>> {
        let n = seen.rows.dim(0)?;
        let (guide_rows, guide_answers) = guides(seen)?;
        let own_guide = guide_answers.narrow(0, 0, n)?;
        // The same sum for the answer as for the others, so that equal vectors are equally near.
        let near = guide_rows.matmul(&guide_answers.t()?)?;
        let of_answer = near.gather(&seen.own()?, 1)?; // (n, 1)
        let most = if self.relative {
            (of_answer * (1.0 - self.margin.get()))?
        } else {
            (of_answer - self.margin.get())?
        };
        let own_answers = seen.answers.narrow(0, 0, n)?;
        // Which may be hidden, and whether the own column is the answer or the row itself.
        let mut blocks = vec![self.kept(seen, (seen.rows, seen.answers), &near, &most, true)?];
        if self.contrast_rows {
            let near = guide_rows.matmul(&guide_rows.t()?)?;
            blocks.push(self.kept(seen, (seen.rows, seen.rows), &near, &most, false)?);
        }
        if self.contrast_answers {
            let near = own_guide.matmul(&own_guide.t()?)?;
            blocks.push(self.kept(seen, (&own_answers, &own_answers), &near, &most, false)?);
        }
        let logits = Tensor::cat(&blocks, 1)?;
        let values = log_softmax(&logits)?.gather(&seen.own()?, 1)?;
        Ok(vec![Some(values.squeeze(1)?.neg()?)])
    }
}

impl Gist {
    /// Similarities over the temperature, hidden where the guide finds them too near, or where a row meets itself.
    fn kept(
        &self,
        seen: &Seen<'_>,
        (x, y): (&Tensor, &Tensor),
        near: &Tensor,
        most: &Tensor,
        own_is_answer: bool,
    ) -> Result<Tensor> {
        let logits = (seen.similarity.matrix(x, y)? / self.temperature.get())?;
        let (n, m) = logits.dims2()?;
        let too_near: Vec<u8> = near.broadcast_gt(most)?.flatten_all()?.to_vec1()?;
        let hidden = too_near.iter().enumerate().map(|(place, &too_near)| {
            let own = place / m == place % m;
            u8::from(if own { !own_is_answer } else { too_near == 1 })
        });
        let hidden = Tensor::from_vec(hidden.collect::<Vec<u8>>(), (n, m), logits.device())?;
        let empty = (logits.detach().zeros_like()? + EMPTY)?;
        hidden.where_cond(&empty, &logits)
    }
}

/// The guide's vectors of rows and of answers, at length 1.
fn guides(seen: &Seen<'_>) -> Result<(Tensor, Tensor)> {
    let (anchors, references) = (seen.comparison.anchors, seen.comparison.references);
    let (x, y) = match (anchors.extra.get(GUIDE), references.extra.get(GUIDE)) {
        (Some(x), Some(y)) => (x, y),
        (None, None) => (seen.rows, seen.answers),
        (rows, _) => {
            let (with, without) = match rows {
                Some(_) => ("rows", "answers"),
                None => ("answers", "rows"),
            };
            Err(Error::Input(format!(
                "{}: the {with} have a `{GUIDE}`, and the {without} have none",
                seen.name
            )))?
        }
    };
    for (side, guide, rows) in [("rows", x, anchors.len()), ("answers", y, references.len())] {
        let (n, _) = shape::matrix(seen.name, (GUIDE, guide))?;
        shape::length(seen.name, (GUIDE, n), (side, rows))?;
    }
    let unit = |rows: &Tensor| l2_normalize(&rows.detach().to_dtype(DType::F64)?.contiguous()?);
    Ok((unit(x)?, unit(y)?))
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};
    use nearfar_core::{Comparison, Embeddings, Purpose, Seed};

    use super::*;
    use crate::{BatchLoss, Join};

    #[derive(Debug)]
    struct Dot;

    impl nearfar_core::Similarity for Dot {
        fn matrix(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
            x.matmul(&y.t()?)
        }
        fn paired(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
            (x * y)?.sum(1)
        }
    }

    fn side(vectors: &Tensor, guide: Option<[[f64; 2]; 3]>, start: u64) -> Result<Embeddings> {
        let mut side = Embeddings::new(vectors.clone(), Vec::new(), (start..start + 3).collect())?;
        if let Some(guide) = guide {
            let guide = Tensor::new(&guide, &Device::Cpu)?;
            side.extra.insert(GUIDE.into(), guide);
        }
        Ok(side)
    }

    #[test]
    fn what_the_guide_finds_as_right_is_no_negative() -> Result<()> {
        let gist = Gist {
            temperature: Positive::literal(1.0),
            contrast_rows: false,
            contrast_answers: false,
            ..Gist::default()
        };
        let build = |gist: &Gist| {
            let join = Join {
                similarity: Some(Box::new(Dot)),
                dtype: DType::F64,
                ..Join::default()
            };
            gist.build("gist", join)
        };
        let x = Var::new(&[[1f64], [2.0], [0.5]], &Device::Cpu)?;
        let y = Tensor::new(&[[1f64], [0.5], [2.0]], &Device::Cpu)?;
        // The guide has the second answer nearer to the first row than its own.
        let rows = side(&x, Some([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]), 0)?;
        let answers = side(&y, Some([[0.6, 0.8], [1.0, 0.0], [0.0, 1.0]]), 10)?;
        let value = |gist: &Gist, rows: &Embeddings, answers: &Embeddings| -> Result<Vec<f64>> {
            let mut rng = Seed(0).rng(Purpose::Mining, 0);
            let terms = build(gist)?.terms(&Comparison::between(rows, answers), &mut rng)?;
            terms[0].values.as_ref().expect("three rows").to_vec1()
        };
        let log_sum = |x: &[f64]| x.iter().map(|x| x.exp()).sum::<f64>().ln();
        let found = value(&gist, &rows, &answers)?;
        assert!(
            (found[0] - (log_sum(&[1.0, 2.0]) - 1.0)).abs() < 1e-12,
            "{found:?}"
        );
        // The second row's answer is orthogonal to it for the guide, and both others are nearer: nothing is left.
        assert!(found[1].abs() < 1e-12);
        assert!((found[2] - (log_sum(&[1.0, 0.5, 0.25]) - 1.0)).abs() < 1e-12);
        // A margin of 0.9 takes the first answer, at 0.8, from the third row; relative, all below 0.1 · 1 are kept.
        let wide = Gist {
            margin: NonNegative::literal(0.9),
            ..gist.clone()
        };
        let found = value(&wide, &rows, &answers)?;
        assert!((found[2] - (log_sum(&[1.0, 0.25]) - 1.0)).abs() < 1e-12);
        let error = value(&gist, &rows, &side(&y, None, 10)?).expect_err("one guide");
        assert!(
            error.to_string().contains("the answers have none"),
            "{error}"
        );
        // Without a guide the embeddings are their own, and it has no gradient of its own.
        let (rows, answers) = (side(&x, None, 0)?, side(&y, None, 10)?);
        let all = Gist {
            temperature: Positive::literal(1.0),
            ..Gist::default()
        };
        assert!(
            value(&all, &rows, &answers)?
                .iter()
                .all(|it| it.is_finite())
        );
        Ok(())
    }
}
