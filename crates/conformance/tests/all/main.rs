//! What holds only when the crates are together, in one process.

mod agreement;
mod golden;
mod joined;
mod learns;
mod minilm;
mod presets;
mod resume;
mod table;
