//! How terms become one number.

use candle_core::{DType, Result, Tensor};
use serde::{Deserialize, Serialize};

use crate::{Error, Part, Terms, Unit};

/// How the terms of one part of a loss become one number. A closed set: the semantics are those of pytorch-metric-learning 2.9.
///
/// A part without a term is nothing to learn, under every reducer. A term for the [whole batch](Unit::Batch) is left as it is.
/// A value that is not a number stays one: no reducer drops it in silence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Reducer {
    /// The mean of all terms.
    Mean {},
    /// Their sum.
    Sum {},
    /// The mean of the terms above zero; nothing to learn where there is none.
    AvgNonzero {},
    /// The mean of the terms `low < v < high`; nothing to learn where there is none. A bound that is left out does not bind.
    Threshold {
        /// Terms must be above it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        low: Option<f64>,
        /// Terms must be below it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        high: Option<f64>,
    },
    /// The mean of each term times the weight of its anchor's class. Divides by the number of terms, not by the sum of the weights.
    ClassWeighted {
        /// One for each class.
        weights: Vec<f64>,
    },
    /// The sum divided by what the loss gives as its divisor; nothing to learn where that is zero.
    Divisor {},
    /// Tuples are averaged for each anchor, then over all rows of the batch; rows without a tuple count as zero.
    PerAnchor {
        /// The second average: over all rows, or over those above zero.
        #[serde(default)]
        then: Then,
    },
    /// No reduction: another word for [`Loss::terms`](crate::Loss::terms). A run file, which needs one number, refuses it.
    None {},
}

/// The second average of [`Reducer::PerAnchor`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// Over all rows.
    #[default]
    Mean,
    /// Over the rows above zero.
    AvgNonzero,
}

impl Reducer {
    /// Every reducer with its defaults, in the order of the documentation.
    pub fn all() -> Vec<Self> {
        vec![
            Self::Mean {},
            Self::Sum {},
            Self::AvgNonzero {},
            Self::Threshold {
                low: None,
                high: None,
            },
            Self::ClassWeighted {
                weights: Vec::new(),
            },
            Self::Divisor {},
            Self::PerAnchor { then: Then::Mean },
            Self::None {},
        ]
    }

    /// Terms to one part.
    ///
    /// # Errors
    /// [`Error::Settings`] when a class has no weight, when the loss gives no divisor, and for [`Reducer::None`].
    pub fn reduce(&self, terms: &Terms) -> Result<Part> {
        let nothing = Part {
            name: terms.name,
            value: None,
            terms: terms.len(),
            active: 0,
        };
        let Some(values) = terms
            .values
            .as_ref()
            .filter(|values| values.elem_count() > 0)
        else {
            return Ok(nothing);
        };
        let positive = values.detach().le(0f64)?.eq(0u8)?; // Not `gt`: a NaN counts as active and stays in sight.
        let active = positive
            .to_dtype(DType::U32)?
            .sum_all()?
            .to_scalar::<u32>()? as usize;
        let part = |value: Tensor| Part {
            value: Some(value),
            active,
            ..nothing.clone()
        };
        let mean_of = |values: &Tensor, mask: &Tensor| -> Result<Option<Tensor>> {
            let count = mask.to_dtype(DType::U32)?.sum_all()?.to_scalar::<u32>()?;
            if count == 0 {
                return Ok(None);
            }
            Ok(Some(
                (mask.where_cond(values, &values.zeros_like()?)?.sum_all()? / f64::from(count))?,
            ))
        };
        if let Self::None {} = self {
            Err(Error::Settings(
                "the reducer `none` gives no number to minimize; choose another, such as `mean`"
                    .into(),
            ))?;
        }
        if terms.unit == Unit::Batch {
            return Ok(part(values.sum_all()?));
        }
        Ok(match self {
            Self::Mean {} => part(values.mean_all()?),
            Self::Sum {} => part(values.sum_all()?),
            Self::AvgNonzero {} => match mean_of(values, &positive)? {
                Some(value) => part(value),
                None => nothing,
            },
            Self::Threshold { low, high } => {
                let mut inside = values.ones_like()?.to_dtype(DType::U8)?;
                // A NaN is on neither side of a bound, so it is inside.
                if let Some(low) = low {
                    inside = (inside * values.detach().le(*low)?.eq(0u8)?)?;
                }
                if let Some(high) = high {
                    inside = (inside * values.detach().ge(*high)?.eq(0u8)?)?;
                }
                match mean_of(values, &inside)? {
                    Some(value) => part(value),
                    None => nothing,
                }
            }
            Self::ClassWeighted { weights } => {
                let weights = terms
                    .anchors
                    .iter()
                    .map(|&anchor| {
                        let label = terms.labels.get(anchor as usize).copied().ok_or_else(|| {
                            Error::Settings("the reducer `class_weighted` needs rows with classes, and these have none".into())
                        })?;
                        weights.get(label as usize).copied().ok_or_else(|| {
                            Error::Settings(format!("the reducer `class_weighted` has {} weights, but there is a class {label}", weights.len()))
                        })
                    })
                    .collect::<std::result::Result<Vec<f64>, Error>>()?;
                let weights = Tensor::from_vec(weights, terms.len(), values.device())?
                    .to_dtype(values.dtype())?;
                part((values * weights)?.mean_all()?)
            }
            Self::Divisor {} => match terms.divisor {
                None => Err(Error::Settings(format!(
                    "the reducer `divisor` needs a loss that gives a divisor, and `{}` gives none",
                    terms.name
                )))?,
                Some(0.0) => nothing,
                Some(divisor) => part((values.sum_all()? / divisor)?),
            },
            Self::PerAnchor { then } => {
                let averages = match terms.unit {
                    Unit::Anchor => values.clone(),
                    _ => averages_by_anchor(values, &terms.anchors, terms.rows)?,
                };
                match then {
                    Then::Mean => part(averages.mean_all()?),
                    Then::AvgNonzero => {
                        match mean_of(&averages, &averages.detach().le(0f64)?.eq(0u8)?)? {
                            Some(value) => part(value),
                            None => nothing,
                        }
                    }
                }
            }
            Self::None {} => unreachable!("answered above"),
        })
    }
}

