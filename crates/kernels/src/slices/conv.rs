//! Convolution as a matrix product without the matrix: the micro-kernel reads the rows of the kernel out
//! of an image with channels last and a border of zeros.
//!
//! A group of images at a time: they, their output and their gradients stay in the cache from one step to the next. A group
//! is one image, or as many small ones as make the weights worth reading. Where the rows of a kernel are short (few
//! channels: a first layer), they are gathered into a matrix first; and where it pays, 3 × 3 kernels go [by tiles](super::winograd), which
//! both pack their weights for.

use pulp::{Simd, WithSimd};

use super::gemm::{
    LANES, PANEL, Panels, Run, Segments, TILE, Tile, Update, columns_times_rows, rows_times_panel,
};
use super::{lease, run, winograd};

/// The sizes of a convolution.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Conv {
    /// Channels of the input.
    pub(crate) channels: usize,
    /// Channels of the output.
    pub(crate) outputs: usize,
    /// Rows and columns of the input.
    pub(crate) size: (usize, usize),
    /// Side of the kernel.
    pub(crate) kernel: usize,
    /// Zeros around the input, fewer than `kernel`.
    pub(crate) padding: usize,
    /// From one place of the kernel to the next.
    pub(crate) stride: usize,
}

/// Images of a tensor `(b, c, h, w)` wherever they lie.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Images<'a> {
    /// From the first element on.
    pub(crate) data: &'a [f32],
    /// Steps along batch, channels, rows and columns.
    pub(crate) strides: [usize; 4],
}

/// Values of a kernel's row below which rows are gathered.
const SHORT: usize = 48;
/// Bytes of a panel above which it is gone through one kernel row at a time, to stay in the cache.
const LARGE: usize = 512 << 10;
/// Pixels of the output for which the weights are worth reading: the smaller images are, the more of them make a group.
const GROUP: usize = 96;
/// What turning a number of a gradient costs, in multiplications of a product.
const TURNING: usize = 64;

impl Conv {
    /// Rows and columns of the output.
    pub(crate) fn convolved(&self) -> (usize, usize) {
        let side = |len| (len + 2 * self.padding - self.kernel) / self.stride + 1;
        (side(self.size.0), side(self.size.1))
    }

    /// Pixels of the output.
    pub(crate) fn pixels(&self) -> usize {
        self.convolved().0 * self.convolved().1
    }

    /// Values of an output pixel: its channels, padded to whole vectors. The padding is zero.
    pub(crate) fn width(&self) -> usize {
        self.outputs.next_multiple_of(LANES)
    }

    /// Rows of the matrix of weights: a value of the input for each.
    pub(crate) fn depth(&self) -> usize {
        self.kernel * self.kernel * self.channels
    }

    /// Images of a batch that are convolved at once.
    pub(crate) fn group(&self, batch: usize) -> usize {
        let group = (GROUP / self.pixels()).clamp(1, batch);
        batch.div_ceil(batch.div_ceil(group))
    }

    /// Multiplications for one image.
    pub(crate) fn work(&self) -> usize {
        self.pixels() * self.depth() * self.outputs
    }

    /// Numbers of one weight tensor.
    pub(crate) fn weights(&self) -> usize {
        self.depth() * self.outputs
    }

    /// Numbers of an image with its border.
    pub(crate) fn image_len(&self) -> usize {
        (self.size.0 + 2 * self.padding) * self.bordered_columns() * self.channels
    }

    /// Numbers of the gathered rows of an image; 0 where they are read from the image.
    pub(crate) fn gathered_len(&self) -> usize {
        if self.gathers() {
            self.pixels() * self.depth()
        } else {
            0
        }
    }

    /// Zeros that [`input_gradient`](Self::input_gradient) needs around the gradient of the output.
    pub(crate) fn gradient_border(&self) -> usize {
        if self.scatters() {
            0
        } else {
            self.reversed().padding
        }
    }

