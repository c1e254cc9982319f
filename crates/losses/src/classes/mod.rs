//! Formulas of a row and the centers of classes: [`ClassificationLoss`](crate::ClassificationLoss).

mod angle;
pub(crate) mod softmax;

mod arcface;
mod combined_margin;
mod cosface;
mod dynamic_arcface;
mod l_softmax;
mod normalized_softmax;
mod p2sgrad;
mod proxy_anchor;
mod proxy_nca;
mod soft_triple;
mod sphereface;
mod subcenter_arcface;

pub use arcface::ArcFace;
pub use combined_margin::CombinedMargin;
pub use cosface::CosFace;
pub use dynamic_arcface::DynamicArcFace;
pub use l_softmax::LSoftmax;
pub use normalized_softmax::NormalizedSoftmax;
pub use p2sgrad::P2SGrad;
pub use proxy_anchor::ProxyAnchor;
pub use proxy_nca::ProxyNCA;
pub use soft_triple::SoftTriple;
pub use sphereface::SphereFace;
pub use subcenter_arcface::SubCenterArcFace;