/// The mean of each anchor's terms, `(rows)`; zero where an anchor has none.
fn averages_by_anchor(values: &Tensor, anchors: &[u32], rows: usize) -> Result<Tensor> {
    let mut counts = vec![0f64; rows];
    for &anchor in anchors {
        counts[anchor as usize] += 1.0;
    }
    let counts = Tensor::from_vec(
        counts.into_iter().map(|count| count.max(1.0)).collect(),
        rows,
        values.device(),
    )?
    .to_dtype(values.dtype())?;
    let index = Tensor::from_vec(anchors.to_vec(), anchors.len(), values.device())?;
    Tensor::zeros(rows, values.dtype(), values.device())?.index_add(&index, values, 0)? / counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    fn terms(values: &[f64], anchors: &[u32]) -> Terms {
        Terms {
            name: "test",
            unit: Unit::Tuple,
            values: Some(Tensor::new(values, &Device::Cpu).expect("small")),
            anchors: anchors.to_vec(),
            labels: vec![0, 1, 1],
            rows: 3,
            divisor: Some(4.0),
        }
    }

    fn reduced(reducer: &Reducer, terms: &Terms) -> Option<f64> {
        reducer
            .reduce(terms)
            .expect("reduces")
            .value
            .map(|value| value.to_scalar().expect("one number"))
    }

    #[test]
    fn each_reducer_gives_the_number_on_paper() {
        let some = terms(&[0.0, 1.0, 3.0, 4.0], &[0, 0, 1, 1]);
        assert_eq!(reduced(&Reducer::Mean {}, &some), Some(2.0));
        assert_eq!(reduced(&Reducer::Sum {}, &some), Some(8.0));
        assert_eq!(reduced(&Reducer::AvgNonzero {}, &some), Some(8.0 / 3.0));
        assert_eq!(
            reduced(
                &Reducer::Threshold {
                    low: Some(0.5),
                    high: Some(4.0)
                },
                &some
            ),
            Some(2.0)
        );
        assert_eq!(
            reduced(
                &Reducer::ClassWeighted {
                    weights: vec![1.0, 2.0]
                },
                &some
            ),
            Some((1.0 + 6.0 + 8.0) / 4.0)
        );
        assert_eq!(reduced(&Reducer::Divisor {}, &some), Some(2.0));
        assert_eq!(
            reduced(&Reducer::PerAnchor { then: Then::Mean }, &some),
            Some((0.5 + 3.5) / 3.0)
        );
        assert_eq!(
            reduced(
                &Reducer::PerAnchor {
                    then: Then::AvgNonzero
                },
                &some
            ),
            Some(2.0)
        );
        assert_eq!(Reducer::Mean {}.reduce(&some).expect("reduces").active, 3);
    }

    #[test]
    fn nothing_to_average_is_nothing_to_learn() {
        let none = Terms {
            values: None,
            ..terms(&[], &[])
        };
        for reducer in Reducer::all()
            .into_iter()
            .filter(|it| *it != Reducer::None {})
        {
            assert_eq!(reduced(&reducer, &none), None, "{reducer:?}");
        }
        assert_eq!(
            reduced(&Reducer::AvgNonzero {}, &terms(&[0.0, -1.0], &[0, 0])),
            None
        );
        assert!(Reducer::None {}.reduce(&terms(&[1.0], &[0])).is_err());
        assert!(
            Reducer::ClassWeighted { weights: vec![1.0] }
                .reduce(&terms(&[1.0], &[1]))
                .is_err()
        );
    }

    #[test]
    fn a_nan_is_not_dropped_and_inactive_terms_get_no_gradient() -> Result<()> {
        assert!(
            reduced(&Reducer::AvgNonzero {}, &terms(&[f64::NAN, 1.0], &[0, 0]))
                .expect("a value")
                .is_nan()
        );
        let values = Var::new(&[0.0, 2.0, -1.0], &Device::Cpu)?;
        let part = Reducer::AvgNonzero {}.reduce(&Terms {
            values: Some(values.as_tensor().clone()),
            ..terms(&[], &[0, 0, 0])
        })?;
        let gradients = part.value.expect("one is active").backward()?;
        assert_eq!(
            gradients
                .get(&values)
                .expect("it depends on them")
                .to_vec1::<f64>()?,
            [0.0, 1.0, 0.0]
        );
        Ok(())
    }
}
