//! Losses of deep metric learning: pairs, triplets, lists, classes and scores.
