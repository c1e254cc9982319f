//! The row engine against the matrix, and against the list of all triplets.

use candle_core::{DType, Device, IndexOp, Result, Tensor, Var};
use nearfar_kernels::test_util::noise;
use nearfar_kernels::{
    Base, Count, Fold, PairLoss, PairPart, Row, RowForm, RowFunctional, RowSum, Rows, euclidean,
    hinge, pair_loss, reference, row_survey,
};

/// `max(0, d(a, p) − d(a, n) + margin)` over all triplets of the row.
struct Triplets(f32);

impl RowFunctional for Triplets {
    fn row(&self, row: Row<'_>) -> [RowSum; 2] {
        let values = row.values.to_vec();
        row.values.fill(0.0);
        let mut sum = RowSum::default();
        let [before, after] = row.negatives;
        for p in row.positives {
            for n in before.clone().chain(after.clone()) {
                let term = values[p] - values[n] + self.0;
                sum.terms += 1;
                if term > 0.0 {
                    sum.value += f64::from(term);
                    sum.active += 1;
                    row.values[p] += 1.0;
                    row.values[n] -= 1.0;
                }
            }
        }
        [sum, RowSum::default()]
    }
}

/// The square of every value, weighted by its group: gradients differ. In one part or in two.
struct Squares(bool);

impl RowFunctional for Squares {
    fn row(&self, row: Row<'_>) -> [RowSum; 2] {
        let mut sums = [RowSum::default(); 2];
        for (column, value) in row.values.iter_mut().enumerate() {
            let positive = row.positives.contains(&column);
            if positive || row.negatives.iter().any(|range| range.contains(&column)) {
                let factor = 0.1 + row.groups[column] as f32 * 0.01;
                sums[usize::from(self.0 && !positive)] += RowSum {
                    value: f64::from(factor * *value * *value),
                    terms: 1,
                    active: 1,
                };
                *value *= 2.0 * factor;
            }
        }
        sums
    }

    fn apart(&self) -> bool {
        self.0
    }
}

fn groups(n: usize) -> Vec<u32> {
    (0..n as u32).map(|i| i % 5).collect()
}

/// Value, and the gradients of both tensors.
type Found = (Option<f64>, usize, usize, Vec<Vec<f64>>);

fn found(loss: PairLoss, part: usize, vars: &[&Var]) -> Result<Found> {
    let loss = &loss.parts[part];
    let Some(value) = &loss.value else {
        return Ok((None, loss.terms, loss.active, Vec::new()));
    };
    let gradients = value.backward()?;
    let numbers = |var: &&Var| -> Result<Vec<f64>> {
        gradients
            .get(var)
            .expect("it depends on both")
            .flatten_all()?
            .to_dtype(DType::F64)?
            .to_vec1()
    };
    let value = value.to_dtype(DType::F64)?.to_scalar::<f64>()?;
    Ok((
        Some(value),
        loss.terms,
        loss.active,
        vars.iter().map(numbers).collect::<Result<_>>()?,
    ))
}

fn assert_near(ours: &Found, theirs: &Found, what: &str) {
    assert_eq!((ours.1, ours.2), (theirs.1, theirs.2), "{what}: terms");
    assert_eq!(ours.0.is_some(), theirs.0.is_some(), "{what}");
    let (x, y) = (ours.0.unwrap_or(0.0), theirs.0.unwrap_or(0.0));
    assert!(
        (x - y).abs() <= 1e-5 * y.abs().max(1e-3),
        "{what}: {x} and {y}"
    );
    for (x, y) in ours.3.iter().zip(&theirs.3) {
        let scale = y.iter().fold(1e-3, |scale: f64, y| scale.max(y.abs()));
        for (x, y) in x.iter().zip(y) {
            assert!(
                (x - y).abs() <= 2e-5 * scale,
                "{what}: gradient {x} and {y} of at most {scale}"
            );
        }
    }
}

