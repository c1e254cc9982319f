//! Where the windows of an image lie: the product of an interval for each result along each dimension.

use candle_core::{Result, Shape, Tensor, bail};

/// How windows follow one another along one dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slide {
    /// Numbers in a window.
    pub kernel: usize,
    /// From one window to the next.
    pub stride: usize,
    /// Numbers before the first and after the last of the image that windows may reach; at most half of `kernel`.
    pub padding: usize,
    /// Whether a last window that the image does not fill is one; it then begins within the image or before it.
    pub partial: bool,
}

impl Slide {
    /// Windows of `kernel` numbers side by side.
    pub fn over(kernel: usize) -> Self {
        Self {
            kernel,
            stride: kernel,
            padding: 0,
            partial: false,
        }
    }

    /// How many windows there are in `size` numbers, as in torch; none where not one fits.
    pub fn count(&self, size: usize) -> Option<usize> {
        let reach = size.checked_add(self.padding.checked_mul(2)?)?;
        if !self.partial {
            let rest = reach.checked_sub(self.kernel)?;
            return Some(rest.checked_div(self.stride)? + 1);
        }
        // Rounded up before the kernel is taken away: a first window that the image does not fill is one too.
        let rest = reach.checked_add(self.stride.checked_sub(1)?)?;
        let count = rest.checked_sub(self.kernel)? / self.stride + 1;
        // The last window must not begin behind the image.
        let begins_behind = (count - 1) * self.stride >= size + self.padding;
        Some(count - usize::from(begins_behind))
    }
}

/// The windows of an image of one to three dimensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Windows {
    pub(super) axes: Vec<Axis>,
}

/// The windows along one dimension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Axis {
    /// Numbers of the image.
    pub(super) size: usize,
    pub(super) windows: Vec<Window>,
}

/// Never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) from: usize,
    pub(super) to: usize,
    /// What a mean divides by.
    pub(super) count: usize,
}

impl Windows {
    /// Windows that slide over an image of these sizes. `count_padding` says whether a mean divides by the padding within
    /// a window too, as if it were zeros of the image.
    ///
    /// # Errors
    ///
    /// If the dimensions differ in number or are not one to three, a kernel or stride is 0, a padding is more than half of
    /// its kernel, or not one window fits.
    pub fn sliding(image: &[usize], slides: &[Slide], count_padding: bool) -> Result<Self> {
        dimensions(image, slides.len())?;
        let axes = image.iter().zip(slides).map(|(&size, slide)| {
            let &Slide {
                kernel,
                stride,
                padding,
                ..
            } = slide;
            if kernel == 0 || stride == 0 {
                bail!("pooling: `kernel` is {kernel} and `stride` {stride}; both must be at least 1");
            }
            if padding > kernel / 2 {
                bail!("pooling: `padding` is {padding}; at most half of `kernel`, {kernel}, is possible");
            }
            let Some(count) = slide.count(size).filter(|_| size > 0) else {
                bail!(
                    "pooling: the image has {size} numbers along a dimension and `padding` is {padding}; a `kernel` of \
                     {kernel} does not fit"
                );
            };
            let window = |i: usize| {
                let (from, to) = (i * stride, i * stride + kernel); // Counted from the padding on.
                let (first, last) = (from.max(padding) - padding, (to - padding).min(size));
                let within = to.min(size + 2 * padding) - from;
                Window {
                    from: first,
                    to: last,
                    count: if count_padding { within } else { last - first },
                }
            };
            Ok(Axis {
                size,
                windows: (0..count).map(window).collect(),
            })
        });
        Ok(Self {
            axes: axes.collect::<Result<_>>()?,
        })
    }

