//! What holds only when the crates are together.
//!
//! - [`golden`] reads values that other libraries gave for the same functions, and [`mapper`] turns each of their functions
//!   into our object. `tests/all/golden.rs` compares the two.
//! - `tests/all/resume/`: a run that was stopped and continued equals one that never stopped, bit for bit.
//! - `tests/all/table.rs` and `tests/all/agreement.rs`: every loss with every miner on awkward batches, and the fast way of a
//!   loss beside its plain one.
//!
//! The golden values are not part of the repository: `NEARFAR_GOLDEN` names their folder, and a relative path starts at the
//! root of the workspace. Where it is not set, the tests say so and pass.

pub mod golden;
pub mod mapper;

/// The Rust of the guide, as a test.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/guide/losses.md")]
pub struct Guide;
