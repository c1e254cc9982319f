//! Convolution with stride 1 as a matrix product without the matrix: the micro-kernel reads the rows of the kernel out
//! of an image with channels last and a border of zeros.
//!
//! One image at a time: it, its output and its gradients stay in the cache from one step to the next. Where the rows of
//! a kernel are short (few channels: a first layer), they are gathered into a matrix first.

use pulp::{Simd, WithSimd};

use super::gemm::{
    LANES, PANEL, Panels, Run, Segments, TILE, Tile, Update, columns_times_rows, rows_times_panel,
};

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

impl Conv {
    /// Rows and columns of the output.
    pub(crate) fn convolved(&self) -> (usize, usize) {
        let side = |len| len + 2 * self.padding + 1 - self.kernel;
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

    /// Numbers that [`input_gradient`](Self::input_gradient) writes.
    pub(crate) fn input_len(&self) -> usize {
        if self.scatters() {
            self.image_len() + LANES
        } else {
            self.reversed().pixels() * self.reversed().width()
        }
    }

    /// Whether the gradient of the input is added up where the kernel reads the image, instead of
    /// being a convolution of its own, which would multiply too many of the zeros around the output.
    fn scatters(&self) -> bool {
        4 * self.size.0 * self.size.1 > 5 * self.pixels()
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
        }
    }

    /// Packs weights `(o, c, k, k)` for [`forward`](Self::forward): rows (row, column, channel), columns outputs.
    pub(crate) fn pack(&self, weights: &[f32]) -> Panels {
        let (channels, taps) = (self.channels, self.kernel * self.kernel);
        Panels::pack_with(self.depth(), self.outputs, |p, panel| {
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
        Panels::pack_with(self.reversed().depth(), channels, |p, panel| {
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
                let line = &image[(i + k) * length..][..length];
                for q in 0..run {
                    let values = line[q..].iter().step_by(self.channels);
                    rows[k * run + q..]
                        .iter_mut()
                        .step_by(depth)
                        .zip(values)
                        .for_each(|(x, &y)| *x = y);
                }
            }
        }
    }

    /// The convolution of one image as [`read`](Self::read) left it: pixels of [`width`](Self::width) values.
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
            let at = (self.depth(), self.convolved().1 * self.depth());
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

    /// The gradient of one input image, for [`input_to_planes`](Self::input_to_planes). `gradient` is
    /// that of the output, within [`gradient_border`](Self::gradient_border) zeros.
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

    /// Cuts what [`input_gradient`](Self::input_gradient) wrote into planes of the input's size.
    pub(crate) fn input_to_planes(&self, input: &[f32], planes: &mut [f32]) {
        if !self.scatters() {
            return to_planes(input, self.reversed().width(), planes);
        }
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
        out.fill(0.0);
        for (k, p) in (0..self.kernel).flat_map(|k| (0..panels).map(move |p| (k, p))) {
            let panel = weights.panel(k * panels + p);
            // Beyond the run there are zeros in the panel, which may be added to the next pixel.
            let panel_width = PANEL.min(run - p * PANEL).next_multiple_of(LANES);
            for i in 0..rows {
                for j in (0..columns).step_by(TILE) {
                    let count = TILE.min(columns - j);
                    let at = |r: usize| j + r.min(count - 1);
                    let from = std::array::from_fn(|r| (i * columns + at(r)) * width);
                    let to = std::array::from_fn(|r| {
                        (i + k) * length + at(r) * self.channels + p * PANEL
                    });
                    let tile = Tile { count, from, to };
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
    }

    #[inline(always)]
    fn direct<S: Simd>(&self, simd: S, image: &[f32], weights: &Panels, out: &mut [f32]) {
        let (run, length) = (
            self.kernel * self.channels,
            self.bordered_columns() * self.channels,
        );
        let segments = Segments {
            count: self.kernel,
            len: run,
            stride: length,
        };
        self.convolve(simd, image, (self.channels, length), segments, weights, out);
    }

    /// `at` is the step in `source` from one output pixel to the next, and from one row of them to the next.
    #[inline(always)]
    fn convolve<S: Simd>(
        &self,
        simd: S,
        source: &[f32],
        at: (usize, usize),
        segments: Segments,
        weights: &Panels,
        out: &mut [f32],
    ) {
        let (width, columns, pixels) = (self.width(), self.convolved().1, self.pixels());
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
                let rows = &panel[pass * part.count * part.len..][..part.count * part.len];
                let source = &source[pass * segments.stride..];
                let update = if pass == 0 { Update::Set } else { Update::Add };
                let (mut i, mut j) = (0, 0);
                for first in (0..pixels).step_by(TILE) {
                    let mut tile = Tile {
                        count: TILE.min(pixels - first),
                        from: [0; TILE],
                        to: [0; TILE],
                    };
                    for r in 0..tile.count {
                        tile.from[r] = i * at.1 + j * at.0;
                        tile.to[r] = (first + r) * width + p * PANEL;
                        j += 1;
                        if j == columns {
                            (i, j) = (i + 1, 0);
                        }
                    }
                    rows_times_panel(simd, source, tile, part, rows, panel_width, out, update);
                }
            }
        }
    }

    /// Adds the gradient of the weights from one image: rows (row, column, channel), [`width`](Self::width) columns.
    /// `gradient` is that of the output within `border` zeros.
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
    ) {
        let (width, (rows, columns)) = (self.width(), self.convolved());
        let line = columns + 2 * border;
        for p in 0..width.div_ceil(PANEL) {
            let data = &gradient[(border * line + border) * width + p * PANEL..];
            let gradient = Run {
                data,
                step: width,
                jump: 2 * border * width,
            };
            let panel_width = PANEL.min(width - p * PANEL);
            if self.gathers() {
                let depth = self.depth();
                let values = Run {
                    data: gathered,
                    step: depth,
                    jump: 0,
                };
                let out = &mut out[p * PANEL..];
                columns_times_rows(
                    simd,
                    values,
                    depth,
                    gradient,
                    panel_width,
                    (columns, rows),
                    out,
                    width,
                );
                continue;
            }
            let (run, length) = (
                self.kernel * self.channels,
                self.bordered_columns() * self.channels,
            );
            for k in 0..self.kernel {
                let jump = length - columns * self.channels;
                let values = Run {
                    data: &image[k * length..],
                    step: self.channels,
                    jump,
                };
                let out = &mut out[k * run * width + p * PANEL..];
                columns_times_rows(
                    simd,
                    values,
                    run,
                    gradient,
                    panel_width,
                    (columns, rows),
                    out,
                    width,
                );
            }
        }
    }

    /// Turns a gradient as [`weight_gradient`](Self::weight_gradient) gives it into a weight tensor `(o, c, k, k)`.
    pub(crate) fn unpack(&self, gradient: &[f32], weights: &mut [f32]) {
        let (taps, width) = (self.kernel * self.kernel, self.width());
        for (o, weights) in weights.chunks_exact_mut(self.depth()).enumerate() {
            for (c, weights) in weights.chunks_exact_mut(taps).enumerate() {
                for (t, w) in weights.iter_mut().enumerate() {
                    *w = gradient[(t * self.channels + c) * width + o];
                }
            }
        }
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
        );
    }
}
