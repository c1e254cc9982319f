//! The readable version: the whole matrix in candle operations, its rows on the host.

use candle_core::{DType, Result, Tensor};

use super::{
    Anchor, Base, Columns, Fold, PairLoss, Row, RowForm, RowFunctional, RowSum, Rows, check,
    check_weights, part,
};
use crate::{euclidean, l2_normalize, safe_sqrt, squared_euclidean};

/// [`pair_loss`](crate::pair_loss) in candle operations.
pub fn reference(
    form: RowForm,
    rows: &Rows<'_>,
    functional: &dyn RowFunctional,
    fold: &Fold<'_>,
) -> Result<PairLoss> {
    check(rows)?;
    check_weights(rows, fold)?;
    let Matrix {
        matrix,
        columns,
        own,
        values,
        sides,
    } = Matrix::of(form, rows)?;
    let (n, m) = matrix.dims2()?;
    let lengths = Lengths::of(functional, &sides)?;
    let mut by_length = [vec![0f32; n], vec![0f32; m]];
    let columns = columns.view();
    let mut sums = [RowSum::default(); 2];
    let mut gradients = [vec![0f32; n * m], vec![0f32; n * m]];
    let apart = functional.apart();
    // Anchors by group.
    let mut order: Vec<usize> = (0..if m > 0 { n } else { 0 }).collect();
    order.sort_by_key(|&anchor| rows.anchor_groups[anchor]);
    for anchors in
        order.chunk_by(|&one, &other| rows.anchor_groups[one] == rows.anchor_groups[other])
    {
        let group = rows.anchor_groups[anchors[0]];
        let run = columns.run(group);
        let mut values: Vec<Vec<f32>> = anchors
            .iter()
            .map(|&anchor| values[anchor * m..(anchor + 1) * m].to_vec())
            .collect();
        let named: Vec<Anchor> = anchors.iter().map(|&it| (it, own[it])).collect();
        let mut slices: Vec<&mut [f32]> = values.iter_mut().map(|it| &mut it[..]).collect();
        let first = run.clone().next().map(|it| columns.places[it] as usize);
        let mut pulls: Vec<[f32; 2]> = anchors
            .iter()
            .map(|&anchor| lengths.seen(anchor, first))
            .collect();
        let numbers = (&mut slices[..], &mut pulls[..]);
        let found = Rows::visit(functional, fold, (&named, group), columns, numbers);
        for (pulls, &anchor) in pulls.iter().zip(anchors) {
            by_length[0][anchor] += pulls[0];
            if let Some(first) = first {
                by_length[1][first] += pulls[1];
            }
        }
        for (sum, some) in sums.iter_mut().zip(found) {
            *sum += some;
        }
        for (&anchor, values) in anchors.iter().zip(values) {
            for (column, (&place, value)) in columns.places.iter().zip(values).enumerate() {
                let part = usize::from(apart && !run.contains(&column));
                gradients[part][anchor * m + place as usize] = value;
            }
        }
    }
    let parts = if apart { 2 } else { 1 };
    let mut loss = PairLoss { parts: Vec::new() };
    for (sum, gradient) in sums.into_iter().zip(gradients).take(parts) {
        let value = match fold.divisor(sum) {
            None => None,
            Some(divisor) => {
                let gradient = Tensor::from_vec(gradient, matrix.shape(), matrix.device())?
                    .to_dtype(matrix.dtype())?;
                // It has the value 0 and the gradient that the rows gave.
                let mut change = (&matrix - matrix.detach())?.mul(&gradient)?.sum_all()?;
                for (lengths, slopes) in lengths.tensors.iter().zip(&by_length) {
                    let slopes = Tensor::new(&slopes[..], lengths.device())?;
                    let moved = (lengths - lengths.detach())?;
                    change = (change + (moved * slopes.to_dtype(lengths.dtype())?)?.sum_all()?)?;
                }
                Some(((change + sum.value)? / divisor)?)
            }
        };
        loss.parts.push(part(value, sum));
    }
    Ok(loss)
}

