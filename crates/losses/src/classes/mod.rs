//! Formulas of a row and the centers of classes: [`ClassificationLoss`](crate::ClassificationLoss).

mod arcface;

pub use arcface::ArcFace;