#[test]
fn blocks_of_rows_and_the_matrix_agree() -> Result<()> {
    // A block is 48 rows, a panel 64 columns.
    for (n, m, d) in [
        (1, 1, 1),
        (3, 70, 5),
        (47, 49, 64),
        (200, 130, 20),
        (0, 4, 3),
        (4, 0, 3),
    ] {
        let (x, y) = (
            noise((n, d), 1)?.to_dtype(DType::F32)?,
            noise((m, d), 2)?.to_dtype(DType::F32)?,
        );
        let (anchor_groups, reference_groups) = (groups(n), groups(m));
        let own: Vec<Option<usize>> = (0..n).map(|i| (i % 3 == 0 && i < m).then_some(i)).collect();
        let forms = [
            Base::Euclidean.into(),
            Base::Squared.into(),
            Base::Dot.into(),
            RowForm {
                base: Base::Dot,
                scale: -1.0,
                shift: 1.0,
            },
            RowForm {
                base: Base::Euclidean,
                scale: -0.5,
                shift: 0.0,
            },
        ];
        let weights: Vec<f32> = (0..n).map(|i| 0.5 + (i % 4) as f32).collect();
        for form in forms {
            for divide_by in [
                Count::One,
                Count::Terms,
                Count::Active,
                Count::Given(7.0),
                Count::Given(0.0),
            ] {
                for weights in [None, Some(&weights[..])] {
                    let run = |fast: bool, apart: bool, part: usize| -> Result<Found> {
                        let functional = &Squares(apart);
                        let (x, y) = (Var::from_tensor(&x)?, Var::from_tensor(&y)?);
                        let rows = Rows {
                            anchors: &x,
                            references: &y,
                            anchor_groups: &anchor_groups,
                            reference_groups: &reference_groups,
                            own: &own,
                            unit: [false; 2],
                        };
                        let version = if fast {
                            pair_loss
                        } else {
                            reference::pair_loss
                        };
                        found(
                            version(form, &rows, functional, &Fold { weights, divide_by })?,
                            part,
                            &[&x, &y],
                        )
                    };
                    let what = format!("{n} by {m} of {d}, {form:?}, {divide_by:?}");
                    for (apart, part) in [(false, 0), (true, 0), (true, 1)] {
                        assert_near(&run(true, apart, part)?, &run(false, apart, part)?, &what);
                    }
                }
            }
        }
    }
    Ok(())
}

#[test]
fn all_triplets_of_a_batch_agree_with_their_list() -> Result<()> {
    let (n, margin) = (60, 0.2);
    let (groups, own) = (groups(n), (0..n).map(Some).collect::<Vec<_>>());
    let x = Var::from_tensor(&(noise((n, 8), 3)? * 0.3)?)?;
    // The list, in f64.
    let distances = euclidean(&x, &x)?;
    let mut terms = Vec::new();
    for a in 0..n {
        for p in (0..n).filter(|&p| p != a && groups[p] == groups[a]) {
            for negative in (0..n).filter(|&negative| groups[negative] != groups[a]) {
                terms.push((distances.i((a, p))? - distances.i((a, negative))?)?);
            }
        }
    }
    let terms = hinge(&(Tensor::stack(&terms, 0)? + f64::from(margin))?)?;
    let active = terms
        .to_vec1::<f64>()?
        .iter()
        .filter(|term| **term > 0.0)
        .count();
    let list = PairPart {
        value: Some((terms.sum_all()? / active as f64)?),
        terms: terms.dim(0)?,
        active,
    };
    let list = found(PairLoss { parts: vec![list] }, 0, &[&x])?;

    let x = Var::from_tensor(&x.to_dtype(DType::F32)?)?;
    let rows = Rows {
        anchors: &x,
        references: &x,
        anchor_groups: &groups,
        reference_groups: &groups,
        own: &own,
        unit: [false; 2],
    };
    let fold = Fold {
        weights: None,
        divide_by: Count::Active,
    };
    let engine = found(
        pair_loss(Base::Euclidean.into(), &rows, &Triplets(margin), &fold)?,
        0,
        &[&x],
    )?;
    assert_near(&engine, &list, "triplets");
    Ok(())
}

