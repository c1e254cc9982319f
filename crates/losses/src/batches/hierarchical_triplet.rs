//! Hierarchical triplet loss.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use candle_core::{Device, Result, Tensor};
use nearfar_core::{
    Comparison, EmbeddingTable, Error, Evaluated, Finite, Loss, NonNegative, Reducer, Rng, Span,
    Stateful, Terms, Triplets,
};
use nearfar_kernels::{hinge, l2_normalize, squared_euclidean};
use serde::{Deserialize, Serialize};

use super::quadruplet::by_class;
use crate::family::BatchLoss;
use crate::over::counting::triplet_hinges;
use crate::over::known::host;
use crate::over::matrix::{counted_part, rounded};
use crate::over::mining::Mining;
use crate::over::reduced;
use crate::{Compares, Join, Reads, prefix};

/// A triplet loss whose margin knows how far the classes are from one another, by a tree of all classes.
///
/// ```text
/// l(a, p, n) = ½ max(0, ‖a − p‖² − ‖a − n‖² + α),   α = margin + d_H − s
/// ```
///
/// Rows are divided by their length. `s` is the mean squared distance within the anchor's class, `H` the level at which the
/// classes of anchor and negative become one node of the tree, and `d_l = d_0 + l (4 − d_0)/L` the threshold of a level; `d_0` is
/// the mean of all `s`. Classes belong to one node at level `l` when a chain of classes, each within `d_l` of the next, joins
/// them (single linkage), where two classes are as far as their rows are in the mean of squares. So a class that looks like the
/// anchor's has a small margin, and one of another kind a large one. `α` may be below zero for tight siblings, and is kept so.
///
/// The tree is built from the embeddings of the whole training set, before the first step it asks for and every `every` after;
/// it is state, and part of a checkpoint. Until there is one, and for classes that it does not know, `α` is `first_margin`. It takes
/// `O(N d + C² d)` time and `O(C d)` memory for `N` rows of `C` classes: means and variances of classes give the mean squared
/// distances exactly, and single linkage is the minimum spanning tree.
///
/// Averaged over all triplets; under the reducers `mean`, `sum` and `avg_nonzero` without a list of them, `O(n² log n)`. With one
/// class, or all classes distinct, there is no triplet and nothing to learn.
///
/// Source: Ge, Huang, Dong, Scott, "Deep metric learning with hierarchical triplet loss", ECCV 2018,
/// <https://arxiv.org/abs/1810.06951>, equations 2 to 6.
///
/// Choose it for many classes of which some are alike, with batches of neighboring classes.
///
/// ```
/// # use nearfar_losses::{Compares, LossConfig};
/// let config: LossConfig = toml::from_str("hierarchical_triplet = { levels = 8, every = { steps = 500 } }")?;
/// assert_eq!(config.defaults().compares, Compares::Own);
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HierarchicalTriplet {
    /// What is added to every margin, `β`.
    pub margin: Finite,
    /// The margin before there is a tree.
    pub first_margin: NonNegative,
    /// How many levels the tree has, `L`.
    pub levels: NonZeroU32,
    /// How often it is built anew.
    pub every: Span,
}

impl Default for HierarchicalTriplet {
    /// The paper's: 16 levels, 0.1 on top, a new tree each epoch.
    fn default() -> Self {
        Self {
            margin: Finite::literal(0.1),
            first_margin: NonNegative::literal(0.2),
            levels: NonZeroU32::MIN.saturating_add(15),
            every: Span::Epochs(1),
        }
    }
}

impl BatchLoss for HierarchicalTriplet {
    fn reads(&self) -> Reads {
        Reads::Classes
    }

    fn compares(&self) -> Compares {
        Compares::Own
    }

    fn check(&self) -> std::result::Result<(), Error> {
        match self.every {
            Span::Steps(0) | Span::Epochs(0) => Err(Error::Settings(
                "hierarchical_triplet: `every` is 0; a tree needs 1 or more to be built".into(),
            )),
            _ => Ok(()),
        }
    }