    /// Numbers that [`input_gradient`](Self::input_gradient) writes for so many images.
    pub(crate) fn input_len(&self, images: usize) -> usize {
        if self.scatters() {
            images * self.image_len() + LANES
        } else {
            images * self.reversed().pixels() * self.reversed().width()
        }
    }

    /// Whether the gradient of the input is added up where the kernel reads the image, instead of
    /// being a convolution of its own, which would multiply too many of the zeros around the output.
    fn scatters(&self) -> bool {
        self.stride > 1 || 4 * self.size.0 * self.size.1 > 5 * self.pixels()
    }

    /// Panels that a row of the kernel takes when the gradient of the input is scattered.
    fn row_panels(&self) -> usize {
        (self.kernel * self.channels).div_ceil(PANEL)
    }

    fn bordered_columns(&self) -> usize {
        self.size.1 + 2 * self.padding
    }

    fn gathers(&self) -> bool {
        self.kernel > 1 && self.kernel * self.channels < SHORT
    }

    /// The convolution that leads from the gradient of the output, with channels padded, to that of the input.
    fn reversed(&self) -> Self {
        Self {
            channels: self.width(),
            outputs: self.channels,
            size: self.convolved(),
            kernel: self.kernel,
            padding: self.kernel - 1 - self.padding,
            stride: 1,
        }
    }

    /// Packs weights `(o, c, k, k)` for [`forward`](Self::forward): rows (row, column, channel), columns outputs.
    pub(crate) fn pack(&self, weights: &[f32]) -> Panels {
        let (channels, taps) = (self.channels, self.kernel * self.kernel);
        if winograd::pays(self) {
            return winograd::pack(self, |o, c| {
                let source = &weights[(o * channels + c) * taps..][..taps];
                std::array::from_fn(|t| source[t])
            });
        }
        Panels::pack_all(self.depth(), self.outputs, |p, panel| {
            // Blocks of channels, so that the rows written to stay in the cache while the outputs go by.
            for block in (0..channels).step_by(LANES) {
                for o in 0..PANEL.min(self.outputs - p * PANEL) {
                    for c in block..channels.min(block + LANES) {
                        let source = &weights[((p * PANEL + o) * channels + c) * taps..][..taps];
                        for (t, &w) in source.iter().enumerate() {
                            panel[t * channels + c][o] = w;
                        }
                    }
                }
            }
        })
    }

    /// Packs weights `(o, c, k, k)` for [`input_gradient`](Self::input_gradient). As a convolution:
    /// the kernel turned by 180°, rows (row, column, output), columns channels. To be scattered: rows
    /// outputs, columns (row, column, channel), each row of the kernel padded to whole panels.
    pub(crate) fn pack_reversed(&self, weights: &[f32]) -> Panels {
        let (taps, width, channels) = (self.kernel * self.kernel, self.width(), self.channels);
        if self.scatters() {
            let panels = self.row_panels();
            return Panels::pack_with(width, self.kernel * panels * PANEL, |p, panel| {
                let (row, first) = (p / panels, p % panels * PANEL);
                let columns = PANEL.min(self.kernel * channels - first);
                for (o, values) in panel.iter_mut().enumerate().take(self.outputs) {
                    for (q, value) in (first..).zip(&mut values[..columns]) {
                        let (column, c) = (q / channels, q % channels);
                        let tap = row * self.kernel + column;
                        *value = weights[(o * channels + c) * taps + tap];
                    }
                }
            });
        }
        let reversed = self.reversed();
        if winograd::pays(&reversed) {
            return winograd::pack(&reversed, |c, o| {
                if o >= self.outputs {
                    return [0.0; 9];
                }
                let source = &weights[(o * channels + c) * taps..][..taps];
                std::array::from_fn(|t| source[taps - 1 - t])
            });
        }
        Panels::pack_all(reversed.depth(), channels, |p, panel| {
            for tap in panel.chunks_exact_mut(width) {
                tap[self.outputs..].iter_mut().for_each(|row| row.fill(0.0));
            }
            for o in 0..self.outputs {
                for c in 0..PANEL.min(channels - p * PANEL) {
                    let source = &weights[(o * channels + p * PANEL + c) * taps..][..taps];
                    for (t, &w) in source.iter().rev().enumerate() {
                        panel[t * width + o][c] = w;
                    }
                }
            }
        })
    }

