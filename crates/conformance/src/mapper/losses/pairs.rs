//! Losses of pairs.

use nearfar_core::{Distance, Finite, Loss, NegativeSimilarity, NonNegative, Reducer};
use nearfar_losses::{
    Contrastive, IntraPairVariance, OverPairs, PairForm, SNRContrastive, ThresholdConsistentMargin,
};

use super::{Kind, Parts};
use crate::golden::{Mapped, Settings, Trouble};
use crate::mapper::metric::Metric;

pub(super) struct Pairs;

impl Kind for Pairs {
    fn names(&self) -> &'static [&'static str] {
        &[
            "ContrastiveLoss",
            "IntraPairVarianceLoss",
            "SignalToNoiseRatioContrastiveLoss",
            "ThresholdConsistentMarginLoss",
        ]
    }

    fn metric(&self, name: &str) -> Metric {
        match name {
            "ContrastiveLoss" => Metric::LP,
            "SignalToNoiseRatioContrastiveLoss" => Metric::Snr { normalize: true },
            _ => Metric::Cosine,
        }
    }

    fn reducer(&self, name: &str) -> Reducer {
        match name {
            "IntraPairVarianceLoss" => Reducer::Mean {},
            _ => Reducer::AvgNonzero {},
        }
    }

    fn build(&self, name: &str, params: &mut Settings, parts: Parts) -> Mapped<Box<dyn Loss>> {
        let Parts {
            metric,
            mining,
            reducer,
        } = parts;
        Ok(match name {
            "ContrastiveLoss" => {
                // The peer's defaults are for distances.
                let (positive, negative) = (
                    params.number_or("pos_margin", 0.0)?,
                    params.number_or("neg_margin", 1.0)?,
                );
                let loss = Contrastive {
                    form: PairForm::Linear,
                    positive_margin: Finite::new(metric.on_distance_scale(positive))?,
                    negative_margin: Finite::new(metric.on_distance_scale(negative))?,
                };
                Box::new(OverPairs {
                    mining,
                    reducer,
                    ..OverPairs::new("contrastive", loss, metric.distance())
                })
            }
            "IntraPairVarianceLoss" => {
                let loss = IntraPairVariance {
                    positive_epsilon: NonNegative::new(params.number_or("pos_eps", 0.01)?)?,
                    negative_epsilon: NonNegative::new(params.number_or("neg_eps", 0.01)?)?,
                };
                // A part of a mean is another of 1 − s.
                let distance: Box<dyn Distance> = if metric.is_similarity() {
                    Box::new(NegativeSimilarity(metric.similarity()))
                } else {
                    metric.distance()
                };
                Box::new(OverPairs {
                    mining,
                    reducer,
                    ..OverPairs::new("intra_pair_variance", loss, distance)
                })
            }
            "SignalToNoiseRatioContrastiveLoss" => {
                let loss = SNRContrastive {
                    positive_margin: Finite::new(params.number_or("pos_margin", 0.0)?)?,
                    negative_margin: Finite::new(params.number_or("neg_margin", 1.0)?)?,
                };
                Box::new(OverPairs {
                    mining,
                    reducer,
                    ..OverPairs::new("snr_contrastive", loss, metric.distance())
                })
            }
            "ThresholdConsistentMarginLoss" => {
                let loss = ThresholdConsistentMargin {
                    positive_weight: NonNegative::new(params.number_or("lambda_plus", 1.0)?)?,
                    negative_weight: NonNegative::new(params.number_or("lambda_minus", 1.0)?)?,
                    positive_margin: Finite::new(params.number_or("margin_plus", 0.9)?)?,
                    negative_margin: Finite::new(params.number_or("margin_minus", 0.5)?)?,
                };
                let distance = NegativeSimilarity(metric.similarity());
                Box::new(OverPairs {
                    mining,
                    reducer,
                    ..OverPairs::new("tcm", loss, Box::new(distance))
                })
            }
            other => return Err(Trouble::unmapped(format!("the loss {other}"))),
        })
    }
}