    fn build(&self, name: &'static str, mut join: Join) -> Result<Box<dyn Loss>> {
        let compares = "squared distances of rows of length 1";
        join.refuse_scorer(name, compares)?;
        join.refuse_own(name, compares)?;
        let reducer = join.reducer.take().unwrap_or_else(|| self.reducer());
        Ok(Box::new(OverTree {
            name,
            settings: self.clone(),
            reducer,
            mining: join.mining(),
            tree: None,
        }))
    }
}

/// The classes of a training set.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ClassTree {
    /// Their labels, ascending.
    labels: Vec<u32>,
    /// Of each the mean squared distance within, `s`.
    spreads: Vec<f64>,
    /// The mean of these, `d_0`.
    mean_spread: f64,
    /// What joins them: two classes, by place, and the level at which they become one, ascending.
    edges: Vec<(u32, u32, u32)>,
    /// How many levels there are.
    levels: u32,
}

impl ClassTree {
    /// From all rows with their classes.
    pub(crate) fn new(table: &EmbeddingTable, levels: u32) -> Result<Self> {
        if table.labels.len() != table.len() {
            Err(Error::Input(format!(
                "a tree of classes needs a class for each row; there are {} rows and {} classes",
                table.len(),
                table.labels.len()
            )))?;
        }
        let d = table.dim;
        let mut sums = BTreeMap::<u32, (usize, f64, Vec<f64>)>::new();
        for (row, &label) in table.labels.iter().enumerate() {
            let numbers = table.row(row);
            let square: f64 = numbers.iter().map(|x| f64::from(*x).powi(2)).sum();
            let length = square.sqrt();
            let scale = if length > 0.0 && length.is_finite() {
                1.0 / length
            } else {
                0.0
            };
            let (count, squares, sum) = sums.entry(label).or_insert_with(|| (0, 0.0, vec![0.0; d]));
            *count += 1;
            *squares += square * scale * scale;
            for (sum, x) in sum.iter_mut().zip(numbers) {
                *sum += f64::from(*x) * scale;
            }
        }
        let labels: Vec<u32> = sums.keys().copied().collect();
        let (mut means, mut variances, mut counts) = (Vec::new(), Vec::new(), Vec::new());
        for (count, squares, mut sum) in sums.into_values() {
            let n = count as f64;
            sum.iter_mut().for_each(|x| *x /= n);
            let square: f64 = sum.iter().map(|x| x * x).sum();
            variances.push((squares / n - square).max(0.0));
            means.push(sum);
            counts.push(n);
        }
        let spread = |class: usize| 2.0 * variances[class] * counts[class] / (counts[class] - 1.0);
        let several = || (0..labels.len()).filter(|&class| counts[class] > 1.0);
        let mean_spread = several().map(spread).sum::<f64>() / several().count().max(1) as f64;
        let spreads = (0..labels.len()).map(|class| match counts[class] > 1.0 {
            true => spread(class),
            false => mean_spread,
        });
        let spreads = spreads.collect();
        let distance = |one: usize, other: usize| {
            let both = means[one].iter().zip(&means[other]);
            let apart: f64 = both.map(|(x, y)| (x - y) * (x - y)).sum();
            apart + variances[one] + variances[other]
        };
        let edges = spanning_tree(labels.len(), distance).into_iter();
        let mut edges: Vec<(u32, u32, u32)> = edges
            .map(|(one, other, length)| {
                let level = (1..=levels)
                    .find(|&level| length < threshold(level, levels, mean_spread))
                    .unwrap_or(levels);
                (one as u32, other as u32, level)
            })
            .collect();
        edges.sort_by_key(|it| it.2);
        Ok(Self {
            labels,
            spreads,
            mean_spread,
            edges,
            levels,
        })
    }

