//! Losses of triplets and other tuples.

use nearfar_core::{Loss, NonNegative, Reducer};
use nearfar_losses::{OverTriplets, Power, TripletMargin};

use super::{Kind, Parts};
use crate::golden::{Mapped, Settings, Trouble};
use crate::mapper::metric::Metric;

pub(super) struct Triplets;

impl Kind for Triplets {
    fn names(&self) -> &'static [&'static str] {
        &["TripletMarginLoss"]
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
            "TripletMarginLoss" => {
                let loss = TripletMargin {
                    // A gap, so it is the same for a cosine and its distance.
                    margin: NonNegative::new(params.number_or("margin", 0.05)?)?,
                    swap: params.flag_or("swap", false)?,
                    smooth: params.flag_or("smooth_loss", false)?,
                    power: Power::One,
                };
                match params.text("triplets_per_anchor")?.as_deref() {
                    None | Some("all") => {}
                    Some(other) => {
                        let what = format!("{other} triplets per anchor");
                        return Err(Trouble::unmapped(what));
                    }
                }
                Box::new(OverTriplets {
                    mining,
                    reducer,
                    ..OverTriplets::new("triplet_margin", loss, metric.distance())
                })
            }
            other => return Err(Trouble::unmapped(format!("the loss {other}"))),
        })
    }
}
