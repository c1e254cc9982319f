//! The losses that are measured: each as a run file has it, and as the peer's Python has it.

/// A loss on both sides.
pub(crate) struct Pair {
    /// Its name in a run file.
    pub(crate) name: &'static str,
    /// Its settings in a run file, where they are not the defaults.
    pub(crate) settings: &'static str,
    /// The expression that makes the peer's, after `from pytorch_metric_learning import losses`.
    pub(crate) peer: &'static str,
    /// The largest batch for which the peer's tensors fit in some 8 GB.
    pub(crate) peer_up_to: usize,
}

/// Rows in a batch.
pub(crate) const SIZES: [usize; 4] = [256, 512, 1024, 4096];

const fn pair(
    name: &'static str,
    settings: &'static str,
    peer: &'static str,
    peer_up_to: usize,
) -> Pair {
    Pair {
        name,
        settings,
        peer,
        peer_up_to,
    }
}

/// All of them, with the peer's defaults for what is not said.
pub(crate) const LOSSES: &[Pair] = &[
    pair(
        "triplet_margin",
        "margin = 0.2",
        "losses.TripletMarginLoss(margin=0.2, triplets_per_anchor='all')",
        1024,
    ),
    pair("contrastive", "", "losses.ContrastiveLoss()", 4096),
    pair(
        "multi_similarity",
        "",
        "losses.MultiSimilarityLoss(alpha=2, beta=50, base=0.5)",
        4096,
    ),
    pair("nt_xent", "", "losses.NTXentLoss(temperature=0.07)", 512),
];