#[test]
fn rows_that_coincide_and_batches_without_terms_are_harmless() -> Result<()> {
    let x = Var::zeros((4, 3), DType::F32, &Device::Cpu)?;
    let own: Vec<_> = (0..4).map(Some).collect();
    let run = |groups: &[u32]| -> Result<Found> {
        let rows = Rows {
            anchors: &x,
            references: &x,
            anchor_groups: groups,
            reference_groups: groups,
            own: &own,
            unit: [false; 2],
        };
        let fold = Fold {
            weights: None,
            divide_by: Count::Active,
        };
        found(
            pair_loss(Base::Euclidean.into(), &rows, &Triplets(0.5), &fold)?,
            0,
            &[&x],
        )
    };
    let (value, terms, _, gradients) = run(&[0, 0, 1, 1])?;
    assert_eq!((value, terms), (Some(0.5), 8));
    assert_eq!(gradients, [[0.0; 12]]);
    assert_eq!(run(&[0, 0, 0, 0])?, (None, 0, 0, Vec::new()));
    Ok(())
}

#[test]
fn the_number_of_threads_does_not_change_a_bit() -> Result<()> {
    let n = 300;
    let x = noise((n, 70), 4)?.to_dtype(DType::F32)?;
    let (groups, own) = (groups(n), (0..n).map(Some).collect::<Vec<_>>());
    let on = |threads: usize| -> Result<Found> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .expect("a pool of threads");
        pool.install(|| {
            let x = Var::from_tensor(&x)?;
            let rows = Rows {
                anchors: &x,
                references: &x,
                anchor_groups: &groups,
                reference_groups: &groups,
                own: &own,
                unit: [false; 2],
            };
            let fold = Fold {
                weights: None,
                divide_by: Count::Active,
            };
            found(
                pair_loss(Base::Euclidean.into(), &rows, &Triplets(0.2), &fold)?,
                0,
                &[&x],
            )
        })
    };
    let one = on(1)?;
    assert_eq!(one, on(2)?);
    assert_eq!(one, on(5)?);
    Ok(())
}

/// Rows that are nearly one lose their digits in inner products.
#[test]
fn rows_that_are_near_one_another_keep_their_digits() -> Result<()> {
    let (n, d) = (70, 32);
    let center = noise((1, d), 5)?;
    let x = center.broadcast_add(&(noise((n, d), 6)? * 1e-3)?)?;
    let (groups, own) = (groups(n), (0..n).map(Some).collect::<Vec<_>>());
    let run = |dtype: DType| -> Result<Found> {
        let x = Var::from_tensor(&x.to_dtype(DType::F32)?.to_dtype(dtype)?)?;
        let rows = Rows {
            anchors: &x,
            references: &x,
            anchor_groups: &groups,
            reference_groups: &groups,
            own: &own,
            unit: [false; 2],
        };
        let fold = Fold {
            weights: None,
            divide_by: Count::Terms,
        };
        let loss = pair_loss(Base::Euclidean.into(), &rows, &Squares(false), &fold)?;
        found(loss, 0, &[&x])
    };
    assert_near(&run(DType::F32)?, &run(DType::F64)?, "near rows");
    Ok(())
}

#[test]
fn rows_whose_squares_overflow_are_left_to_the_plain_way() -> Result<()> {
    let x = Var::from_tensor(&(noise((5, 3), 7)?.to_dtype(DType::F32)? * 1e18)?)?;
    let groups = groups(5);
    let rows = Rows {
        anchors: &x,
        references: &x,
        anchor_groups: &groups,
        reference_groups: &groups,
        own: &[Some(0), Some(1), Some(2), Some(3), Some(4)],
        unit: [false; 2],
    };
    let fold = Fold {
        weights: None,
        divide_by: Count::Terms,
    };
    for form in [Base::Euclidean, Base::Dot] {
        let loss = pair_loss(form.into(), &rows, &Triplets(0.1), &fold)?;
        let (_, _, _, gradients) = found(loss, 0, &[&x])?;
        assert!(gradients.iter().flatten().all(|x| x.is_finite()));
    }
    Ok(())
}

/// Half the square of every value, the anchor's own too, times the sum of what the other rows of the group have in the column
/// of their first negative.
struct Entangled;

impl Entangled {
    fn first(row: &Row<'_>) -> Option<usize> {
        row.negatives.iter().flat_map(Clone::clone).next()
    }
}

impl RowFunctional for Entangled {
    fn row(&self, _: Row<'_>) -> [RowSum; 2] {
        unreachable!("rows are seen together")
    }