    /// Windows that cut an image of these sizes into so many parts of about one size, as torch's adaptive pooling:
    /// the `i`-th of `n` goes from `⌊i · size / n⌋` to `⌈(i + 1) · size / n⌉`, so neighbours may overlap by one.
    ///
    /// # Errors
    ///
    /// If the dimensions differ in number or are not one to three, or a size or a number of parts is 0.
    pub fn adaptive(image: &[usize], parts: &[usize]) -> Result<Self> {
        dimensions(image, parts.len())?;
        let axes = image.iter().zip(parts).map(|(&size, &parts)| {
            if size == 0 || parts == 0 {
                bail!("pooling: {size} numbers cannot be cut into {parts} parts; both must be at least 1");
            }
            let window = |i: usize| {
                let (from, to) = (i * size / parts, ((i + 1) * size).div_ceil(parts));
                Window {
                    from,
                    to,
                    count: to - from,
                }
            };
            Ok(Axis {
                size,
                windows: (0..parts).map(window).collect(),
            })
        });
        Ok(Self {
            axes: axes.collect::<Result<_>>()?,
        })
    }

    /// Windows along each dimension.
    pub fn counts(&self) -> Vec<usize> {
        self.axes.iter().map(|axis| axis.windows.len()).collect()
    }

    pub(super) fn check(&self, name: &str, x: &Tensor) -> Result<()> {
        let sizes: Vec<_> = self.axes.iter().map(|axis| axis.size).collect();
        if x.rank() != sizes.len() + 2 || x.dims()[2..] != sizes {
            bail!(
                "{name}: `x` has shape {:?}, the windows are those of images of {sizes:?}; (b, c, image) is wanted",
                x.dims()
            );
        }
        Ok(())
    }

    /// The shape of the result for an input of this shape.
    pub(super) fn result(&self, x: &Shape) -> Shape {
        let mut dims = x.dims()[..2].to_vec();
        dims.extend(self.counts());
        Shape::from(dims)
    }

    /// The windows with leading dimensions of one number, up to three.
    pub(super) fn solid(&self) -> Solid {
        let one = Axis {
            size: 1,
            windows: vec![Window {
                from: 0,
                to: 1,
                count: 1,
            }],
        };
        let mut axes = vec![one; 3 - self.axes.len()];
        axes.extend(self.axes.iter().cloned());
        Solid { axes }
    }
}

fn dimensions(image: &[usize], others: usize) -> Result<()> {
    if image.len() != others || !(1..=3).contains(&image.len()) {
        bail!(
            "pooling: the image has {} dimensions and the windows {others}; they must agree, and be one to three",
            image.len()
        );
    }
    Ok(())
}

/// Windows in exactly three dimensions.
pub(super) struct Solid {
    axes: Vec<Axis>,
}

impl Solid {
    /// Numbers of an image.
    pub(super) fn area(&self) -> usize {
        self.axes.iter().map(|axis| axis.size).product()
    }

    /// Windows of an image.
    pub(super) fn count(&self) -> usize {
        self.axes.iter().map(|axis| axis.windows.len()).product()
    }

    /// Numbers in all windows of an image: what a pass over it costs.
    pub(super) fn reads(&self) -> usize {
        let along = |axis: &Axis| axis.windows.iter().map(|it| it.to - it.from).sum::<usize>();
        self.axes.iter().map(along).product()
    }

    /// Calls `window` with the number of each window, what its mean divides by, and its rows: runs of places in the image.
    #[inline(always)]
    pub(super) fn each(&self, mut window: impl FnMut(usize, usize, Rows<'_>)) {
        let [depths, rows, columns] = &self.axes[..] else {
            unreachable!("`solid` makes three dimensions");
        };
        let mut index = 0;
        for depth in &depths.windows {
            for row in &rows.windows {
                for column in &columns.windows {
                    let count = depth.count * row.count * column.count;
                    let rows = Rows {
                        depth,
                        row,
                        column,
                        height: rows.size,
                        width: columns.size,
                    };
                    window(index, count, rows);
                    index += 1;
                }
            }
        }
    }
}

/// The rows of one window.
pub(super) struct Rows<'a> {
    depth: &'a Window,
    row: &'a Window,
    column: &'a Window,
    height: usize,
    width: usize,
}

