//! What holds only when the crates are together: golden values, resume, kills.
