//! Losses that fit no other family: [`BatchLoss`](crate::BatchLoss).