    /// The margin, without what is added to all, of an anchor and a negative of some classes, row-major; none for classes that
    /// are not in the tree.
    pub(crate) fn margins(&self, classes: &[u32]) -> Vec<Option<f64>> {
        let b = classes.len();
        let places: Vec<Option<usize>> = classes
            .iter()
            .map(|class| self.labels.binary_search(class).ok())
            .collect();
        // The batch's classes in each node, as nodes are joined from the leaves up.
        let mut node: Vec<usize> = (0..self.labels.len()).collect();
        let mut inside: Vec<Vec<usize>> = vec![Vec::new(); self.labels.len()];
        for (class, place) in places.iter().enumerate() {
            if let Some(place) = place {
                inside[*place].push(class);
            }
        }
        let mut levels = vec![self.levels; b * b];
        for &(one, other, level) in &self.edges {
            let (one, other) = (
                root(&mut node, one as usize),
                root(&mut node, other as usize),
            );
            let joined = std::mem::take(&mut inside[other]);
            for &x in &inside[one] {
                for &y in &joined {
                    levels[x * b + y] = level;
                    levels[y * b + x] = level;
                }
            }
            inside[one].extend(joined);
            node[other] = one;
        }
        let entry = |place: usize| {
            let anchor = places[place / b]?;
            places[place % b]?;
            let reach = threshold(levels[place], self.levels, self.mean_spread);
            Some(reach - self.spreads[anchor])
        };
        (0..b * b).map(entry).collect()
    }
}

fn threshold(level: u32, levels: u32, mean_spread: f64) -> f64 {
    f64::from(level) * (4.0 - mean_spread) / f64::from(levels) + mean_spread
}

fn root(node: &mut [usize], mut place: usize) -> usize {
    while node[place] != place {
        node[place] = node[node[place]];
        place = node[place];
    }
    place
}

/// The edges of a minimum spanning tree (Prim), in `O(c²)` distances and `O(c)` memory.
fn spanning_tree(count: usize, distance: impl Fn(usize, usize) -> f64) -> Vec<(usize, usize, f64)> {
    let mut edges = Vec::with_capacity(count.saturating_sub(1));
    let mut nearest = vec![(0usize, f64::INFINITY); count];
    let mut waiting: Vec<usize> = (1..count).collect();
    let mut last = 0;
    while !waiting.is_empty() {
        for &place in &waiting {
            let length = distance(last, place);
            if length < nearest[place].1 {
                nearest[place] = (last, length);
            }
        }
        let next = (0..waiting.len())
            .min_by(|&x, &y| nearest[waiting[x]].1.total_cmp(&nearest[waiting[y]].1))
            .expect("some wait");
        last = waiting.remove(next);
        edges.push((nearest[last].0, last, nearest[last].1));
    }
    edges
}

#[derive(Debug)]
struct OverTree {
    name: &'static str,
    settings: HierarchicalTriplet,
    reducer: Reducer,
    mining: Mining,
    tree: Option<ClassTree>,
}

impl OverTree {
    /// Half the squared distances, and the margin of each pair of an anchor and a negative, halved too.
    fn seen(&self, comparison: &Comparison<'_>) -> Result<(Tensor, Vec<f64>)> {
        let anchors = l2_normalize(&comparison.anchors.vectors)?;
        let matrix = if std::ptr::eq(comparison.anchors, comparison.references) {
            squared_euclidean(&anchors, &anchors)?
        } else {
            squared_euclidean(&anchors, &l2_normalize(&comparison.references.vectors)?)?
        };
        let (ours, theirs) = (&comparison.anchors.labels, &comparison.references.labels);
        let first = self.settings.first_margin.get();
        let mut margins = vec![first; ours.len() * theirs.len()];
        if let Some(tree) = &self.tree {
            let classes: Vec<u32> = ours
                .iter()
                .chain(theirs)
                .copied()
                .collect::<std::collections::BTreeSet<u32>>()
                .into_iter()
                .collect();
            let known = tree.margins(&classes);
            let place = |label: &u32| classes.binary_search(label).expect("it was put in");
            let columns: Vec<usize> = theirs.iter().map(place).collect();
            for (row, label) in ours.iter().enumerate() {
                let start = place(label) * classes.len();
                for (column, &class) in columns.iter().enumerate() {
                    if let Some(margin) = known[start + class] {
                        margins[row * theirs.len() + column] = self.settings.margin.get() + margin;
                    }
                }
            }
        }
        let half = (matrix * 0.5)?;
        for margin in &mut margins {
            *margin = rounded(&half, 0.5 * *margin);
        }
        Ok((half, margins))
    }
}

