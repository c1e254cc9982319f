//! Distances and similarities of embeddings, with the axioms that each of them satisfies.
