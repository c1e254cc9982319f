//! Losses of triplets and other tuples.

use nearfar_core::{Loss, NonNegative, Positive, Reducer};
use nearfar_losses::{
    Angular, AngularForm, Compat, Join, LossConfig, Mining, OverTriplets, Power, TripletMargin,
};

use super::{Kind, Parts};
use crate::golden::{Mapped, Settings, Trouble};
use crate::mapper::metric::Metric;

pub(super) struct Triplets;

impl Kind for Triplets {
    fn names(&self) -> &'static [&'static str] {
        &["AngularLoss", "TripletMarginLoss"]
    }

    fn metric(&self, _: &str) -> Metric {
        Metric::LP
    }

    fn reducer(&self, name: &str) -> Reducer {
        match name {
            "AngularLoss" => Reducer::Mean {},
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
            "TripletMarginLoss" => {
                let loss = TripletMargin {
                    // A gap, so it is the same for a cosine and its distance.
                    margin: NonNegative::new(params.number_or("margin", 0.05)?)?,
                    swap: params.flag_or("swap", false)?,
                    smooth: params.flag_or("smooth_loss", false)?,
                    power: Power::One,
                    triplets_per_anchor: None, // A draw of the peer's cannot be repeated.
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
            "AngularLoss" => {
                let loss = Angular {
                    // The peer's is in degrees.
                    angle: Positive::new(params.number_or("alpha", 40.0)?.to_radians())?,
                    form: AngularForm::Batch,
                    compat: Some(Compat::Pml),
                };
                let Mining {
                    miner,
                    distance: miner_distance,
                } = mining;
                LossConfig::Angular(loss).build(Join {
                    miner,
                    miner_distance,
                    reducer: Some(reducer),
                    ..Join::default()
                })?
            }
            other => return Err(Trouble::unmapped(format!("the loss {other}"))),
        })
    }
}