impl Loss for OverTree {
    fn evaluate(&self, comparison: &Comparison<'_>, rng: &mut Rng) -> Result<Evaluated> {
        by_class(self.name, comparison)?;
        let m = comparison.references.len();
        if self.mining.takes_all() && !comparison.anchors.is_empty() && m > 0 {
            let (half, margins) = self.seen(comparison)?;
            let kinds = comparison.kinds(self.name)?;
            let margin = |anchor: usize, column: usize| margins[anchor * m + column];
            let counted = triplet_hinges(&host(&half)?, &kinds, m, margin);
            if let Some(part) = counted_part("triplet", &half, counted, &self.reducer)? {
                return Ok(Evaluated { parts: vec![part] });
            }
        }
        reduced(&self.terms(comparison, rng)?, &self.reducer)
    }

    fn terms(&self, comparison: &Comparison<'_>, rng: &mut Rng) -> Result<Vec<Terms>> {
        by_class(self.name, comparison)?;
        let none = || Ok(vec![Terms::none("triplet", comparison)]);
        let m = comparison.references.len();
        if comparison.anchors.is_empty() || m == 0 {
            return none();
        }
        let (half, margins) = self.seen(comparison)?;
        let triplets: Triplets = if self.mining.takes_all() {
            Triplets::all(comparison, self.name)?
        } else {
            let own = || Ok(half.clone());
            let tuples = self.mining.tuples(self.name, comparison, own, rng)?;
            tuples.into_triplets()
        };
        if triplets.is_empty() {
            return none();
        }
        let (positive, negative) = triplets.select(&half)?;
        let margins: Vec<f64> = triplets
            .iter()
            .map(|(anchor, _, negative)| margins[anchor as usize * m + negative as usize])
            .collect();
        let margins = Tensor::from_vec(margins, triplets.len(), &Device::Cpu)?
            .to_dtype(half.dtype())?
            .to_device(half.device())?;
        let values = hinge(&((positive - negative)? + margins)?)?;
        let anchors = triplets.anchors().to_vec();
        Ok(vec![Terms::tuples("triplet", values, anchors, comparison)?])
    }
}

/// The names of the state.
const CLASSES: &str = "tree.classes";
const SPREADS: &str = "tree.spreads";
const EDGES: &str = "tree.edges";
const LEVELS: &str = "tree.levels";

impl Stateful for OverTree {
    fn state(&self) -> BTreeMap<String, Tensor> {
        let mut state = self.mining.state();
        let Some(tree) = &self.tree else {
            return state;
        };
        let mut put = |name: &str, tensor: Result<Tensor>| {
            state.insert(
                name.into(),
                tensor.expect("lists are tensors of their length"),
            );
        };
        let classes = tree.labels.len();
        put(
            CLASSES,
            Tensor::from_slice(&tree.labels, classes, &Device::Cpu),
        );
        let mut spreads = tree.spreads.clone();
        spreads.push(tree.mean_spread);
        put(
            SPREADS,
            Tensor::from_vec(spreads, classes + 1, &Device::Cpu),
        );
        let edges: Vec<u32> = tree
            .edges
            .iter()
            .flat_map(|it| [it.0, it.1, it.2])
            .collect();
        let size = (tree.edges.len(), 3);
        put(EDGES, Tensor::from_vec(edges, size, &Device::Cpu));
        put(LEVELS, Tensor::from_slice(&[tree.levels], 1, &Device::Cpu));
        state
    }