    /// Whether [`read`](Self::read) wants room for a copy of the image: one whose planes follow one
    /// another is copied in the order of memory, before the copy in the cache is read across.
    pub(crate) fn stages(&self, images: &Images) -> bool {
        let (rows, columns) = self.size;
        self.channels > 1 && images.strides[1..] == [rows * columns, columns, 1]
    }

    /// Copies image `b` with channels last into a border of zeros, and gathers its rows where they are
    /// short. `staged` is room for an image if [`stages`](Self::stages), else it is empty.
    pub(crate) fn read(
        &self,
        images: &Images,
        b: usize,
        staged: &mut [f32],
        image: &mut [f32],
        gathered: &mut [f32],
    ) {
        let [_, along_channels, along_rows, along_columns] = images.strides;
        let mut source = &images.data[b * images.strides[0]..];
        if !staged.is_empty() {
            staged.copy_from_slice(&source[..staged.len()]);
            source = staged;
        }
        let (columns, channels) = (self.size.1, self.channels);
        let side = self.padding * channels;
        let rows = self.padding..self.padding + self.size.0;
        let length = self.bordered_columns() * channels;
        let together =
            (channels == 1 || along_channels == 1) && (columns == 1 || along_columns == channels);
        for (i, row) in image.chunks_exact_mut(length).enumerate() {
            if !rows.contains(&i) {
                row.fill(0.0);
                continue;
            }
            let (left, rest) = row.split_at_mut(side);
            let (inner, right) = rest.split_at_mut(columns * channels);
            left.fill(0.0);
            right.fill(0.0);
            let source = &source[(i - rows.start) * along_rows..];
            if together {
                inner.copy_from_slice(&source[..columns * channels]);
            } else if along_columns == 1 {
                for c in 0..channels {
                    let line = &source[c * along_channels..][..columns];
                    let pixels = inner.chunks_exact_mut(channels);
                    pixels.zip(line).for_each(|(pixel, &x)| pixel[c] = x);
                }
            } else {
                for (j, pixel) in inner.chunks_exact_mut(channels).enumerate() {
                    for (c, x) in pixel.iter_mut().enumerate() {
                        *x = source[c * along_channels + j * along_columns];
                    }
                }
            }
        }
        if self.gathers() {
            self.gather(image, gathered);
        }
    }

    fn gather(&self, image: &[f32], gathered: &mut [f32]) {
        let (columns, depth) = (self.convolved().1, self.depth());
        let (length, run) = (
            self.bordered_columns() * self.channels,
            self.kernel * self.channels,
        );
        for (i, rows) in gathered.chunks_exact_mut(columns * depth).enumerate() {
            for k in 0..self.kernel {
                let line = &image[(i * self.stride + k) * length..][..length];
                for q in 0..run {
                    let values = line[q..].iter().step_by(self.stride * self.channels);
                    rows[k * run + q..]
                        .iter_mut()
                        .step_by(depth)
                        .zip(values)
                        .for_each(|(x, &y)| *x = y);
                }
            }
        }
    }

    /// The convolution of images as [`read`](Self::read) left them, one after the other: pixels of [`width`](Self::width) values.
    #[inline(always)]
    pub(crate) fn forward<S: Simd>(
        &self,
        simd: S,
        image: &[f32],
        gathered: &[f32],
        weights: &Panels,
        out: &mut [f32],
    ) {
        if self.gathers() {
            let depth = self.depth();
            let at = [depth, self.convolved().1 * depth, self.pixels() * depth];
            self.convolve(
                simd,
                gathered,
                at,
                Segments::one(self.depth()),
                weights,
                out,
            );
        } else {
            self.direct(simd, image, weights, out);
        }
    }

