//! Eigenvalues of small symmetric matrices.

/// A symmetric matrix as its eigenvalues, and for each a vector of length 1; largest first.
pub(crate) struct Eigen {
    pub(crate) values: Vec<f64>,
    pub(crate) vectors: Vec<Vec<f64>>,
}

/// Sweeps after which rounding alone is left; matrices of a thousand rows take about ten.
const SWEEPS: usize = 60;

/// The eigenvalues and vectors of a symmetric matrix, `n · n` row-major numbers, by Jacobi's rotations.
///
/// Each rotation makes one pair of entries zero (Golub and Van Loan, "Matrix computations", section 8.5). It is slower than
/// a reduction to tridiagonal form, and finds small eigenvalues to more digits. Only the mean of both triangles is read.
pub(crate) fn symmetric(matrix: &[f64], n: usize) -> Eigen {
    let mut a: Vec<Vec<f64>> = (0..n)
        .map(|i| {
            (0..n)
                .map(|j| (matrix[i * n + j] + matrix[j * n + i]) / 2.0)
                .collect()
        })
        .collect();
    let mut vectors: Vec<Vec<f64>> = (0..n)
        .map(|i| (0..n).map(|j| f64::from(i == j)).collect())
        .collect(); // Row k is the k-th vector.
    for _ in 0..SWEEPS {
        let mut rotated = false;
        for p in 0..n {
            for q in p + 1..n {
                let (diagonal, off) = ((a[p][p].abs() * a[q][q].abs()).sqrt(), a[p][q].abs());
                // Small against its own two diagonal entries, so that small eigenvalues are found well too.
                if off <= f64::EPSILON * diagonal || off < f64::MIN_POSITIVE {
                    continue;
                }
                rotated = true;
                rotate(&mut a, &mut vectors, p, q);
            }
        }
        if !rotated {
            break;
        }
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&i, &j| a[j][j].total_cmp(&a[i][i]).then(i.cmp(&j)));
    Eigen {
        values: order.iter().map(|&k| a[k][k]).collect(),
        vectors: order.iter().map(|&k| vectors[k].clone()).collect(),
    }
}

/// Turns the plane of `p` and `q` so that their entry becomes zero.
fn rotate(a: &mut [Vec<f64>], vectors: &mut [Vec<f64>], p: usize, q: usize) {
    let theta = (a[q][q] - a[p][p]) / (2.0 * a[p][q]);
    // The smaller of the two angles. For a huge θ its square overflows to infinity and the tangent is 0, which is right.
    let tangent = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
    let cosine = 1.0 / (tangent * tangent + 1.0).sqrt();
    let sine = tangent * cosine;
    for row in a.iter_mut() {
        let (x, y) = (row[p], row[q]);
        row[p] = cosine * x - sine * y;
        row[q] = sine * x + cosine * y;
    }
    let turn = |rows: &mut [Vec<f64>]| {
        let (head, tail) = rows.split_at_mut(q);
        for (x, y) in head[p].iter_mut().zip(&mut tail[0]) {
            (*x, *y) = (cosine * *x - sine * *y, sine * *x + cosine * *y);
        }
    };
    turn(a);
    turn(vectors);
    (a[p][q], a[q][p]) = (0.0, 0.0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_two_by_two_matrix_is_solved_as_on_paper() {
        let eigen = symmetric(&[2.0, 1.0, 1.0, 2.0], 2);
        assert!((eigen.values[0] - 3.0).abs() < 1e-15 && (eigen.values[1] - 1.0).abs() < 1e-15);
        let v = &eigen.vectors[0];
        assert!((v[0] - v[1]).abs() < 1e-15 && (v[0].abs() - 0.5f64.sqrt()).abs() < 1e-15);
        assert_eq!(symmetric(&[0.0; 4], 2).values, [0.0, 0.0]);
    }

    #[test]
    fn the_matrix_is_the_sum_of_its_parts() {
        let n = 24;
        let noise = |k: usize| ((k * 7919 + 13) % 1009) as f64 / 1009.0 - 0.5;
        let matrix: Vec<f64> = (0..n * n)
            .map(|k| noise((k / n) * (k % n) + (k / n) + (k % n))) // Symmetric.
            .collect();
        let eigen = symmetric(&matrix, n);
        assert!(eigen.values.windows(2).all(|pair| pair[0] >= pair[1]));
        for i in 0..n {
            for j in 0..n {
                let parts = eigen.values.iter().zip(&eigen.vectors);
                let entry: f64 = parts.map(|(value, v)| value * v[i] * v[j]).sum();
                assert!((entry - matrix[i * n + j]).abs() < 1e-12);
                let product: f64 = eigen.vectors[i]
                    .iter()
                    .zip(&eigen.vectors[j])
                    .map(|(x, y)| x * y)
                    .sum();
                assert!((product - f64::from(i == j)).abs() < 1e-12);
            }
        }
    }
}
