//! Pixels and the instances that they belong to.

use nearfar_core::Rng;

/// Pairs of an image's pixels that belong to an instance: how near their embeddings are, as negative Euclidean distances, and whether
/// both are of one instance, for [`Subject::Pairs`](crate::Subject::Pairs).
///
/// `map` has `dim` numbers for each pixel, one channel after another; `instances` says of each pixel which instance it is of, 0 for
/// the background, which is left out. Of more than `most` pixels so many are drawn.
///
/// ```
/// use nearfar_core::{Purpose, Seed};
///
/// let mut rng = Seed(0).rng(Purpose::Evaluation, 0);
/// let (scores, same) = nearfar_eval::pixel_pairs(&[0.0, 9.0, 1.0, 5.0], 1, &[3, 0, 3, 8], 10, &mut rng);
/// assert_eq!((scores, same), (vec![-1.0, -5.0, -4.0], vec![true, false, false]));
/// ```
pub fn pixel_pairs(
    map: &[f32],
    dim: usize,
    instances: &[u32],
    most: usize,
    rng: &mut Rng,
) -> (Vec<f64>, Vec<bool>) {
    let count = instances.len();
    let mut pixels: Vec<usize> = (0..count).filter(|&it| instances[it] != 0).collect();
    if pixels.len() > most {
        rng.shuffle(&mut pixels);
        pixels.truncate(most);
        pixels.sort_unstable();
    }
    let (mut scores, mut same) = (Vec::new(), Vec::new());
    for (place, &one) in pixels.iter().enumerate() {
        for &other in &pixels[place + 1..] {
            let squares = (0..dim).map(|channel| {
                let at = |pixel: usize| map.get(channel * count + pixel).copied().unwrap_or(0.0);
                (f64::from(at(one)) - f64::from(at(other))).powi(2)
            });
            scores.push(-squares.sum::<f64>().sqrt());
            same.push(instances[one] == instances[other]);
        }
    }
    (scores, same)
}