    fn own(&self) -> bool {
        true
    }

    fn together(&self) -> bool {
        true
    }

    fn rows(&self, mut rows: Vec<Row<'_>>) -> Vec<[RowSum; 2]> {
        let firsts: Vec<f32> = rows
            .iter()
            .map(|row| Self::first(row).map_or(1.0, |column| row.values[column]))
            .collect();
        let all: f32 = firsts.iter().sum();
        let squares: Vec<f32> = rows
            .iter()
            .map(|row| 0.5 * row.values.iter().map(|x| x * x).sum::<f32>())
            .collect();
        let total: f32 = squares.iter().sum();
        let mut sums = Vec::new();
        for (place, row) in rows.iter_mut().enumerate() {
            let others = all - firsts[place];
            row.values.iter_mut().for_each(|x| *x *= others);
            if let Some(column) = Self::first(row) {
                row.values[column] += total - squares[place];
            }
            let value = f64::from(squares[place] * others);
            let sum = RowSum {
                value,
                terms: 1,
                active: 1,
            };
            sums.push([sum, RowSum::default()]);
        }
        sums
    }
}

#[test]
fn rows_of_a_group_at_once_and_rows_of_length_one_agree_with_the_matrix() -> Result<()> {
    for (n, m) in [(60, 0), (130, 0), (7, 90), (90, 7)] {
        let x = noise((n, 19), 8)?.to_dtype(DType::F32)?;
        let y = noise((m, 19), 9)?.to_dtype(DType::F32)?;
        let (anchor_groups, reference_groups) = (groups(n), groups(if m == 0 { n } else { m }));
        let own: Vec<Option<usize>> = (0..n).map(|i| (m == 0 || i < m).then_some(i)).collect();
        for base in [Base::Dot, Base::Squared, Base::Euclidean] {
            for unit in [[false; 2], [true; 2], [true, false], [false, true]] {
                let run = |fast: bool| -> Result<Found> {
                    let (x, y) = (Var::from_tensor(&x)?, Var::from_tensor(&y)?);
                    let rows = Rows {
                        anchors: &x,
                        references: if m == 0 { &x } else { &y },
                        anchor_groups: &anchor_groups,
                        reference_groups: &reference_groups,
                        own: &own,
                        unit,
                    };
                    let fold = Fold {
                        weights: None,
                        divide_by: Count::Terms,
                    };
                    let version = if fast {
                        pair_loss
                    } else {
                        reference::pair_loss
                    };
                    let vars: &[&Var] = if m == 0 { &[&x] } else { &[&x, &y] };
                    found(version(base.into(), &rows, &Entangled, &fold)?, 0, vars)
                };
                let what = format!("{n} by {m}, {base:?}, {unit:?}");
                // An anchor's own distance is 0, so the two must be one row.
                if base == Base::Dot || (m == 0 && unit[0] == unit[1]) {
                    assert_near(&run(true)?, &run(false)?, &what);
                }
            }
        }
    }
    Ok(())
}

#[test]
fn a_survey_sees_every_value_and_knows_whose_it_is() -> Result<()> {
    let (n, m) = (110, 70);
    let x = noise((n, 12), 10)?.to_dtype(DType::F32)?;
    let y = noise((m, 12), 11)?.to_dtype(DType::F32)?;
    let (anchor_groups, reference_groups) = (groups(n), groups(m));
    let own: Vec<Option<usize>> = (0..n).map(|i| (i < m && i % 2 == 0).then_some(i)).collect();
    let rows = Rows {
        anchors: &x,
        references: &y,
        anchor_groups: &anchor_groups,
        reference_groups: &reference_groups,
        own: &own,
        unit: [false; 2],
    };
    let form = RowForm {
        base: Base::Squared,
        scale: 0.5,
        shift: 1.0,
    };
    let seen = row_survey(form, &rows, &|row| {
        let mut values = vec![f32::NAN; m];
        for column in 0..m {
            values[row.place(column)] = row.values[column];
        }
        let positives = row.positives.clone().map(|column| row.place(column));
        (row.anchor, values, positives.collect::<Vec<_>>())
    })?;
    let (x, y) = (x.to_vec2::<f32>()?, y.to_vec2::<f32>()?);
    for (i, (anchor, values, positives)) in seen.into_iter().enumerate() {
        assert_eq!(anchor, i);
        for (j, value) in values.into_iter().enumerate() {
            let square: f32 = x[i].iter().zip(&y[j]).map(|(x, y)| (x - y) * (x - y)).sum();
            let wanted = if own[i] == Some(j) {
                1.0
            } else {
                0.5 * square + 1.0
            };
            assert!((value - wanted).abs() < 1e-4, "{i} {j}: {value} {wanted}");
        }
        let mut positives = positives;
        positives.sort_unstable();
        let wanted = (0..m).filter(|&j| i % 5 == j % 5 && own[i] != Some(j));
        assert_eq!(positives, wanted.collect::<Vec<_>>());
    }
    Ok(())
}

