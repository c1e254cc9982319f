//! Resizing, in the arithmetic of Pillow: the same bytes on every processor.

use serde::{Deserialize, Serialize};

/// How the pixels of another size are made of the old ones. Both widen with the step when an image shrinks, so that
/// nothing is skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Filter {
    /// The mean of the pixels whose centers lie in the area of the new one: Pillow's `BOX`.
    #[default]
    Box,
    /// Weights that fall off linearly: Pillow's `BILINEAR`.
    Linear,
}

impl Filter {
    fn support(self) -> f64 {
        match self {
            Self::Box => 0.5,
            Self::Linear => 1.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        match self {
            Self::Box => f64::from(u8::from(x > -0.5 && x <= 0.5)),
            Self::Linear => (1.0 - x.abs()).max(0.0),
        }
    }
}

/// For each new pixel where its old ones begin, and their weights, which sum to 1.
fn taps(old: usize, new: usize, filter: Filter) -> Vec<(usize, Vec<f64>)> {
    let scale = old as f64 / new as f64;
    let widened = scale.max(1.0);
    let support = filter.support() * widened;
    (0..new)
        .map(|index| {
            let center = (index as f64 + 0.5) * scale;
            let first = ((center - support + 0.5).max(0.0)) as usize;
            let last = ((center + support + 0.5) as usize).min(old);
            let mut weights: Vec<f64> = (first..last)
                .map(|at| filter.weight((at as f64 - center + 0.5) / widened))
                .collect();
            let sum: f64 = weights.iter().sum();
            if sum != 0.0 {
                weights.iter_mut().for_each(|weight| *weight /= sum);
            }
            (first, weights)
        })
        .collect()
}

/// Bits behind the point: 8 bits of a pixel, 2 of headroom and a sign leave 22 of 32.
const BITS: u32 = 22;

/// An image `[height, width]` of interleaved channels to another size: along the rows first, then along the columns, with
/// bytes between, as `Image.resize` of Pillow has it.
pub(crate) fn resize_bytes(
    bytes: &[u8],
    [height, width]: [usize; 2],
    channels: usize,
    [new_height, new_width]: [usize; 2],
    filter: Filter,
) -> Vec<u8> {
    let fixed = |old, new| -> Vec<(usize, Vec<i32>)> {
        taps(old, new, filter)
            .into_iter()
            .map(|(first, weights)| {
                let round = |weight: f64| (weight * f64::from(1 << BITS) + 0.5).floor() as i32;
                (first, weights.into_iter().map(round).collect())
            })
            .collect()
    };
    let to_byte = |sum: i32| (sum >> BITS).clamp(0, 255) as u8;
    const HALF: i32 = 1 << (BITS - 1);

    let mut wide = Vec::new();
    let rows: &[u8] = if new_width == width {
        bytes
    } else {
        let taps = fixed(width, new_width);
        wide.reserve_exact(height * new_width * channels);
        for row in bytes.chunks_exact(width * channels) {
            for (first, weights) in &taps {
                for channel in 0..channels {
                    let sum = weights.iter().enumerate().fold(HALF, |sum, (at, weight)| {
                        sum + i32::from(row[(first + at) * channels + channel]) * weight
                    });
                    wide.push(to_byte(sum));
                }
            }
        }
        &wide
    };
    if new_height == height {
        return rows.to_vec();
    }
    let stride = new_width * channels;
    let mut resized = Vec::with_capacity(new_height * stride);
    let mut sums = vec![HALF; stride];
    for (first, weights) in fixed(height, new_height) {
        sums.fill(HALF);
        for (at, weight) in weights.iter().enumerate() {
            let row = &rows[(first + at) * stride..][..stride];
            sums.iter_mut()
                .zip(row)
                .for_each(|(sum, &byte)| *sum += i32::from(byte) * weight);
        }
        resized.extend(sums.iter().map(|&sum| to_byte(sum)));
    }
    resized
}

/// The same for one channel of real numbers, without rounding between.
pub(crate) fn resize_values(
    values: &[f32],
    [height, width]: [usize; 2],
    [new_height, new_width]: [usize; 2],
    filter: Filter,
) -> Vec<f32> {
    let across = taps(width, new_width, filter);
    let mut wide = Vec::with_capacity(height * new_width);
    for row in values.chunks_exact(width) {
        for (first, weights) in &across {
            let sum: f64 = weights
                .iter()
                .zip(&row[*first..])
                .map(|(weight, &value)| weight * f64::from(value))
                .sum();
            wide.push(sum as f32);
        }
    }
    let mut resized = Vec::with_capacity(new_height * new_width);
    for (first, weights) in taps(height, new_height, filter) {
        for x in 0..new_width {
            let sum: f64 = weights
                .iter()
                .enumerate()
                .map(|(at, weight)| weight * f64::from(wide[(first + at) * new_width + x]))
                .sum();
            resized.push(sum as f32);
        }
    }
    resized
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_is_the_mean_of_an_area() {
        let bytes = [0, 100, 10, 30, 200, 100, 50, 70];
        assert_eq!(
            resize_bytes(&bytes, [2, 4], 1, [1, 2], Filter::Box),
            [100, 40]
        );
        let values: Vec<f32> = bytes.iter().map(|&byte| f32::from(byte)).collect();
        assert_eq!(
            resize_values(&values, [2, 4], [1, 2], Filter::Box),
            [100., 40.]
        );
        // Two channels do not mix.
        assert_eq!(
            resize_bytes(&[0, 10, 100, 30], [1, 2], 2, [1, 1], Filter::Box),
            [50, 20]
        );
    }

    #[test]
    fn growing_repeats_or_interpolates() {
        assert_eq!(
            resize_bytes(&[0, 100], [1, 2], 1, [1, 4], Filter::Box),
            [0, 0, 100, 100]
        );
        assert_eq!(
            resize_bytes(&[0, 100], [1, 2], 1, [1, 4], Filter::Linear),
            [0, 25, 75, 100]
        );
    }

    /// `Image.resize` of Pillow 13.0.0 on the bytes `(17 · i² + 29 · i) mod 256`.
    #[test]
    fn bytes_are_those_of_pillow() {
        let bytes: Vec<u8> = (0..15 * 11u32)
            .map(|i| ((17 * i * i + 29 * i) % 256) as u8)
            .collect();
        assert_eq!(
            resize_bytes(&bytes, [11, 15], 1, [3, 4], Filter::Box),
            PILLOW_BOX
        );
        assert_eq!(
            resize_bytes(&bytes, [11, 15], 1, [3, 4], Filter::Linear),
            PILLOW_LINEAR
        );
        assert_eq!(
            resize_bytes(&bytes, [11, 15], 1, [12, 7], Filter::Box),
            PILLOW_MIXED
        );
    }

    const PILLOW_BOX: [u8; 12] = [107, 111, 132, 147, 107, 147, 135, 97, 129, 141, 145, 111];
    const PILLOW_LINEAR: [u8; 12] = [109, 117, 133, 139, 101, 149, 150, 106, 130, 140, 131, 108];
    const PILLOW_MIXED: [u8; 84] = [
        23, 183, 95, 23, 150, 154, 166, 186, 86, 122, 173, 167, 167, 47, 63, 87, 119, 37, 154, 150,
        154, 166, 58, 214, 127, 111, 103, 231, 111, 127, 151, 187, 166, 154, 22, 26, 166, 58, 217,
        63, 175, 39, 26, 166, 58, 217, 63, 175, 39, 39, 175, 63, 217, 58, 166, 26, 22, 154, 166,
        187, 151, 127, 111, 231, 103, 111, 127, 214, 58, 166, 154, 150, 154, 37, 119, 87, 63, 47,
        167, 167, 173, 122, 86, 186,
    ];
}