/// [`row_survey`](crate::row_survey) of the whole matrix.
pub(super) fn row_survey<T>(
    form: RowForm,
    rows: &Rows<'_>,
    look: &(dyn Fn(Row<'_>) -> T + Sync),
) -> Result<Vec<T>> {
    let mut matrix = Matrix::of(form, rows)?;
    let (n, m) = matrix.matrix.dims2()?;
    let columns = matrix.columns.view();
    let seen = (0..n).map(|anchor| {
        let group = rows.anchor_groups[anchor];
        let values = &mut matrix.values[anchor * m..(anchor + 1) * m];
        look(columns.row(
            (anchor, matrix.own[anchor]),
            group,
            &columns.run(group),
            (values, &mut [0.0; 2]),
        ))
    });
    Ok(seen.collect())
}

/// The lengths of anchors and of references; none where a functional depends on none.
struct Lengths {
    tensors: Vec<Tensor>,
    numbers: Vec<Vec<f32>>,
}

impl Lengths {
    fn of(functional: &dyn RowFunctional, sides: &[Tensor; 2]) -> Result<Self> {
        let mut lengths = Self {
            tensors: Vec::new(),
            numbers: Vec::new(),
        };
        if functional.lengths() {
            for side in sides {
                let tensor = safe_sqrt(&side.sqr()?.sum(1)?)?;
                lengths
                    .numbers
                    .push(tensor.to_dtype(DType::F32)?.to_vec1()?);
                lengths.tensors.push(tensor);
            }
        }
        Ok(lengths)
    }

    /// What a functional sees of an anchor and of the first of its positives.
    fn seen(&self, anchor: usize, first: Option<usize>) -> [f32; 2] {
        let [anchors, references] = &self.numbers[..] else {
            return [0.0; 2];
        };
        [anchors[anchor], first.map_or(0.0, |it| references[it])]
    }
}

/// All values at once.
struct Matrix {
    /// Anchors and references as they are compared.
    sides: [Tensor; 2],
    /// As references were given.
    matrix: Tensor,
    columns: Sorted,
    /// Of each anchor its own column in sorted order.
    own: Vec<Option<usize>>,
    /// On the host, each row in the order of groups.
    values: Vec<f32>,
}

/// References in the order of their groups.
struct Sorted {
    groups: Vec<u32>,
    places: Vec<u32>,
}

impl Sorted {
    fn view(&self) -> Columns<'_> {
        Columns {
            groups: &self.groups,
            places: &self.places,
        }
    }
}

impl Matrix {
    fn of(form: RowForm, rows: &Rows<'_>) -> Result<Self> {
        let unit = |x: &Tensor, unit: bool| {
            if unit { l2_normalize(x) } else { Ok(x.clone()) }
        };
        let x = unit(rows.anchors, rows.unit[0])?;
        let y = if rows.anchors.id() == rows.references.id() && rows.unit[0] == rows.unit[1] {
            x.clone()
        } else {
            unit(rows.references, rows.unit[1])?
        };
        let base = match form.base {
            Base::Euclidean => euclidean::reference(&x, &y)?,
            Base::Squared => squared_euclidean::reference(&x, &y)?,
            Base::Dot => x.matmul(&y.t()?)?,
        };
        let matrix = base.affine(f64::from(form.scale), f64::from(form.shift))?;
        let (n, m) = matrix.dims2()?;
        let mut places: Vec<u32> = (0..m as u32).collect();
        places.sort_by_key(|&row| rows.reference_groups[row as usize]);
        let groups: Vec<u32> = places
            .iter()
            .map(|&row| rows.reference_groups[row as usize])
            .collect();
        let own = match rows.own {
            [] => vec![None; n],
            _ => rows.own_in(&places),
        };
        let flat = matrix.flatten_all()?.to_dtype(DType::F32)?;
        let flat = flat.to_vec1::<f32>()?;
        let mut values = Vec::with_capacity(n * m);
        for row in flat.chunks_exact(m.max(1)) {
            values.extend(places.iter().map(|&place| row[place as usize]));
        }
        Ok(Self {
            sides: [x, y],
            matrix,
            columns: Sorted { groups, places },
            own,
            values,
        })
    }
}
