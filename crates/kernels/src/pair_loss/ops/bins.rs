//! Soft histograms of the values of a row.

use pulp::{Simd, WithSimd};

use crate::slices::{dispatch, lease};

/// Nodes at whole numbers from 0 to `bins`, and where a value lies among them: at `scale · value + shift`. A value counts for the
/// two nodes that it is between, for the nearer one more; beyond the ends it counts for the end.
///
/// ```
/// let nodes = nearfar_kernels::rows::Nodes { bins: 2, scale: 1.0, shift: 0.0, at_node: true };
/// let mut counts = [0.0; 3];
/// nodes.count(&[0.25, 2.0, 3.5], &mut counts);
/// assert_eq!(counts, [0.75, 0.25, 2.0]);
/// let mut values = [0.25, 2.0, 3.5];
/// nodes.slopes(&mut values, &[10.0, 5.0, 1.0]); // Of 10 n₀ + 5 n₁ + n₂.
/// assert_eq!(values, [-5.0, -4.0, 0.0]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Nodes {
    /// One less than there are nodes; 1 at least.
    pub bins: usize,
    /// What a value is multiplied by.
    pub scale: f32,
    /// What is added to it then.
    pub shift: f32,
    /// Whether a value at a node moves as one a little above does; else it does not move.
    pub at_node: bool,
}

/// Values that are placed at once.
const RUN: usize = 64;
/// Histograms beside one another, so that values of one bin need not wait for one another.
const BESIDE: usize = 4;

impl Nodes {
    /// Adds the values to the counts of the nodes.
    ///
    /// # Panics
    ///
    /// If there are not as many counts as nodes.
    pub fn count(&self, values: &[f32], counts: &mut [f32]) {
        assert_eq!(
            counts.len(),
            self.bins + 1,
            "there is a count for each node"
        );
        let mut beside = lease(BESIDE * counts.len());
        beside.fill(0.0);
        dispatch(Counting {
            nodes: *self,
            values,
            beside: &mut beside,
        });
        for some in beside.chunks_exact(counts.len()) {
            for (count, some) in counts.iter_mut().zip(some) {
                *count += some;
            }
        }
    }

    /// Replaces values by the derivative of a function of the counts, whose derivative by each count is given.
    ///
    /// # Panics
    ///
    /// If there are not as many of them as nodes.
    pub fn slopes(&self, values: &mut [f32], of_nodes: &[f32]) {
        assert_eq!(of_nodes.len(), self.bins + 1, "there is one for each node");
        let mut steps = lease(self.bins);
        for (step, pair) in steps.iter_mut().zip(of_nodes.windows(2)) {
            *step = self.scale * (pair[1] - pair[0]);
        }
        dispatch(Sloping {
            nodes: *self,
            values,
            steps: &steps,
        });
    }

    /// The bin of each of some values, how far each is in it, and whether it moves.
    #[inline(always)]
    fn place(&self, values: &[f32], places: &mut Places) {
        let last = self.bins as f32;
        let (scale, shift) = (self.scale, self.shift);
        let all = places.bins.iter_mut().zip(&mut places.within);
        for (((bin, within), moves), &value) in all.zip(&mut places.moves).zip(values) {
            let at = scale * value + shift;
            let inside = at.max(0.0).min(last);
            let below = (inside as u32).min(self.bins as u32 - 1);
            *bin = below;
            *within = inside - below as f32;
            let moved = if self.at_node {
                at >= 0.0 && at <= last
            } else {
                at > 0.0 && at < last && *within > 0.0
            };
            *moves = if moved { 1.0 } else { 0.0 };
        }
    }
}

struct Places {
    bins: [u32; RUN],
    within: [f32; RUN],
    moves: [f32; RUN],
}

impl Places {
    #[inline(always)]
    fn new() -> Self {
        Self {
            bins: [0; RUN],
            within: [0.0; RUN],
            moves: [0.0; RUN],
        }
    }
}

struct Counting<'a> {
    nodes: Nodes,
    values: &'a [f32],
    beside: &'a mut [f32],
}

impl WithSimd for Counting<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let count = self.nodes.bins + 1;
        let mut places = Places::new();
        for values in self.values.chunks(RUN) {
            self.nodes.place(values, &mut places);
            let all = places.bins.iter().zip(&places.within).take(values.len());
            for (number, (&bin, &within)) in all.enumerate() {
                let at = number % BESIDE * count + bin as usize;
                self.beside[at] += 1.0 - within;
                self.beside[at + 1] += within;
            }
        }
    }
}

struct Sloping<'a> {
    nodes: Nodes,
    values: &'a mut [f32],
    steps: &'a [f32],
}

impl WithSimd for Sloping<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let mut places = Places::new();
        for values in self.values.chunks_mut(RUN) {
            self.nodes.place(values, &mut places);
            let all = places.bins.iter().zip(&places.moves);
            for (value, (&bin, &moves)) in values.iter_mut().zip(all) {
                *value = moves * self.steps[bin as usize];
            }
        }
    }
}
