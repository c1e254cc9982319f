//! What a data set is, where it comes from, how it is verified; and 1,797 handwritten digits.
