//! What holds only when the crates are together, in one process.

mod golden;