    /// The gradients of input images, for [`input_to_planes`](Self::input_to_planes). `gradient` is
    /// that of their outputs, within [`gradient_border`](Self::gradient_border) zeros.
    #[inline(always)]
    pub(crate) fn input_gradient<S: Simd>(
        &self,
        simd: S,
        gradient: &[f32],
        reversed: &Panels,
        out: &mut [f32],
    ) {
        if self.scatters() {
            self.scatter(simd, gradient, reversed, out);
        } else {
            self.reversed().direct(simd, gradient, reversed, out);
        }
    }

    /// Cuts what [`input_gradient`](Self::input_gradient) wrote for image `i` of its group into planes of the input's
    /// size.
    pub(crate) fn input_to_planes(&self, input: &[f32], i: usize, planes: &mut [f32]) {
        if !self.scatters() {
            let len = self.reversed().pixels() * self.reversed().width();
            return to_planes(&input[i * len..][..len], self.reversed().width(), planes);
        }
        let input = &input[i * self.image_len()..];
        let (rows, columns) = self.size;
        for (c, plane) in planes.chunks_exact_mut(rows * columns).enumerate() {
            for (i, line) in plane.chunks_exact_mut(columns).enumerate() {
                let first = (i + self.padding) * self.bordered_columns() + self.padding;
                let pixels = input[first * self.channels..].chunks_exact(self.channels);
                line.iter_mut()
                    .zip(pixels)
                    .for_each(|(x, pixel)| *x = pixel[c]);
            }
        }
    }

    /// Adds each output pixel's gradient times the weights where the kernel read the image.
    #[inline(always)]
    fn scatter<S: Simd>(&self, simd: S, gradient: &[f32], weights: &Panels, out: &mut [f32]) {
        let (width, (rows, columns), panels) = (self.width(), self.convolved(), self.row_panels());
        let (run, length) = (
            self.kernel * self.channels,
            self.bordered_columns() * self.channels,
        );
        let (stride, pixels) = (self.stride, self.pixels());
        let count = gradient.len() / (pixels * width) * pixels;
        out.fill(0.0);
        for (k, p) in (0..self.kernel).flat_map(|k| (0..panels).map(move |p| (k, p))) {
            let panel = weights.panel(k * panels + p);
            // Beyond the run there are zeros in the panel, which may be added to the next pixel.
            let panel_width = PANEL.min(run - p * PANEL).next_multiple_of(LANES);
            let (mut first_of_image, mut i, mut j) = (0, 0, 0);
            for first in (0..count).step_by(TILE) {
                let mut tile = Tile {
                    count: TILE.min(count - first),
                    from: [0; TILE],
                    to: [0; TILE],
                };
                for r in 0..tile.count {
                    tile.from[r] = (first + r) * width;
                    tile.to[r] = first_of_image
                        + (i * stride + k) * length
                        + j * stride * self.channels
                        + p * PANEL;
                    j += 1;
                    if j == columns {
                        (i, j) = (i + 1, 0);
                    }
                    if i == rows {
                        (first_of_image, i) = (first_of_image + self.image_len(), 0);
                    }
                }
                let depth = Segments::one(width);
                rows_times_panel(
                    simd,
                    gradient,
                    tile,
                    depth,
                    panel,
                    panel_width,
                    out,
                    Update::Add,
                );
            }
        }
    }

    #[inline(always)]
    fn direct<S: Simd>(&self, simd: S, image: &[f32], weights: &Panels, out: &mut [f32]) {
        if winograd::pays(self) {
            return winograd::convolve(self, simd, image, weights, out);
        }
        let (run, length) = (
            self.kernel * self.channels,
            self.bordered_columns() * self.channels,
        );
        let segments = Segments {
            count: self.kernel,
            len: run,
            stride: length,
        };
        let at = [
            self.stride * self.channels,
            self.stride * length,
            self.image_len(),
        ];
        self.convolve(simd, image, at, segments, weights, out);
    }

