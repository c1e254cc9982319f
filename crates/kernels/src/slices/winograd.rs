//! Convolution with 3 × 3 kernels by Winograd's F(2 × 2, 3 × 3): four outputs of 16 multiplications, where the direct way takes 36.
//!
//! ```text
//! Y = Aᵀ [ (G g Gᵀ) ∘ (Bᵀ d B) ] A        d 4 × 4 of the input, g the kernel, Y 2 × 2 of the output
//! ```
//!
//! With channels, each of the 16 products of numbers is a product of matrices. The transforms are sums and halves alone. They mix the
//! numbers of a patch, so an error is in units of the largest number of a patch times the largest of the kernel, and not of each product:
//! a pixel beside one that is 10⁸ times as large is lost even where the kernel would not see the larger one.
//!
//! Source: Lavin, Gray, "Fast algorithms for convolutional neural networks", CVPR 2016, <https://arxiv.org/abs/1509.09308>.

#![allow(clippy::needless_range_loop)] // Small matrices in registers: indices read as in the formula.

use pulp::{Simd, WithSimd};

use super::conv::Conv;
use super::gemm::{LANES, PANEL, Panels, Segments, TILE, Tile, Update, rows_times_panel};
use super::{dispatch, lease, set_vector, vector};

/// Numbers of a patch of the input, and products.
const PRODUCTS: usize = 16;
/// Channels below which the transforms cost as much as they save.
const FEW: usize = 32;
/// Pixels below which there are too few tiles for what the transformed weights take.
const SMALL: usize = 16;
/// Numbers of a row of tiles that stay in the cache.
const CACHED: usize = 3072;

/// Whether the shape gains by it. It does not depend on the batch, so neither do the bits of a row.
pub(crate) fn pays(conv: &Conv) -> bool {
    let fits = conv.kernel == 3
        && conv.stride == 1
        && conv.channels >= FEW
        && conv.channels.is_multiple_of(LANES)
        && conv.outputs >= FEW;
    // 4 × 4 patches of an odd side reach beyond it.
    fits && conv.pixels() >= SMALL && 9 * conv.pixels() * 2 >= 3 * PRODUCTS * tiles(conv)
}

/// 2 × 2 squares of the output.
fn tiles(conv: &Conv) -> usize {
    let (rows, columns) = conv.convolved();
    rows.div_ceil(2) * columns.div_ceil(2)
}

/// Packs transformed kernels: 16 matrices, one below the other, each with a row for every channel. `kernel` gives the nine numbers
/// of an output and a channel.
pub(crate) fn pack(conv: &Conv, kernel: impl Fn(usize, usize) -> [f32; 9] + Send + Sync) -> Panels {
    let channels = conv.channels;
    Panels::pack_all(PRODUCTS * channels, conv.outputs, |p, panel| {
        let columns = PANEL.min(conv.outputs - p * PANEL);
        let mut kernels = [[0f32; LANES]; 9];
        for first in (0..columns).step_by(LANES) {
            for c in 0..channels {
                for lane in 0..LANES {
                    // What fills the last vector up stays zero.
                    let column = first + lane;
                    let numbers = match column < columns {
                        true => kernel(p * PANEL + column, c),
                        false => [0.0; 9],
                    };
                    for (to, x) in kernels.iter_mut().zip(numbers) {
                        to[lane] = x;
                    }
                }
                dispatch(Kernels {
                    kernels: &kernels,
                    panel,
                    at: (c, first),
                    channels,
                });
            }
        }
    })
}

/// `G g Gᵀ` of as many kernels as there are lanes.
struct Kernels<'a> {
    kernels: &'a [[f32; LANES]; 9],
    panel: &'a mut [[f32; PANEL]],
    /// Row within each of the 16 matrices, and first column.
    at: (usize, usize),
    channels: usize,
}

impl WithSimd for Kernels<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            kernels,
            panel,
            at: (row, first),
            channels,
        } = self;
        for lane in (0..LANES).step_by(S::F32_LANES) {
            let mut rows = [[simd.splat_f32s(0.0); 3]; 4];
            for column in 0..3 {
                let g = [
                    vector(simd, &kernels[column], lane),
                    vector(simd, &kernels[3 + column], lane),
                    vector(simd, &kernels[6 + column], lane),
                ];
                let spread = spread(simd, g);
                for a in 0..4 {
                    rows[a][column] = spread[a];
                }
            }
            for a in 0..4 {
                let spread = spread(simd, rows[a]);
                for b in 0..4 {
                    let to = &mut panel[(4 * a + b) * channels + row];
                    set_vector(simd, to, first + lane, spread[b]);
                }
            }
        }
    }
}

/// `G` of three numbers: `g0, (g0 + g1 + g2) / 2, (g0 − g1 + g2) / 2, g2`.
#[inline(always)]
fn spread<S: Simd>(simd: S, g: [S::f32s; 3]) -> [S::f32s; 4] {
    let half = simd.splat_f32s(0.5);
    let outer = simd.add_f32s(g[0], g[2]);
    [
        g[0],
        simd.mul_f32s(half, simd.add_f32s(outer, g[1])),
        simd.mul_f32s(half, simd.sub_f32s(outer, g[1])),
        g[2],
    ]
}

