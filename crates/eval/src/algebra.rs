//! The little dense linear algebra that baselines and projections need, in f64.

/// A symmetric matrix, `d · d`, taken apart: eigenvalues in descending order, and the eigenvector of each as a row.
///
/// Householder's reduction to three diagonals and QL steps with shifts, after EISPACK's `tred2` and `tql2` (Bowdler,
/// Martin, Reinsch, Wilkinson 1968). Each eigenvector's sign is such that its entry of largest magnitude, the first of
/// equal ones, is positive.
pub(crate) fn symmetric_eigen(matrix: &[f64], d: usize) -> (Vec<f64>, Vec<f64>) {
    if d == 0 {
        return (Vec::new(), Vec::new());
    }
    let mut v = matrix.to_vec();
    let (mut values, mut off) = tridiagonal(&mut v, d);
    diagonal(&mut v, &mut values, &mut off, d);
    let mut order: Vec<usize> = (0..d).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]).then(a.cmp(&b)));
    let mut vectors = Vec::with_capacity(d * d);
    for &row in &order {
        let vector = &mut v[row * d..(row + 1) * d];
        fix_sign(vector);
        vectors.extend_from_slice(vector);
    }
    (order.iter().map(|&row| values[row]).collect(), vectors)
}

/// Makes the entry of largest magnitude positive.
fn fix_sign(vector: &mut [f64]) {
    let largest = vector
        .iter()
        .fold(0.0f64, |largest, x| largest.max(x.abs()));
    // Entries that are equal but for rounding are equal here, so that the sign does not hang on the last bit.
    let first = vector.iter().find(|x| x.abs() >= largest * (1.0 - 1e-9));
    if first.is_some_and(|x| *x < 0.0) {
        vector.iter_mut().for_each(|x| *x = -*x);
    }
}

/// The transformation is left in the rows of `v`, and the diagonal and what is beside it are returned.
fn tridiagonal(v: &mut [f64], n: usize) -> (Vec<f64>, Vec<f64>) {
    let mut d: Vec<f64> = v[(n - 1) * n..].to_vec(); // The matrix is symmetric.
    let mut e = vec![0.0; n];
    for i in (1..n).rev() {
        let scale: f64 = d[..i].iter().map(|x| x.abs()).sum();
        let mut h = 0.0;
        if scale == 0.0 {
            e[i] = d[i - 1];
            for j in 0..i {
                d[j] = v[j * n + i - 1];
                v[j * n + i] = 0.0;
                v[i * n + j] = 0.0;
            }
        } else {
            for x in &mut d[..i] {
                *x /= scale;
                h += *x * *x;
            }
            let f = d[i - 1];
            let g = if f > 0.0 { -h.sqrt() } else { h.sqrt() };
            e[i] = scale * g;
            h -= f * g;
            d[i - 1] = f - g;
            e[..i].fill(0.0);
            for j in 0..i {
                let f = d[j];
                v[i * n + j] = f;
                let mut g = e[j] + v[j * n + j] * f;
                for k in j + 1..i {
                    g += v[j * n + k] * d[k];
                    e[k] += v[j * n + k] * f;
                }
                e[j] = g;
            }
            let mut f = 0.0;
            for j in 0..i {
                e[j] /= h;
                f += e[j] * d[j];
            }
            let hh = f / (h + h);
            for j in 0..i {
                e[j] -= hh * d[j];
            }
            for j in 0..i {
                let (f, g) = (d[j], e[j]);
                for k in j..i {
                    v[j * n + k] -= f * e[k] + g * d[k];
                }
                d[j] = v[j * n + i - 1];
                v[j * n + i] = 0.0;
            }
        }
        d[i] = h;
    }
    for i in 0..n - 1 {
        v[i * n + n - 1] = v[i * n + i];
        v[i * n + i] = 1.0;
        let h = d[i + 1];
        if h != 0.0 {
            for k in 0..=i {
                d[k] = v[(i + 1) * n + k] / h;
            }
            for j in 0..=i {
                let g: f64 = (0..=i).map(|k| v[(i + 1) * n + k] * v[j * n + k]).sum();
                for k in 0..=i {
                    v[j * n + k] -= g * d[k];
                }
            }
        }
        for k in 0..=i {
            v[(i + 1) * n + k] = 0.0;
        }
    }
    for j in 0..n {
        d[j] = v[j * n + n - 1];
        v[j * n + n - 1] = 0.0;
    }
    v[n * n - 1] = 1.0;
    e.rotate_left(1);
    e[n - 1] = 0.0;
    (d, e)
}

