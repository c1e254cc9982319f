//! Sums over tuples without a list of them, by sorting and counting.

use nearfar_core::Kind;

/// A sum of hinges over tuples, and its derivative by each entry of the matrix.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Counted {
    pub(crate) sum: f64,
    /// How many tuples there are.
    pub(crate) terms: usize,
    /// How many are above zero.
    pub(crate) active: usize,
    /// Row-major.
    pub(crate) gradient: Vec<f64>,
}

/// `Σ [x(a, p) − x(a, n) + margin(a, n)]_+` over all triplets of a matrix with `m` columns, in `O(n m log m)`.
///
/// A margin that depends on anchor and negative is taken from the negative's distance before sorting.
pub(crate) fn triplet_hinges(
    x: &[f64],
    kinds: &[Kind],
    m: usize,
    margin: impl Fn(usize, usize) -> f64,
) -> Counted {
    let mut counted = Counted {
        gradient: vec![0.0; x.len()],
        ..Counted::default()
    };
    if m == 0 {
        return counted;
    }
    let (mut negatives, mut starts) = (Vec::<(f64, usize)>::new(), Vec::<f64>::new());
    for (anchor, (x, kinds)) in x.chunks(m).zip(kinds.chunks(m)).enumerate() {
        let of = |wanted: Kind| (0..m).filter(move |&column| kinds[column] == wanted);
        negatives.clear();
        negatives
            .extend(of(Kind::Negative).map(|column| (x[column] - margin(anchor, column), column)));
        negatives.sort_by(|one, other| one.0.total_cmp(&other.0));
        starts.clear();
        starts.push(0.0);
        for (value, _) in &negatives {
            starts.push(starts[starts.len() - 1] + value);
        }
        let gradient = &mut counted.gradient[anchor * m..][..m];
        let mut beaten = vec![0usize; negatives.len() + 1]; // By how many positives, as differences.
        for positive in of(Kind::Positive) {
            let active = negatives.partition_point(|(value, _)| *value < x[positive]);
            counted.terms += negatives.len();
            counted.active += active;
            counted.sum += active as f64 * x[positive] - starts[active];
            gradient[positive] += active as f64;
            beaten[active] += 1;
        }
        let mut by = 0;
        for (place, (_, column)) in negatives.iter().enumerate().rev() {
            by += beaten[place + 1];
            gradient[*column] -= by as f64;
        }
    }
    counted
}

/// `Σ [x(i, j) − x(l, k) + margin]_+` over all quadruplets: `i` and `j` of one class, `l` and `k` of two others. In
/// `O(n m log(n m) + c n m)` for `c` classes.
pub(crate) fn quadruplet_hinges(
    x: &[f64],
    kinds: &[Kind],
    (anchors, references): (&[u32], &[u32]),
    margin: f64,
) -> Counted {
    let m = references.len();
    let mut counted = Counted {
        gradient: vec![0.0; x.len()],
        ..Counted::default()
    };
    let mut negatives: Vec<usize> = (0..x.len())
        .filter(|&place| kinds[place] == Kind::Negative)
        .collect();
    negatives.sort_by(|&one, &other| x[one].total_cmp(&x[other]));
    let mut positives = std::collections::BTreeMap::<u32, Vec<usize>>::new();
    for place in (0..x.len()).filter(|&place| kinds[place] == Kind::Positive) {
        positives.entry(anchors[place / m]).or_default().push(place);
    }
    for (class, positives) in positives {
        let apart: Vec<usize> = negatives
            .iter()
            .copied()
            .filter(|place| anchors[place / m] != class && references[place % m] != class)
            .collect();
        let mut starts = Vec::with_capacity(apart.len() + 1);
        starts.push(0.0);
        for &place in &apart {
            starts.push(starts[starts.len() - 1] + x[place]);
        }
        let mut beaten = vec![0usize; apart.len() + 1];
        for positive in positives {
            let bound = x[positive] + margin;
            let active = apart.partition_point(|&place| x[place] < bound);
            counted.terms += apart.len();
            counted.active += active;
            counted.sum += active as f64 * bound - starts[active];
            counted.gradient[positive] += active as f64;
            beaten[active] += 1;
        }
        let mut by = 0;
        for (place, &entry) in apart.iter().enumerate().rev() {
            by += beaten[place + 1];
            counted.gradient[entry] -= by as f64;
        }
    }
    counted
}

#[cfg(test)]
mod tests {
    use nearfar_core::{Purpose, Seed};

    use super::*;

    const LABELS: [u32; 9] = [0, 1, 0, 2, 1, 0, 2, 3, 1];

    fn noise() -> (Vec<f64>, Vec<Kind>) {
        let mut rng = Seed(3).rng(Purpose::Generation, 0);
        let n = LABELS.len();
        // Whole numbers make ties.
        let x = (0..n * n).map(|_| rng.below(9) as f64 / 4.0).collect();
        let kinds = (0..n * n)
            .map(|place| match (place / n, place % n) {
                (i, j) if i == j => Kind::Nothing,
                (i, j) if LABELS[i] == LABELS[j] => Kind::Positive,
                _ => Kind::Negative,
            })
            .collect();
        (x, kinds)
    }

    fn add(counted: &mut Counted, value: f64, places: [usize; 2]) {
        counted.terms += 1;
        if value > 0.0 {
            counted.active += 1;
            counted.sum += value;
            counted.gradient[places[0]] += 1.0;
            counted.gradient[places[1]] -= 1.0;
        }
    }

    #[test]
    fn counted_triplets_are_those_of_the_loop() {
        let ((x, kinds), n) = (noise(), LABELS.len());
        let margin = |a: usize, c: usize| [0.5, -0.25, 1.0][(a + c) % 3];
        let mut wanted = Counted {
            gradient: vec![0.0; x.len()],
            ..Counted::default()
        };
        for a in 0..n {
            for p in (0..n).filter(|p| kinds[a * n + p] == Kind::Positive) {
                for c in (0..n).filter(|c| kinds[a * n + c] == Kind::Negative) {
                    let value = x[a * n + p] - x[a * n + c] + margin(a, c);
                    add(&mut wanted, value, [a * n + p, a * n + c]);
                }
            }
        }
        assert_eq!(triplet_hinges(&x, &kinds, n, margin), wanted);
        assert_eq!(triplet_hinges(&[], &[], 0, margin), Counted::default());
    }

    #[test]
    fn counted_quadruplets_are_those_of_the_loop() {
        let ((x, kinds), n) = (noise(), LABELS.len());
        let mut wanted = Counted {
            gradient: vec![0.0; x.len()],
            ..Counted::default()
        };
        for pair in (0..n * n).filter(|&it| kinds[it] == Kind::Positive) {
            let class = LABELS[pair / n];
            for other in (0..n * n).filter(|&it| kinds[it] == Kind::Negative) {
                if LABELS[other / n] != class && LABELS[other % n] != class {
                    add(&mut wanted, x[pair] - x[other] + 0.5, [pair, other]);
                }
            }
        }
        assert_eq!(
            quadruplet_hinges(&x, &kinds, (&LABELS, &LABELS), 0.5),
            wanted
        );
    }
}
