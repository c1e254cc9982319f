//! Losses of pairs.

use nearfar_core::{Finite, Loss, Reducer};
use nearfar_losses::{Contrastive, OverPairs, PairForm};

use super::{Kind, Parts};
use crate::golden::{Mapped, Settings, Trouble};
use crate::mapper::metric::Metric;

pub(super) struct Pairs;

impl Kind for Pairs {
    fn names(&self) -> &'static [&'static str] {
        &["ContrastiveLoss"]
    }

    fn metric(&self, _: &str) -> Metric {
        Metric::LP
    }

    fn reducer(&self, _: &str) -> Reducer {
        Reducer::AvgNonzero {}
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
            other => return Err(Trouble::unmapped(format!("the loss {other}"))),
        })
    }
}
