//! The words and interfaces that the crates of nearfar share: embeddings, comparisons, tuples, distances, miners, losses, encoders.