    fn restore(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        let mut rest = state.clone();
        let mut take = |name: &str| rest.remove(name);
        let found = [take(CLASSES), take(SPREADS), take(EDGES), take(LEVELS)];
        self.tree = match found {
            [None, None, None, None] => None,
            [Some(classes), Some(spreads), Some(edges), Some(levels)] => {
                let count = classes.elem_count();
                let place = self.name;
                prefix::wants_shape(place, (CLASSES, &classes), &[count])?;
                prefix::wants_shape(place, (SPREADS, &spreads), &[count + 1])?;
                prefix::wants_shape(place, (EDGES, &edges), &[count.saturating_sub(1), 3])?;
                prefix::wants_shape(place, (LEVELS, &levels), &[1])?;
                let mut spreads = host(&spreads)?;
                let mean_spread = spreads.pop().unwrap_or(0.0);
                let edges: Vec<Vec<u32>> = edges.to_vec2()?;
                let edges: Vec<_> = edges.iter().map(|it| (it[0], it[1], it[2])).collect();
                if edges.iter().any(|it| it.0.max(it.1) as usize >= count) {
                    Err(Error::Input(format!(
                        "{place}: the state `{EDGES}` joins classes that are not there"
                    )))?;
                }
                Some(ClassTree {
                    labels: classes.to_vec1()?,
                    spreads,
                    mean_spread,
                    edges,
                    levels: levels.to_vec1::<u32>()?[0],
                })
            }
            _ => Err(Error::Input(format!(
                "{}: the state of the tree is not complete; `{CLASSES}`, `{SPREADS}`, `{EDGES}` and `{LEVELS}` belong together",
                self.name
            )))?,
        };
        self.mining.restore(&rest)
    }

    /// The shorter of the tree's and the miner's.
    fn interval(&self) -> Option<Span> {
        let rank = |span: &Span| match span {
            Span::Steps(steps) => (0, *steps),
            Span::Epochs(epochs) => (1, *epochs),
        };
        let both = [Some(self.settings.every), self.mining.interval()];
        both.into_iter().flatten().min_by_key(rank)
    }

    fn refresh(&mut self, table: &EmbeddingTable, rng: &mut Rng) -> Result<()> {
        self.tree = Some(ClassTree::new(table, self.settings.levels.get())?);
        self.mining.refresh(table, rng)
    }
}

#[cfg(test)]
mod tests {
    use nearfar_core::{Embeddings, Purpose, Seed};

    use super::*;

    fn table(rows: &[[f32; 2]], labels: &[u32]) -> EmbeddingTable {
        EmbeddingTable {
            vectors: rows.concat(),
            dim: 2,
            labels: labels.to_vec(),
            ids: (0..labels.len() as u64).collect(),
        }
    }

    /// By the definition: all rows with all rows, and levels walked from the leaves.
    fn plain(table: &EmbeddingTable, levels: u32) -> (Vec<f64>, Vec<u32>) {
        let mut classes = table.labels.clone();
        classes.sort_unstable();
        classes.dedup();
        let unit = |row: usize| -> Vec<f64> {
            let row: Vec<f64> = table.row(row).iter().map(|x| f64::from(*x)).collect();
            let length = row.iter().map(|x| x * x).sum::<f64>().sqrt();
            row.iter().map(|x| x / length).collect()
        };
        let apart = |one: usize, other: usize| -> f64 {
            unit(one)
                .iter()
                .zip(unit(other))
                .map(|(x, y)| (x - y).powi(2))
                .sum()
        };
        let rows = |class: u32| (0..table.len()).filter(move |&row| table.labels[row] == class);
        let c = classes.len();
        let mut distances = vec![0.0; c * c];
        for (p, &one) in classes.iter().enumerate() {
            for (q, &other) in classes.iter().enumerate() {
                let (n, m) = (rows(one).count() as f64, rows(other).count() as f64);
                let pairs = if p == q { n * n - n } else { n * m };
                let sum: f64 = rows(one)
                    .flat_map(|i| rows(other).map(move |j| (i, j)))
                    .map(|(i, j)| apart(i, j))
                    .sum();
                distances[p * c + q] = sum / pairs;
            }
        }
        let mean = (0..c).map(|p| distances[p * c + p]).sum::<f64>() / c as f64;
        let mut found = vec![levels; c * c];
        for level in (1..=levels).rev() {
            let mut together: Vec<bool> = (0..c * c)
                .map(|it| distances[it] < threshold(level, levels, mean) || it / c == it % c)
                .collect();
            for k in 0..c {
                for i in 0..c {
                    for j in 0..c {
                        together[i * c + j] |= together[i * c + k] && together[k * c + j];
                    }
                }
            }
            for (place, together) in together.into_iter().enumerate() {
                if together {
                    found[place] = level;
                }
            }
        }
        let margins = (0..c * c)
            .map(|place| threshold(found[place], levels, mean) - distances[(place / c) * (c + 1)]);
        (margins.collect(), classes)
    }