impl Rows<'_> {
    /// Calls `run` with the places of each row, in row-major order.
    #[inline(always)]
    pub(super) fn each(&self, mut run: impl FnMut(std::ops::Range<usize>)) {
        for depth in self.depth.from..self.depth.to {
            for row in self.row.from..self.row.to {
                let start = (depth * self.height + row) * self.width;
                run(start + self.column.from..start + self.column.to);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(windows: &Windows) -> Vec<(usize, usize, usize)> {
        let all = windows.axes[0].windows.iter();
        all.map(|it| (it.from, it.to, it.count)).collect()
    }

    #[test]
    fn padding_is_cut_off_and_counted_only_on_demand() -> Result<()> {
        let slide = Slide {
            stride: 2,
            padding: 1,
            ..Slide::over(3)
        };
        let windows = Windows::sliding(&[5], &[slide], false)?;
        assert_eq!(spans(&windows), [(0, 2, 2), (1, 4, 3), (3, 5, 2)]);
        let windows = Windows::sliding(&[5], &[slide], true)?;
        assert_eq!(spans(&windows), [(0, 2, 3), (1, 4, 3), (3, 5, 3)]);
        Ok(())
    }

    #[test]
    fn a_partial_window_is_one_if_asked_for_and_never_behind_the_image() -> Result<()> {
        let slide = Slide {
            partial: true,
            ..Slide::over(2)
        };
        assert_eq!(
            spans(&Windows::sliding(&[5], &[slide], true)?)[2],
            (4, 5, 1)
        );
        // A third window would begin at 4, in the padding behind.
        let slide = Slide {
            padding: 1,
            ..slide
        };
        assert_eq!((slide.count(3), slide.count(4)), (Some(2), Some(3)));
        assert_eq!(
            spans(&Windows::sliding(&[4], &[slide], true)?)[2],
            (3, 4, 2)
        );
        Ok(())
    }

    #[test]
    fn partial_windows_are_counted_as_torch_counts_them() {
        let count = |kernel, stride, padding, size| {
            let slide = Slide {
                kernel,
                stride,
                padding,
                partial: true,
            };
            slide.count(size)
        };
        // `MaxPool1d(kernel, stride, padding, ceil_mode=True)` of torch 2.15 over so many numbers.
        for (kernel, stride, padding, size, wanted) in [
            (2, 3, 0, 1, Some(1)),
            (2, 3, 0, 2, Some(1)),
            (2, 3, 0, 3, Some(1)), // A second would begin at 3.
            (2, 3, 0, 4, Some(2)),
            (2, 2, 0, 1, Some(1)),
            (4, 3, 0, 2, Some(1)),
            (3, 1, 0, 2, None),
            (5, 3, 0, 2, None),
            (3, 2, 1, 4, Some(3)),
            (3, 2, 1, 5, Some(3)),
            (2, 2, 1, 3, Some(2)),
            (3, 3, 1, 1, Some(1)),
        ] {
            let found = count(kernel, stride, padding, size);
            assert_eq!(
                found, wanted,
                "{kernel} by {stride} with {padding} over {size}"
            );
        }
        assert_eq!(count(2, 0, 0, 4), None);
    }

    #[test]
    fn adaptive_windows_cover_all_and_may_repeat() -> Result<()> {
        assert_eq!(
            spans(&Windows::adaptive(&[10], &[3])?),
            [(0, 4, 4), (3, 7, 4), (6, 10, 4)]
        );
        assert_eq!(
            spans(&Windows::adaptive(&[2], &[3])?),
            [(0, 1, 1), (0, 2, 2), (1, 2, 1)]
        );
        Ok(())
    }

    #[test]
    fn what_does_not_fit_is_told_with_both_numbers() {
        let error = |it: Result<Windows>| it.expect_err("it does not fit").to_string();
        let wide = Slide {
            padding: 2,
            ..Slide::over(3)
        };
        assert!(
            error(Windows::sliding(&[5], &[wide], false))
                .contains("`padding` is 2; at most half of `kernel`, 3")
        );
        let large = error(Windows::sliding(&[2], &[Slide::over(3)], false));
        assert!(
            large.contains("has 2 numbers") && large.contains("`kernel` of 3"),
            "{large}"
        );
        let still = Slide {
            stride: 0,
            ..Slide::over(3)
        };
        assert!(error(Windows::sliding(&[5], &[still], false)).contains("`stride` 0"));
        assert!(
            error(Windows::sliding(&[5, 5], &[still], false))
                .contains("2 dimensions and the windows 1")
        );
        assert!(
            error(Windows::adaptive(&[0], &[1])).contains("0 numbers cannot be cut into 1 parts")
        );
    }
}