fn diagonal(v: &mut [f64], d: &mut [f64], e: &mut [f64], n: usize) {
    let (mut f, mut largest) = (0.0, 0.0f64);
    for l in 0..n {
        largest = largest.max(d[l].abs() + e[l].abs());
        let mut m = l;
        while m < n - 1 && e[m].abs() > f64::EPSILON * largest {
            m += 1;
        }
        // 64 rounds for one value never happen for finite numbers; the bound is for those that are not.
        for _ in 0..64 {
            if m == l || e[l].abs() <= f64::EPSILON * largest {
                break;
            }
            let g = d[l];
            let p = (d[l + 1] - g) / (2.0 * e[l]);
            let r = if p < 0.0 { -p.hypot(1.0) } else { p.hypot(1.0) };
            d[l] = e[l] / (p + r);
            d[l + 1] = e[l] * (p + r);
            let (dl1, h) = (d[l + 1], g - d[l]);
            for x in &mut d[l + 2..n] {
                *x -= h;
            }
            f += h;
            let mut p = d[m];
            let (mut c, mut c2, mut c3) = (1.0, 1.0, 1.0);
            let el1 = e[l + 1];
            let (mut s, mut s2) = (0.0, 0.0);
            for i in (l..m).rev() {
                c3 = c2;
                c2 = c;
                s2 = s;
                let g = c * e[i];
                let h = c * p;
                let r = p.hypot(e[i]);
                e[i + 1] = s * r;
                s = e[i] / r;
                c = p / r;
                p = c * d[i] - s * g;
                d[i + 1] = h + s * (c * g + s * d[i]);
                let (upper, lower) = v[i * n..(i + 2) * n].split_at_mut(n);
                for (x, y) in upper.iter_mut().zip(lower) {
                    let h = *y;
                    *y = s * *x + c * h;
                    *x = c * *x - s * h;
                }
            }
            p = -s * s2 * c3 * el1 * e[l] / dl1;
            e[l] = s * p;
            d[l] = c * p;
        }
        d[l] += f;
        e[l] = 0.0;
    }
}

/// The lower factor `L` of a positive definite matrix `A = L Lᵀ`; none if it is not one.
pub(crate) fn cholesky(matrix: &[f64], d: usize) -> Option<Vec<f64>> {
    let mut l = vec![0.0; d * d];
    for i in 0..d {
        for j in 0..=i {
            let dot: f64 = l[i * d..i * d + j]
                .iter()
                .zip(&l[j * d..j * d + j])
                .map(|(a, b)| a * b)
                .sum();
            let rest = matrix[i * d + j] - dot;
            if i == j {
                if !(rest > 0.0 && rest.is_finite()) {
                    return None;
                }
                l[i * d + i] = rest.sqrt();
            } else {
                l[i * d + j] = rest / l[j * d + j];
            }
        }
    }
    Some(l)
}

/// Solves `L y = x` in place.
pub(crate) fn solve_lower(l: &[f64], d: usize, x: &mut [f64]) {
    for i in 0..d {
        let dot: f64 = l[i * d..i * d + i]
            .iter()
            .zip(&x[..i])
            .map(|(a, b)| a * b)
            .sum();
        x[i] = (x[i] - dot) / l[i * d + i];
    }
}

/// Solves `Lᵀ y = x` in place.
pub(crate) fn solve_lower_transposed(l: &[f64], d: usize, x: &mut [f64]) {
    for i in (0..d).rev() {
        x[i] /= l[i * d + i];
        let value = x[i];
        for (x, l) in x[..i].iter_mut().zip(&l[i * d..i * d + i]) {
            *x -= value * l;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearfar_core::{Purpose, Seed};

    #[test]
    fn eigenvectors_of_two_by_two() {
        let (values, vectors) = symmetric_eigen(&[2.0, 1.0, 1.0, 2.0], 2);
        assert!((values[0] - 3.0).abs() < 1e-12 && (values[1] - 1.0).abs() < 1e-12);
        let half = 0.5f64.sqrt();
        let want = [half, half, half, -half];
        assert!(
            vectors.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-12),
            "{vectors:?}"
        );
    }

    #[test]
    fn a_matrix_is_what_its_eigenvectors_make() {
        let mut rng = Seed(5).rng(Purpose::Evaluation, 0);
        for d in [1, 2, 3, 17, 40] {
            let mut a = vec![0.0; d * d];
            for i in 0..d {
                for j in 0..=i {
                    // Some rows are zero, so that eigenvalues repeat.
                    let x = if i % 5 == 4 { 0.0 } else { rng.normal() };
                    (a[i * d + j], a[j * d + i]) = (x, x);
                }
            }
            let (values, vectors) = symmetric_eigen(&a, d);
            assert!(values.is_sorted_by(|a, b| a >= b));
            for i in 0..d {
                for j in 0..d {
                    let made: f64 = (0..d)
                        .map(|k| values[k] * vectors[k * d + i] * vectors[k * d + j])
                        .sum();
                    assert!((made - a[i * d + j]).abs() < 1e-10, "d {d}: {i} {j}");
                    let dot: f64 = (0..d)
                        .map(|k| vectors[i * d + k] * vectors[j * d + k])
                        .sum();
                    assert!((dot - f64::from(u8::from(i == j))).abs() < 1e-10);
                }
            }
        }
    }

    #[test]
    fn triangles_are_solved() {
        let a = [4.0, 2.0, 2.0, 5.0];
        let l = cholesky(&a, 2).unwrap();
        assert_eq!(l, [2.0, 0.0, 1.0, 2.0]);
        let mut x = vec![8.0, 12.0]; // A (0.…) = x: solve both triangles, and multiply back.
        solve_lower(&l, 2, &mut x);
        solve_lower_transposed(&l, 2, &mut x);
        assert!((a[0] * x[0] + a[1] * x[1] - 8.0).abs() < 1e-12);
        assert!((a[2] * x[0] + a[3] * x[1] - 12.0).abs() < 1e-12);
        assert_eq!(cholesky(&[1.0, 2.0, 2.0, 1.0], 2), None);
    }
}