    /// `at` is the step in `source` from one output pixel to the next, from one row of them to the next, and from one image.
    #[inline(always)]
    fn convolve<S: Simd>(
        &self,
        simd: S,
        source: &[f32],
        at: [usize; 3],
        segments: Segments,
        weights: &Panels,
        out: &mut [f32],
    ) {
        let (width, (rows, columns)) = (self.width(), self.convolved());
        let pixels = out.len() / width;
        let large = segments.count > 1 && size_of_val(weights.panel(0)) > LARGE;
        let passes = if large { segments.count } else { 1 };
        let part = Segments {
            count: segments.count / passes,
            ..segments
        };
        for p in 0..width.div_ceil(PANEL) {
            let panel_width = PANEL.min(width - p * PANEL);
            let panel = weights.panel(p);
            for pass in 0..passes {
                let panel = &panel[pass * part.count * part.len..][..part.count * part.len];
                let source = &source[pass * segments.stride..];
                let update = if pass == 0 { Update::Set } else { Update::Add };
                let (mut image, mut i, mut j) = (0, 0, 0);
                for first in (0..pixels).step_by(TILE) {
                    let mut tile = Tile {
                        count: TILE.min(pixels - first),
                        from: [0; TILE],
                        to: [0; TILE],
                    };
                    for r in 0..tile.count {
                        tile.from[r] = image + i * at[1] + j * at[0];
                        tile.to[r] = (first + r) * width + p * PANEL;
                        j += 1;
                        if j == columns {
                            (i, j) = (i + 1, 0);
                        }
                        if i == rows {
                            (image, i) = (image + at[2], 0);
                        }
                    }
                    rows_times_panel(simd, source, tile, part, panel, panel_width, out, update);
                }
            }
        }
    }

    /// The gradient of the weights from images, which `out` becomes or which is added to it: rows (row, column, channel), [`width`](Self::width) columns.
    /// `gradient` is that of their outputs within `border` zeros.
    #[allow(clippy::too_many_arguments)] // Two matrices, and what is needed to read them.
    #[inline(always)]
    pub(crate) fn weight_gradient<S: Simd>(
        &self,
        simd: S,
        image: &[f32],
        gathered: &[f32],
        gradient: &[f32],
        border: usize,
        out: &mut [f32],
        update: Update,
    ) {
        let (width, (rows, columns)) = (self.width(), self.convolved());
        let (line, lines) = (columns + 2 * border, rows + 2 * border);
        let images = gradient.len() / (line * lines * width);
        let count = [columns, rows, images];
        for p in 0..width.div_ceil(PANEL) {
            let data = &gradient[(border * line + border) * width + p * PANEL..];
            let gradient = Run {
                data,
                step: width,
                jump: 2 * border * width,
                leap: 2 * border * line * width,
            };
            let panel_width = PANEL.min(width - p * PANEL);
            if self.gathers() {
                let depth = self.depth();
                let values = Run::one(gathered, depth);
                let out = &mut out[p * PANEL..];
                columns_times_rows(
                    simd,
                    values,
                    depth,
                    gradient,
                    panel_width,
                    count,
                    out,
                    width,
                    update,
                );
                continue;
            }
            let (run, length) = (
                self.kernel * self.channels,
                self.bordered_columns() * self.channels,
            );
            for k in 0..self.kernel {
                // A stride may reach beyond the end of a line, and of an image.
                let (step, lines) = (self.stride * self.channels, self.stride * length);
                let values = Run {
                    data: &image[k * length..],
                    step,
                    jump: lines.wrapping_sub(columns * step),
                    leap: self.image_len().wrapping_sub(rows * lines),
                };
                let out = &mut out[k * run * width + p * PANEL..];
                columns_times_rows(
                    simd,
                    values,
                    run,
                    gradient,
                    panel_width,
                    count,
                    out,
                    width,
                    update,
                );
            }
        }
    }

