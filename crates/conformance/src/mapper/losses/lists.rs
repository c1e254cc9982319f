//! Losses of an anchor and all it is compared with.

use nearfar_core::{Finite, Loss, Positive, Reducer};
use nearfar_losses::{MultiSimilarity, NTXent, OverLists};

use super::{Kind, Parts};
use crate::golden::{Mapped, Settings, Trouble};
use crate::mapper::metric::Metric;

pub(super) struct Lists;

impl Kind for Lists {
    fn names(&self) -> &'static [&'static str] {
        &["MultiSimilarityLoss", "NTXentLoss"]
    }

    fn metric(&self, _: &str) -> Metric {
        Metric::Cosine
    }

    fn reducer(&self, _: &str) -> Reducer {
        Reducer::Mean {}
    }

    fn build(&self, name: &str, params: &mut Settings, parts: Parts) -> Mapped<Box<dyn Loss>> {
        let Parts {
            metric,
            mining,
            reducer,
        } = parts;
        Ok(match name {
            "MultiSimilarityLoss" => {
                let loss = MultiSimilarity {
                    alpha: Positive::new(params.number_or("alpha", 2.0)?)?,
                    beta: Positive::new(params.number_or("beta", 50.0)?)?,
                    base: Finite::new(metric.on_similarity_scale(params.number_or("base", 0.5)?))?,
                };
                Box::new(OverLists {
                    mining,
                    reducer,
                    ..OverLists::new("multi_similarity", loss, metric.similarity())
                })
            }
            "NTXentLoss" => {
                let loss = NTXent {
                    temperature: Positive::new(params.number_or("temperature", 0.07)?)?,
                };
                Box::new(OverLists {
                    mining,
                    reducer,
                    ..OverLists::new("nt_xent", loss, metric.similarity())
                })
            }
            other => return Err(Trouble::unmapped(format!("the loss {other}"))),
        })
    }
}
