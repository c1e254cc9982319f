//! The losses that are measured: each as a run file has it, and as the peer's Python has it.

/// A loss on both sides.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pair {
    /// What the case is called, without the size of its batch.
    pub(crate) name: &'static str,
    /// The loss of a run file with its settings, where they are not the defaults.
    pub(crate) loss: &'static str,
    /// The expression that makes the peer's, after `from pytorch_metric_learning import losses`, with `classes` and `dim`.
    pub(crate) peer: &'static str,
    /// The largest batch for which the peer's tensors fit in some 8 GB.
    pub(crate) peer_up_to: usize,
    /// What the loss is shown.
    pub(crate) shown: Shown,
    /// Why the two values differ, where they must.
    pub(crate) differs: Option<&'static str>,
}

/// What a loss is shown of the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// All of them, with their classes.
    Classes,
    /// The first half as one view, the second as the other.
    Views,
    /// As `Views`, by a loss of classes where each row is one.
    SelfSupervised,
    /// As `Classes`, with a memory of as many past rows.
    Memory,
}

/// Rows in a batch.
pub(crate) const SIZES: [usize; 4] = [256, 512, 1024, 4096];

/// Sizes of single losses beyond those.
pub(crate) const MORE: &[(&str, usize)] = &[("triplet_margin", 16384)];

const fn pair(name: &'static str, peer: &'static str) -> Pair {
    Pair {
        name,
        loss: name,
        peer,
        peer_up_to: 4096,
        shown: Shown::Classes,
        differs: None,
    }
}

impl Pair {
    const fn up_to(self, peer_up_to: usize) -> Self {
        Self { peer_up_to, ..self }
    }

    /// With settings: `name = { … }` without the name.
    const fn with(self, loss: &'static str) -> Self {
        Self { loss, ..self }
    }

    const fn shown(self, shown: Shown) -> Self {
        Self { shown, ..self }
    }

    const fn differs(self, why: &'static str) -> Self {
        Self {
            differs: Some(why),
            ..self
        }
    }

    /// The loss as a run file has it.
    pub(crate) fn config(&self) -> String {
        if self.loss.contains('=') {
            format!("loss.{}", self.loss)
        } else {
            format!("loss.{} = {{}}", self.loss)
        }
    }
}

/// Every loss of the peer, with its defaults for what is not said.
pub(crate) const LOSSES: &[Pair] = &[
    pair(
        "triplet_margin",
        "losses.TripletMarginLoss(margin=0.2, triplets_per_anchor='all')",
    )
    .up_to(1024),
    pair("contrastive", "losses.ContrastiveLoss()"),
    pair(
        "multi_similarity",
        "losses.MultiSimilarityLoss(alpha=2, beta=50, base=0.5)",
    ),
    pair("angular", "losses.AngularLoss()").up_to(1024),
    pair("circle", "losses.CircleLoss()"),
    pair("dynamic_soft_margin", "losses.DynamicSoftMarginLoss()")
        .with("dynamic_soft_margin = { compat = \"pml\" }")
        .differs("the running histograms have seen another number of batches")
        .up_to(1024),
    pair("fast_ap", "losses.FastAPLoss()"),
    pair("histogram", "losses.HistogramLoss()").up_to(512),
    pair("instance", "losses.InstanceLoss()").with("instance = { compat = \"pml\" }"),
    pair("intra_pair_variance", "losses.IntraPairVarianceLoss()"),
    pair("lifted", "losses.LiftedStructureLoss()").up_to(256),
    pair(
        "lifted_generalized",
        "losses.GeneralizedLiftedStructureLoss()",
    )
    .with("lifted_generalized = { compat = \"pml\" }"),
    pair("manifold", "losses.ManifoldLoss(l=dim)")
        .up_to(1024)
        .differs("the proxies of rows are drawn"),
    pair("margin", "losses.MarginLoss()").up_to(1024),
    pair("n_pair", "losses.NPairsLoss()"),
    pair("nca", "losses.NCALoss()"),
    pair("nt_xent", "losses.NTXentLoss(temperature=0.07)").up_to(256),
    pair("pnp", "losses.PNPLoss()")
        .with("pnp = { include_self = true }")
        .up_to(512),
    pair("ranked_list", "losses.RankedListLoss(margin=0.4, Tn=5)")
        .with("ranked_list = { negative_temperature = 5.0, compat = \"pml\" }"),
    pair("smooth_ap", "losses.SmoothAPLoss()")
        .with("smooth_ap = { include_self = true }")
        .up_to(512)
        .differs("the peer takes the number of classes for that of rows in each"),
    pair(
        "snr_contrastive",
        "losses.SignalToNoiseRatioContrastiveLoss()",
    )
    .up_to(1024),
    pair("supcon", "losses.SupConLoss()"),
    pair("tcm", "losses.ThresholdConsistentMarginLoss()").up_to(1024),
    pair("tuplet_margin", "losses.TupletMarginLoss()").up_to(256),
    pair("arcface", "losses.ArcFaceLoss(classes, dim)")
        .with("arcface = { margin = 0.49916416607037828 }"),
    pair("cosface", "losses.CosFaceLoss(classes, dim)"),
    pair("l_softmax", "losses.LargeMarginSoftmaxLoss(classes, dim)"),
    pair(
        "normalized_softmax",
        "losses.NormalizedSoftmaxLoss(classes, dim)",
    ),
    pair("p2sgrad", "losses.P2SGradLoss(dim, classes)"),
    pair("proxy_anchor", "losses.ProxyAnchorLoss(classes, dim)"),
    pair("proxy_nca", "losses.ProxyNCALoss(classes, dim)"),
    pair("soft_triple", "losses.SoftTripleLoss(classes, dim)")
        .with("soft_triple = { regularizer = 0.0 }"),
    pair("sphereface", "losses.SphereFaceLoss(classes, dim)"),
    pair(
        "subcenter_arcface",
        "losses.SubCenterArcFaceLoss(num_classes=classes, embedding_size=dim)",
    )
    .with("subcenter_arcface = { margin = 0.49916416607037828 }"),
    pair("vicreg", "losses.VICRegLoss()").shown(Shown::Views),
    pair(
        "self_supervised",
        "losses.SelfSupervisedLoss(losses.NTXentLoss(temperature=0.07))",
    )
    .with("nt_xent")
    .shown(Shown::SelfSupervised)
    .up_to(512),
    pair(
        "memory",
        "losses.CrossBatchMemory(losses.MultiSimilarityLoss(), dim, memory_size=n)",
    )
    .with("multi_similarity")
    .shown(Shown::Memory),
];
