//! Each row finds its own answer among all answers.

use candle_core::{Result, Tensor};
use nearfar_core::Positive;
use nearfar_kernels::log_softmax;
use serde::{Deserialize, Serialize};

use super::answers::{Seeking, Seen, seeking_loss};

/// Wants the answer of each row more similar to it than the answers of all other rows of the batch.
///
/// ```text
/// l_i = −log softmax_j(scale · s(a_i, p_j))_i
/// ```
///
/// With `symmetric` each answer also seeks its row, and the two losses are averaged. All other answers are negatives, even where
/// they would be right: keep the same question, or the same answer, from being twice in a batch, or take [`gist`](crate::Gist).
/// Where there are more answers than rows (a third view), those behind the rows' own are hard negatives of all. With one row and
/// one answer the loss is 0. Reads two views of each row; takes no miner.
///
/// Source: Henderson et al., "Efficient Natural Language Response Suggestion for Smart Reply", 2017,
/// <https://arxiv.org/abs/1705.00652>, section 4.4; `MultipleNegativesRankingLoss` of sentence-transformers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MultipleNegativesRanking {
    /// What similarities are multiplied by.
    pub scale: Positive,
    /// Whether answers seek their rows too.
    pub symmetric: bool,
}

impl Default for MultipleNegativesRanking {
    /// Those of sentence-transformers.
    fn default() -> Self {
        Self {
            scale: Positive::literal(20.0),
            symmetric: false,
        }
    }
}

seeking_loss!(MultipleNegativesRanking);

impl Seeking for MultipleNegativesRanking {
    fn parts(&self) -> &'static [&'static str] {
        &["list"]
    }

    fn values(&self, seen: &Seen<'_>) -> Result<Vec<Option<Tensor>>> {
        let logits = (seen.similarity.matrix(seen.rows, seen.answers)? * self.scale.get())?;
        let own = seen.own()?;
        let sought = |logits: &Tensor| -> Result<Tensor> {
            log_softmax(logits)?.gather(&own, 1)?.squeeze(1)?.neg()
        };
        let mut values = sought(&logits)?;
        if self.symmetric {
            let back = logits.narrow(1, 0, seen.rows.dim(0)?)?.t()?.contiguous()?;
            values = ((values + sought(&back)?)? * 0.5)?;
        }
        Ok(vec![Some(values)])
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
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

    #[test]
    fn further_answers_are_hard_negatives_of_all_rows() -> Result<()> {
        let side = |rows: &[f64], start: u64| -> Result<Embeddings> {
            let n = rows.len();
            let vectors = Tensor::from_slice(rows, (n, 1), &Device::Cpu)?;
            Embeddings::new(vectors, Vec::new(), (start..start + n as u64).collect())
        };
        let (rows, answers) = (side(&[1.0, 2.0], 0)?, side(&[3.0, 1.0, -1.0], 10)?);
        let loss = MultipleNegativesRanking {
            scale: Positive::literal(1.0),
            symmetric: true,
        };
        let join = Join {
            similarity: Some(Box::new(Dot)),
            ..Join::default()
        };
        let loss = loss.build("multiple_negatives_ranking", join)?;
        let mut rng = Seed(0).rng(Purpose::Mining, 0);
        let terms = loss.terms(&Comparison::between(&rows, &answers), &mut rng)?;
        let values = terms[0]
            .values
            .as_ref()
            .expect("two rows")
            .to_vec1::<f64>()?;
        let log_sum = |x: &[f64]| x.iter().map(|x| x.exp()).sum::<f64>().ln();
        // The first row sees 3, 1 and −1, its answer the rows at 3 and 6.
        let wanted = 0.5 * (log_sum(&[3.0, 1.0, -1.0]) - 3.0 + log_sum(&[3.0, 6.0]) - 3.0);
        assert!((values[0] - wanted).abs() < 1e-12, "{} {wanted}", values[0]);
        let too_few = loss.evaluate(&Comparison::between(&answers, &rows), &mut rng);
        let error = too_few.expect_err("three rows, two answers").to_string();
        assert!(
            error.contains("3 rows") && error.contains("2 answers"),
            "{error}"
        );
        Ok(())
    }
}
