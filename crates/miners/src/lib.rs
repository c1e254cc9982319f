//! Choices of the pairs and triplets worth learning from.
