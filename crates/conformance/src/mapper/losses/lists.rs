//! Losses of an anchor and all it is compared with.

use std::num::NonZeroU32;

use nearfar_core::{Finite, Fraction, Loss, NonNegative, Positive, Reducer};
use nearfar_losses::{
    Circle, Compat, FastAP, Histogram, Instance, Lifted, LiftedGeneralized, ListLoss,
    MultiSimilarity, NCA, NPair, NTXent, OverLists, PNP, PNPForm, RankedList, SmoothAP, SupCon,
    TupletMargin,
};

use super::{Kind, Parts};
use crate::golden::{Mapped, Settings, Trouble};
use crate::mapper::metric::Metric;

pub(super) struct Lists;

impl Kind for Lists {
    fn names(&self) -> &'static [&'static str] {
        &[
            "CircleLoss",
            "FastAPLoss",
            "GeneralizedLiftedStructureLoss",
            "HistogramLoss",
            "InstanceLoss",
            "LiftedStructureLoss",
            "MultiSimilarityLoss",
            "NCALoss",
            "NPairsLoss",
            "NTXentLoss",
            "PNPLoss",
            "RankedListLoss",
            "SmoothAPLoss",
            "SupConLoss",
            "TupletMarginLoss",
        ]
    }

    fn metric(&self, name: &str) -> Metric {
        match name {
            "GeneralizedLiftedStructureLoss" | "LiftedStructureLoss" | "RankedListLoss" => {
                Metric::LP
            }
            "FastAPLoss" | "NCALoss" => Metric::LP_SQUARED,
            "NPairsLoss" => Metric::Dot { normalize: true },
            _ => Metric::Cosine,
        }
    }

    fn reducer(&self, name: &str) -> Reducer {
        match name {
            "CircleLoss" | "SupConLoss" => Reducer::AvgNonzero {},
            _ => Reducer::Mean {},
        }
    }

    fn build(&self, name: &str, params: &mut Settings, parts: Parts) -> Mapped<Box<dyn Loss>> {
        let metric = parts.metric;
        Ok(match name {
            "CircleLoss" => {
                let loss = Circle {
                    margin: Finite::new(params.number_or("m", 0.4)?)?,
                    scale: Positive::new(params.number_or("gamma", 80.0)?)?,
                };
                over("circle", loss, parts)
            }
            "FastAPLoss" => {
                // The largest distance of rows of length 1.
                let largest = if metric == Metric::LP { 2.0 } else { 4.0 };
                let loss = FastAP {
                    bins: bins(params.number_or("num_bins", 10.0)?)?,
                    largest: Positive::new(largest)?,
                };
                over("fast_ap", loss, parts)
            }
            "GeneralizedLiftedStructureLoss" => {
                let (positive_margin, negative_margin) = margins(params, metric)?;
                let loss = LiftedGeneralized {
                    positive_margin,
                    negative_margin,
                    compat: Some(Compat::Pml),
                };
                over("lifted_generalized", loss, parts)
            }
            "HistogramLoss" => {
                let bins_of = match (params.number("n_bins")?, params.number("delta")?) {
                    (Some(count), _) => count,
                    (None, Some(delta)) => 2.0 / delta,
                    (None, None) => 100.0,
                };
                let loss = Histogram {
                    bins: bins(bins_of)?,
                };
                over("histogram", loss, parts)
            }
            "InstanceLoss" => {
                let loss = Instance {
                    scale: Positive::new(params.number_or("gamma", 64.0)?)?,
                    compat: Some(Compat::Pml),
                };
                over("instance", loss, parts)
            }
            "LiftedStructureLoss" => {
                let (positive_margin, negative_margin) = margins(params, metric)?;
                let loss = Lifted {
                    positive_margin,
                    negative_margin,
                    compat: Some(Compat::Pml),
                };
                over("lifted", loss, parts)
            }
            "MultiSimilarityLoss" => {
                let loss = MultiSimilarity {
                    alpha: Positive::new(params.number_or("alpha", 2.0)?)?,
                    beta: Positive::new(params.number_or("beta", 50.0)?)?,
                    base: Finite::new(metric.on_similarity_scale(params.number_or("base", 0.5)?))?,
                };
                over("multi_similarity", loss, parts)
            }
            "NCALoss" => {
                let loss = NCA {
                    scale: Positive::new(params.number_or("softmax_scale", 1.0)?)?,
                };
                over("nca", loss, parts)
            }
            "NPairsLoss" => over("n_pair", NPair {}, parts),
            "NTXentLoss" => {
                let loss = NTXent {
                    temperature: Positive::new(params.number_or("temperature", 0.07)?)?,
                    ..NTXent::default()
                };
                over("nt_xent", loss, parts)
            }
            "PNPLoss" => {
                let form = match params.text("variant")?.as_deref() {
                    None | Some("O") => PNPForm::O,
                    Some("Ds") => PNPForm::Ds,
                    Some("Dq") => PNPForm::Dq,
                    Some("Iu") => PNPForm::Iu,
                    Some("Ib") => PNPForm::Ib,
                    Some(other) => return Err(Trouble::unmapped(format!("the variant {other}"))),
                };
                let loss = PNP {
                    form,
                    temperature: Positive::new(params.number_or("anneal", 0.01)?)?,
                    b: Positive::new(params.number_or("b", 2.0)?)?,
                    alpha: Positive::new(params.number_or("alpha", 1.0)?)?,
                    include_self: true,
                };
                over("pnp", loss, parts)
            }
            "RankedListLoss" => {
                let required = |value: Option<f64>, name: &str| {
                    value.ok_or_else(|| Trouble::unmapped(format!("no `{name}`")))
                };
                let loss = RankedList {
                    margin: Positive::new(required(params.number("margin")?, "margin")?)?,
                    alpha: params.number("alpha")?.map(Finite::new).transpose()?,
                    positive_temperature: NonNegative::new(params.number_or("Tp", 0.0)?)?,
                    negative_temperature: NonNegative::new(required(params.number("Tn")?, "Tn")?)?,
                    balance: Fraction::new(params.number_or("imbalance", 0.5)?)?,
                    detach: true,
                    compat: Some(Compat::Pml),
                };
                over("ranked_list", loss, parts)
            }
            "SmoothAPLoss" => {
                let loss = SmoothAP {
                    temperature: Positive::new(params.number_or("temperature", 0.01)?)?,
                    include_self: true,
                };
                over("smooth_ap", loss, parts)
            }
            "SupConLoss" => {
                let loss = SupCon {
                    temperature: Positive::new(params.number_or("temperature", 0.1)?)?,
                };
                over("supcon", loss, parts)
            }
            "TupletMarginLoss" => {
                let margin = params.number_or("margin", 5.73)?;
                let loss = TupletMargin {
                    margin: NonNegative::new(margin.to_radians())?,
                    scale: Positive::new(params.number_or("scale", 64.0)?)?,
                };
                over("tuplet_margin", loss, parts)
            }
            other => return Err(Trouble::unmapped(format!("the loss {other}"))),
        })
    }
}

fn over<L: ListLoss + 'static>(name: &'static str, loss: L, parts: Parts) -> Box<dyn Loss> {
    Box::new(OverLists {
        mining: parts.mining,
        reducer: parts.reducer,
        ..OverLists::new(name, loss, parts.metric.similarity())
    })
}

/// The two margins of a lifted loss, on the scale of the distance `−s`; the peer's defaults are for distances.
fn margins(params: &mut Settings, metric: Metric) -> Mapped<(Finite, Finite)> {
    let mut margin = |name: &str, default: f64| -> Mapped<Finite> {
        let margin = params.number_or(name, default)?;
        Ok(Finite::new(-metric.on_similarity_scale(margin))?)
    };
    Ok((margin("pos_margin", 0.0)?, margin("neg_margin", 1.0)?))
}

fn bins(count: f64) -> Mapped<NonZeroU32> {
    NonZeroU32::new(count.round() as u32).ok_or_else(|| Trouble::unmapped(format!("{count} bins")))
}
