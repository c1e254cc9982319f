//! Where presets differ from our defaults.

use nearfar_core::{Finite, NonNegative, Positive, Reducer};

use super::{Convention, Preset};
use crate::{
    Active, Compares, Compat, GapNegatives, LossConfig, PairForm, Power, QuadrupletMargins,
};

/// The angle of 28.6 degrees that pytorch-metric-learning has for half a radian.
const HALF_A_RADIAN: f64 = 28.6;
/// The angle of 5.73 degrees that it has for a tenth.
const TENTH_OF_A_RADIAN: f64 = 5.73;
/// The margin of sentence-transformers' triplet losses, for rows as they are.
const LONG_ROWS: NonNegative = NonNegative::literal(5.0);

impl LossConfig {
    /// This loss as a preset has it, whatever its settings are now. Where a preset has nothing else than our defaults, it is the
    /// defaults: so every loss knows both.
    pub fn convention(&self, preset: Preset) -> Convention {
        let usual = Self::all()
            .into_iter()
            .find(|loss| loss.name() == self.name());
        let usual = usual.unwrap_or_else(|| self.clone()); // All losses are among all.
        match preset {
            Preset::Paper => of_paper(usual),
            Preset::Peer => of_peer(usual),
        }
    }
}

/// What the papers say. Sums over the rows of a batch are sums here; a sum over all tuples of the training set is a mean.
fn of_paper(mut usual: LossConfig) -> Convention {
    use LossConfig as L;

    match &mut usual {
        // Pairs.
        L::Contrastive(it) => it.form = PairForm::SquaredHalf,
        L::Neculoiu(it) => it.active = Active::Below, // As printed.

        // Triplets.
        L::TripletMargin(it) => {
            it.power = Power::Two;
            return Convention::of(usual).on_unit_rows();
        }

        // Lists.
        L::Circle(it) => {
            // Those of faces.
            (it.margin, it.scale) = (Finite::literal(0.25), Positive::literal(256.0));
        }
        L::FastAP(_) | L::RankedList(_) => return Convention::of(usual).on_unit_rows(),
        L::Histogram(it) => it.bins = std::num::NonZeroU32::new(150).unwrap_or(it.bins), // 151 nodes.
        L::MultiSimilarity(it) => it.base = Finite::literal(1.0),
        L::NTXent(it) => it.temperature = Positive::literal(0.1), // SimCLR's of ImageNet.
        L::SupCon(_) => return Convention::of(usual).reduced(Reducer::Mean {}),

        // Classes.
        L::ProxyNCA(it) => it.exclude_target = true,

        // Whole batches.
        L::BatchHard(it) => it.soft = true,
        L::DynamicSoftMargin(it) => {
            it.negatives = GapNegatives::Hardest;
            return Convention::of(usual).on_unit_rows();
        }
        L::Margin(it) => {
            (it.learn_beta, it.per_class) = (true, true);
            return Convention::of(usual).on_unit_rows();
        }
        L::Quadruplet(it) => {
            let (first, second) = (NonNegative::literal(1.0), NonNegative::literal(0.5));
            it.margins = QuadrupletMargins::Adaptive { first, second };
        }
        L::SemiHard(_) => {
            let squared = Compares::Distance("squared_euclidean");
            return Convention::of(usual).by(squared).on_unit_rows();
        }
        L::Center(_) | L::GE2E(_) | L::MultiSupCon(_) | L::TripletCenter(_) => {
            return Convention::of(usual).reduced(Reducer::Sum {});
        }
        L::MultipleNegativesRanking(it) => {
            it.scale = Positive::literal(1.0);
            return Convention::of(usual).by(Compares::Similarity("dot"));
        }
        _ => {}
    }
    Convention::of(usual)
}

/// What pytorch-metric-learning 2.9 does, and sentence-transformers where that has no such loss. What is a defect there is not
/// offered.
fn of_peer(mut usual: LossConfig) -> Convention {
    use LossConfig as L;

    let pml = Some(Compat::Pml);
    match &mut usual {
        // Its distances divide rows by their length.
        L::Contrastive(_)
        | L::FastAP(_)
        | L::Margin(_)
        | L::NCA(_)
        | L::NPair(_)
        | L::SNRContrastive(_) => return Convention::of(usual).on_unit_rows(),
        L::TripletMargin(it) => {
            it.margin = NonNegative::literal(0.05);
            return Convention::of(usual).on_unit_rows();
        }
        L::DynamicSoftMargin(it) => {
            it.compat = pml;
            return Convention::of(usual).on_unit_rows();
        }
        L::Lifted(it) => {
            it.compat = pml;
            return Convention::of(usual).on_unit_rows();
        }
        L::LiftedGeneralized(it) => {
            it.compat = pml;
            return Convention::of(usual).on_unit_rows();
        }
        L::RankedList(it) => {
            it.compat = pml;
            return Convention::of(usual).on_unit_rows();
        }
        L::Quadruplet(it) => {
            // Of Revisiting_Deep_Metric_Learning_PyTorch.
            it.power = Power::One;
            return Convention::of(usual).on_unit_rows();
        }

        L::Angular(it) => it.compat = pml,
        L::Instance(it) => it.compat = pml,
        L::ProxyAnchor(it) => it.compat = pml,
        L::PNP(it) => it.include_self = true,
        L::SmoothAP(it) => it.include_self = true,
        L::SoftTriple(it) => it.regularizer = NonNegative::literal(0.0),

        // Degrees, rounded.
        L::ArcFace(it) => it.margin = radians(HALF_A_RADIAN),
        L::SubCenterArcFace(it) => it.margin = radians(HALF_A_RADIAN),
        L::TupletMargin(it) => it.margin = radians(TENTH_OF_A_RADIAN),

        L::BatchHard(it) => it.margin = LONG_ROWS,
        L::SemiHard(it) => it.margin = LONG_ROWS,
        _ => {}
    }
    Convention::of(usual)
}

fn radians(degrees: f64) -> NonNegative {
    NonNegative::new(degrees.to_radians()).expect("an angle of more than 0 degrees")
}