    /// Turns a gradient as [`weight_gradient`](Self::weight_gradient) gives it into a weight tensor `(o, c, k, k)`.
    pub(crate) fn unpack(&self, gradient: &[f32], weights: &mut [f32]) {
        let (taps, width, depth) = (self.kernel * self.kernel, self.width(), self.depth());
        // Blocks of outputs and channels are turned in the cache, so that lines are read and written once.
        let side = LANES * taps;
        let work = weights.len() * TURNING;
        let blocks = weights.chunks_mut(LANES * depth).enumerate().collect();
        run(work, blocks, |(block, weights): (usize, &mut [f32])| {
            let mut turned = lease(LANES * side);
            for first in (0..self.channels).step_by(LANES) {
                let channels = LANES.min(self.channels - first);
                for t in 0..taps {
                    for c in 0..channels {
                        let line = (t * self.channels + first + c) * width + block * LANES;
                        let to = turned[c * taps + t..].iter_mut().step_by(side);
                        to.zip(&gradient[line..][..LANES])
                            .for_each(|(w, &x)| *w = x);
                    }
                }
                let rows = weights
                    .chunks_exact_mut(depth)
                    .zip(turned.chunks_exact(side));
                for (to, from) in rows {
                    let count = channels * taps;
                    to[first * taps..][..count].copy_from_slice(&from[..count]);
                }
            }
        });
    }
}

/// Pixels that are turned into planes, or back, at once: they stay in the cache, and fill a line of each plane.
const TURNED: usize = 16;

/// Pixels of `width` values to planes: the first `planes.len() / pixels` values of each.
pub(crate) fn to_planes(pixels: &[f32], width: usize, planes: &mut [f32]) {
    let count = pixels.len() / width;
    for (block, pixels) in pixels.chunks(TURNED * width).enumerate() {
        for (c, plane) in planes.chunks_exact_mut(count).enumerate() {
            let plane = &mut plane[block * TURNED..][..pixels.len() / width];
            plane
                .iter_mut()
                .zip(pixels.chunks_exact(width))
                .for_each(|(x, pixel)| *x = pixel[c]);
        }
    }
}

/// Planes to pixels of `width` values, filled up with zeros.
pub(crate) fn to_pixels(planes: &[f32], width: usize, pixels: &mut [f32]) {
    let count = pixels.len() / width;
    let channels = planes.len() / count;
    for (block, pixels) in pixels.chunks_mut(TURNED * width).enumerate() {
        if channels < width {
            pixels
                .chunks_exact_mut(width)
                .for_each(|pixel| pixel[channels..].fill(0.0));
        }
        for (c, plane) in planes.chunks_exact(count).enumerate() {
            let plane = &plane[block * TURNED..];
            pixels
                .chunks_exact_mut(width)
                .zip(plane)
                .for_each(|(pixel, &x)| pixel[c] = x);
        }
    }
}

/// [`Conv::forward`] with the instruction set of this process.
pub(crate) struct Forward<'a> {
    pub(crate) conv: Conv,
    pub(crate) image: &'a [f32],
    pub(crate) gathered: &'a [f32],
    pub(crate) weights: &'a Panels,
    pub(crate) out: &'a mut [f32],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.conv
            .forward(simd, self.image, self.gathered, self.weights, self.out);
    }
}

/// [`Conv::input_gradient`] with the instruction set of this process.
pub(crate) struct InputGradient<'a> {
    pub(crate) conv: Conv,
    pub(crate) gradient: &'a [f32],
    pub(crate) reversed: &'a Panels,
    pub(crate) out: &'a mut [f32],
}

impl WithSimd for InputGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.conv
            .input_gradient(simd, self.gradient, self.reversed, self.out);
    }
}

/// [`Conv::weight_gradient`] with the instruction set of this process.
pub(crate) struct WeightGradient<'a> {
    pub(crate) conv: Conv,
    pub(crate) image: &'a [f32],
    pub(crate) gathered: &'a [f32],
    pub(crate) gradient: &'a [f32],
    pub(crate) border: usize,
    pub(crate) out: &'a mut [f32],
    pub(crate) update: Update,
}

impl WithSimd for WeightGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.conv.weight_gradient(
            simd,
            self.image,
            self.gathered,
            self.gradient,
            self.border,
            self.out,
            self.update,
        );
    }
}