/// Half the square of the first positive's value, times the anchor's length and twice the reference's.
struct Long;

impl RowFunctional for Long {
    fn lengths(&self) -> bool {
        true
    }

    fn row(&self, row: Row<'_>) -> [RowSum; 2] {
        let first = row.positives.start;
        let value = row.values.get(first).copied().unwrap_or(0.0);
        let [anchor, reference] = *row.lengths;
        row.values.fill(0.0);
        if row.positives.is_empty() {
            return [RowSum::default(); 2];
        }
        let half = 0.5 * value * value;
        row.values[first] = value * anchor * 2.0 * reference;
        *row.lengths = [half * 2.0 * reference, half * 2.0 * anchor];
        let sum = RowSum {
            value: f64::from(half * anchor * 2.0 * reference),
            terms: 1,
            active: 1,
        };
        [sum, RowSum::default()]
    }
}

#[test]
fn lengths_have_the_gradient_that_the_matrix_gives_them() -> Result<()> {
    for (n, m, d) in [(3, 70, 5), (200, 130, 20), (7, 1, 64)] {
        // One row and one reference have no length.
        let zeroed = |rows: usize, seed: u64| -> Result<Tensor> {
            let rows = noise((rows, d), seed)?.to_dtype(DType::F32)?;
            Tensor::cat(&[rows.i(0..1)?.zeros_like()?, rows.i(1..)?], 0)
        };
        let (x, y) = (zeroed(n, 1)?, zeroed(m, 2)?);
        let (anchor_groups, reference_groups) = (groups(n), groups(m));
        let weights: Vec<f32> = (0..n).map(|i| 0.5 + (i % 4) as f32).collect();
        for unit in [[false; 2], [false, true], [true; 2]] {
            let fold = Fold {
                weights: Some(&weights),
                divide_by: Count::Terms,
            };
            let run = |fast: bool| -> Result<Found> {
                let (x, y) = (Var::from_tensor(&x)?, Var::from_tensor(&y)?);
                let rows = Rows {
                    anchors: &x,
                    references: &y,
                    anchor_groups: &anchor_groups,
                    reference_groups: &reference_groups,
                    own: &[],
                    unit,
                };
                let version = if fast {
                    pair_loss
                } else {
                    reference::pair_loss
                };
                found(
                    version(Base::Dot.into(), &rows, &Long, &fold)?,
                    0,
                    &[&x, &y],
                )
            };
            assert_near(
                &run(true)?,
                &run(false)?,
                &format!("{n} by {m} of {d}, {unit:?}"),
            );
        }
    }
    Ok(())
}

#[test]
fn a_loss_of_lengths_compares_no_anchor_with_itself() -> Result<()> {
    let x = Tensor::new(&[[1f32], [2.0]], &Device::Cpu)?;
    let rows = Rows {
        anchors: &x,
        references: &x,
        anchor_groups: &[0, 0],
        reference_groups: &[0, 0],
        own: &[Some(0), Some(1)],
        unit: [false; 2],
    };
    let fold = Fold {
        weights: None,
        divide_by: Count::One,
    };
    let message =
        pair_loss(Base::Dot.into(), &rows, &Long, &fold).expect_err("anchors are references");
    assert!(
        message
            .to_string()
            .contains("none of which is among the references")
    );
    Ok(())
}