/// The convolution of images with channels last within their border, one after the other, by what [`pack`] made.
#[inline(always)]
pub(crate) fn convolve<S: Simd>(
    conv: &Conv,
    simd: S,
    images: &[f32],
    weights: &Panels,
    out: &mut [f32],
) {
    let (channels, width) = (conv.channels, conv.width());
    let count = out.len() / (conv.pixels() * width) * tiles(conv);
    let most = (CACHED / channels.max(width)).clamp(4 * TILE, 16 * TILE) / TILE * TILE;
    let mut patches = lease(PRODUCTS * most * channels);
    let mut products = lease(PRODUCTS * most * width);
    for first in (0..count).step_by(most) {
        let tiles = most.min(count - first);
        for slot in 0..tiles {
            let at = place(conv, first + slot);
            read(
                conv,
                simd,
                images,
                at,
                &mut patches[slot * channels..],
                most * channels,
            );
        }
        for k in 0..PRODUCTS {
            let a = &patches[k * most * channels..][..tiles * channels];
            let c = &mut products[k * most * width..][..tiles * width];
            for p in 0..width.div_ceil(PANEL) {
                let wide = PANEL.min(width - p * PANEL);
                let panel = &weights.panel(p)[k * channels..][..channels];
                for row in (0..tiles).step_by(TILE) {
                    let count = TILE.min(tiles - row);
                    let mut tile = Tile {
                        count,
                        from: [0; TILE],
                        to: [0; TILE],
                    };
                    for r in 0..TILE {
                        let row = row + r.min(count - 1);
                        tile.from[r] = row * channels;
                        tile.to[r] = row * width + p * PANEL;
                    }
                    let depth = Segments::one(channels);
                    rows_times_panel(simd, a, tile, depth, panel, wide, c, Update::Set);
                }
            }
        }
        for slot in 0..tiles {
            let at = place(conv, first + slot);
            write(conv, simd, &products[slot * width..], most * width, at, out);
        }
    }
}

/// Image, row and column of a tile.
#[inline(always)]
fn place(conv: &Conv, tile: usize) -> [usize; 3] {
    let across = conv.convolved().1.div_ceil(2);
    let (image, tile) = (tile / tiles(conv), tile % tiles(conv));
    [image, tile / across, tile % across]
}

/// `Bᵀ d B` of a tile's patch: numbers `step` apart in `to`, those of the channels beside one another.
#[inline(always)]
fn read<S: Simd>(
    conv: &Conv,
    simd: S,
    images: &[f32],
    [image, i, j]: [usize; 3],
    to: &mut [f32],
    step: usize,
) {
    let channels = conv.channels;
    let (lines, across) = (
        conv.size.0 + 2 * conv.padding,
        conv.size.1 + 2 * conv.padding,
    );
    let first = image * conv.image_len() + (2 * i * across + 2 * j) * channels;
    // What lies beyond an odd side is zero.
    let (rows, columns) = (4.min(lines - 2 * i), 4.min(across - 2 * j));
    for c in (0..channels).step_by(S::F32_LANES) {
        let zero = simd.splat_f32s(0.0);
        let mut mixed = [[zero; 4]; 4];
        for b in 0..4 {
            let mut d = [zero; 4];
            for a in 0..4 {
                if a < rows && b < columns {
                    d[a] = vector(simd, images, first + (a * across + b) * channels + c);
                }
            }
            let across = mix(simd, d);
            for a in 0..4 {
                mixed[a][b] = across[a];
            }
        }
        for a in 0..4 {
            let values = mix(simd, mixed[a]);
            for b in 0..4 {
                set_vector(simd, to, (4 * a + b) * step + c, values[b]);
            }
        }
    }
}

/// `Bᵀ` of four numbers: `d0 − d2, d1 + d2, d2 − d1, d1 − d3`.
#[inline(always)]
fn mix<S: Simd>(simd: S, d: [S::f32s; 4]) -> [S::f32s; 4] {
    [
        simd.sub_f32s(d[0], d[2]),
        simd.add_f32s(d[1], d[2]),
        simd.sub_f32s(d[2], d[1]),
        simd.sub_f32s(d[1], d[3]),
    ]
}

/// `Aᵀ m A` of a tile's products, to its pixels.
#[inline(always)]
fn write<S: Simd>(
    conv: &Conv,
    simd: S,
    products: &[f32],
    step: usize,
    [image, i, j]: [usize; 3],
    out: &mut [f32],
) {
    let (width, (rows, columns)) = (conv.width(), conv.convolved());
    let first = image * conv.pixels() + 2 * i * columns + 2 * j;
    for c in (0..width).step_by(S::F32_LANES) {
        let mut joined = [[simd.splat_f32s(0.0); 4]; 2];
        for b in 0..4 {
            let m = [
                vector(simd, products, b * step + c),
                vector(simd, products, (4 + b) * step + c),
                vector(simd, products, (8 + b) * step + c),
                vector(simd, products, (12 + b) * step + c),
            ];
            [joined[0][b], joined[1][b]] = join(simd, m);
        }
        for a in 0..2 {
            let values = join(simd, joined[a]);
            for b in 0..2 {
                if 2 * i + a < rows && 2 * j + b < columns {
                    set_vector(simd, out, (first + a * columns + b) * width + c, values[b]);
                }
            }
        }
    }
}

/// `Aᵀ` of four numbers: `m0 + m1 + m2, m1 − m2 − m3`.
#[inline(always)]
fn join<S: Simd>(simd: S, m: [S::f32s; 4]) -> [S::f32s; 2] {
    [
        simd.add_f32s(m[0], simd.add_f32s(m[1], m[2])),
        simd.sub_f32s(m[1], simd.add_f32s(m[2], m[3])),
    ]
}
