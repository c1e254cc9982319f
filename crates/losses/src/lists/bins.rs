//! Soft histograms: a value counts for the two nodes that it is between, for the nearer one more.

use candle_core::{DType, Result, Tensor, Var};

/// What a value at the node itself is moved by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AtNode {
    /// What a value a little above is moved by: it counts for the node and the next one.
    Above,
    /// Nothing: it counts for the node alone.
    Nothing,
}

/// How many bins there are, and what happens between them.
pub(super) struct Bins {
    /// One less than there are nodes.
    pub(super) count: usize,
    /// What a value at a node is moved by.
    pub(super) at_node: AtNode,
}

impl Bins {
    /// A function of each row's histograms over the values that each of two masks keeps, which is `(n, nodes), (n, nodes) →
    /// (n)` with one value for each row, or `()`.
    ///
    /// `positions` are `(n, m)`, in units of bins from 0 on; what is beyond the ends counts for the end, without a gradient.
    ///
    /// The histograms are counted without a graph. Each value then has the gradient of its two nodes, which takes `n·m` numbers
    /// and not `n·m·nodes`.
    pub(super) fn value(
        &self,
        positions: &Tensor,
        masks: [&Tensor; 2],
        value: impl Fn(&Tensor, &Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let still = positions.detach();
        let last = self.count as f64;
        let ends = still.clamp(0f64, last)?;
        let below = ends.floor()?.minimum(last - 1.0)?;
        let fraction = (&ends - &below)?;
        let inside = match self.at_node {
            AtNode::Above => (still.ge(0f64)? * still.le(last)?)?,
            AtNode::Nothing => ((still.gt(0f64)? * still.lt(last)?)? * still.ne(&below)?)?,
        };
        let below = below.to_dtype(DType::U32)?.contiguous()?;
        let above = (&below + 1.0)?;
        let count = |mask: &Tensor| -> Result<Var> {
            let none = Tensor::zeros(
                (still.dim(0)?, self.count + 1),
                still.dtype(),
                still.device(),
            )?;
            let for_above = (mask * &fraction)?.contiguous()?;
            let for_below = (mask - &for_above)?.contiguous()?;
            let counts = none.scatter_add(&below, &for_below, 1)?;
            Var::from_tensor(&counts.scatter_add(&above, &for_above, 1)?)
        };
        let counts = [count(masks[0])?, count(masks[1])?];
        let value = value(&counts[0], &counts[1])?;
        let gradients = value.sum_all()?.backward()?;
        let mut slope = still.zeros_like()?;
        for (counts, mask) in counts.iter().zip(masks) {
            if let Some(of_nodes) = gradients.get(counts) {
                let of_nodes = of_nodes.contiguous()?;
                let step = (of_nodes.gather(&above, 1)? - of_nodes.gather(&below, 1)?)?;
                slope = (slope + (step * mask)?)?;
            }
        }
        let slope = (slope * inside.to_dtype(still.dtype())?)?.detach();
        // The value as it was, with that gradient: what is added is 0.
        let moved = ((positions - &still)? * slope)?;
        let moved = if value.rank() == 0 {
            moved.sum_all()?
        } else {
            moved.sum(1)?
        };
        value.detach() + moved
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn values_count_for_both_nodes_and_the_ends_for_one() -> Result<()> {
        let positions = Var::new(&[[0.25f64, 1.0, 2.0, 3.5, -1.0]], &Device::Cpu)?;
        let all = positions.ones_like()?;
        let none = positions.zeros_like()?;
        let weights = Tensor::new(&[[100f64, 10.0, 1.0]], &Device::Cpu)?;
        for (at_node, of_nodes) in [(AtNode::Above, [-9.0, -9.0]), (AtNode::Nothing, [0.0, 0.0])] {
            let bins = Bins { count: 2, at_node };
            // Of the nodes 1.75, 1.25 and 2.
            let value = bins.value(&positions, [&all, &none], |counts, _| {
                (counts * &weights)?.sum(1)
            })?;
            assert_eq!(value.to_vec1::<f64>()?, [175.0 + 12.5 + 2.0]);
            let gradients = value.backward()?;
            let gradient = gradients.get(&positions).expect("it depends on them");
            assert_eq!(
                gradient.to_vec2::<f64>()?,
                [[-90.0, of_nodes[0], of_nodes[1], 0.0, 0.0]]
            );
        }
        Ok(())
    }
}
