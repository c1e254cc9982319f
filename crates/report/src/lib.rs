//! Reports of embeddings and runs: one self-contained HTML file, TensorBoard events.