    #[test]
    fn the_tree_is_that_of_the_definition() -> Result<()> {
        let mut rng = Seed(5).rng(Purpose::Generation, 0);
        for round in 0..5u32 {
            let classes = 6;
            let (mut rows, mut labels) = (Vec::new(), Vec::new());
            for class in 0..classes {
                let angle = rng.uniform_between(0.0, 6.0);
                for _ in 0..2 + class % 3 {
                    let angle = angle + 0.2 * rng.normal();
                    rows.push([3.0 * angle.cos() as f32, 3.0 * angle.sin() as f32]);
                    labels.push(3 * class + round);
                }
            }
            let table = table(&rows, &labels);
            let (wanted, names) = plain(&table, 8);
            let found = ClassTree::new(&table, 8)?.margins(&names);
            for place in (0..wanted.len()).filter(|it| it / 6 != it % 6) {
                let found = found[place].expect("it is known");
                assert!(
                    (found - wanted[place]).abs() < 1e-6,
                    "{found} {}",
                    wanted[place]
                );
            }
        }
        Ok(())
    }

    #[test]
    fn a_tree_changes_the_margins_and_survives() -> Result<()> {
        let join = Join::default;
        let config = HierarchicalTriplet::default();
        let mut loss = config.build("hierarchical_triplet", join())?;
        assert_eq!(loss.interval(), Some(Span::Epochs(1)));
        let rows = Tensor::new(&[[1f64, 0.1], [1.0, -0.1], [0.0, 1.0]], &Device::Cpu)?;
        let rows = Embeddings::labeled(rows, vec![0, 0, 1])?;
        let mut rng = Seed(0).rng(Purpose::Mining, 0);
        let within = Comparison::within(&rows);
        let value = |loss: &dyn Loss, rng: &mut Rng| -> Result<f64> {
            let terms = loss.terms(&within, rng)?.remove(0);
            terms.values.expect("two triplets").get(0)?.to_scalar()
        };
        // Before there is a tree: ½ (‖a − p‖² − ‖a − n‖² + 0.2), all rows divided by √1.01.
        let (near, far) = (0.04 / 1.01, 2.0 - 0.2 / 1.01f64.sqrt());
        assert_eq!(value(loss.as_ref(), &mut rng)?, 0f64.max(near - far + 0.2));
        let all = table(&[[1.0, 0.1], [1.0, -0.1], [0.0, 1.0]], &[0, 0, 1]);
        loss.refresh(&all, &mut rng)?;
        let with_tree = value(loss.as_ref(), &mut rng)?;
        // One class has a spread, so d₀ = s, and the two classes join at the first level that is far enough.
        let spread = near;
        let apart = 2.0; // One row is a little nearer, the other as much farther.
        let level = (1..=16)
            .find(|&it| apart < threshold(it, 16, spread))
            .expect("16");
        let margin = 0.1 + threshold(level, 16, spread) - spread;
        assert!(
            (with_tree - 0.5 * (near - far + margin)).abs() < 1e-6,
            "{with_tree}"
        );
        let mut other = config.build("hierarchical_triplet", join())?;
        other.restore(&loss.state())?;
        assert_eq!(value(other.as_ref(), &mut rng)?, with_tree);
        assert_eq!(other.state().len(), 4);
        let part: BTreeMap<String, Tensor> = loss.state().into_iter().take(2).collect();
        let error = other
            .restore(&part)
            .expect_err("two are missing")
            .to_string();
        assert!(error.contains("belong together"), "{error}");
        Ok(())
    }
}
