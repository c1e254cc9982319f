//! One step of an optimizer on the numbers of one tensor, in one pass.

use pulp::{Simd, WithSimd};

use super::{dispatch, run};
use crate::lanes::Element;

/// Numbers that one task takes.
const CHUNK: usize = 1 << 14;
/// What a number costs, in multiplications of a matrix product: a step is bound by memory.
const COST: usize = 64;

/// The factors of an Adam step, as its loop needs them.
#[derive(Clone, Copy)]
pub(crate) struct Adam<T> {
    /// Added to the gradient, times the parameter.
    pub(crate) decay: T,
    /// What the parameter is multiplied by first.
    pub(crate) keep: T,
    /// `1 − β₁`, `β₂`, `1 − β₂`.
    pub(crate) first: T,
    pub(crate) keep_second: T,
    pub(crate) second: T,
    /// The learning rate divided by the first moment's bias.
    pub(crate) rate: T,
    /// The root of the second moment's bias.
    pub(crate) root_bias: T,
    pub(crate) eps: T,
}

/// One step: `largest` is where AMSGrad keeps the largest second moment.
pub(crate) fn adam<T: Element>(
    step: Adam<T>,
    param: &mut [T],
    gradient: &[T],
    first: &mut [T],
    second: &mut [T],
    largest: Option<&mut [T]>,
) {
    let (size, count) = (param.len() * COST, param.len().div_ceil(CHUNK));
    let moments = first.chunks_mut(CHUNK).zip(second.chunks_mut(CHUNK));
    let chunks = param
        .chunks_mut(CHUNK)
        .zip(gradient.chunks(CHUNK))
        .zip(moments);
    let largest: Vec<Option<&mut [T]>> = match largest {
        Some(largest) => largest.chunks_mut(CHUNK).map(Some).collect(),
        None => (0..count).map(|_| None).collect(),
    };
    let tasks = chunks.zip(largest).collect();
    run(
        size,
        tasks,
        |(((param, gradient), (first, second)), largest)| {
            dispatch(AdamChunk {
                step,
                param,
                gradient,
                first,
                second,
                largest,
            });
        },
    );
}

struct AdamChunk<'a, T> {
    step: Adam<T>,
    param: &'a mut [T],
    gradient: &'a [T],
    first: &'a mut [T],
    second: &'a mut [T],
    largest: Option<&'a mut [T]>,
}

impl<T: Element> WithSimd for AdamChunk<'_, T> {
    type Output = ();

    /// Plain loops, which the compiler vectorizes for the instruction set of `S`.
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self {
            step,
            param,
            gradient,
            first,
            second,
            largest,
        } = self;
        let len = param.len();
        let (gradient, first, second) = (&gradient[..len], &mut first[..len], &mut second[..len]);
        let moments = |param: T, g: T, m: &mut T, v: &mut T| {
            let g = g + step.decay * param;
            *m += step.first * (g - *m);
            *v = step.keep_second * *v + step.second * (g * g);
        };
        let moved = |param: T, m: T, v: T| {
            step.keep * param - step.rate * (m / (v.sqrt() / step.root_bias + step.eps))
        };
        match largest {
            None => {
                for i in 0..len {
                    moments(param[i], gradient[i], &mut first[i], &mut second[i]);
                    param[i] = moved(param[i], first[i], second[i]);
                }
            }
            Some(largest) => {
                let largest = &mut largest[..len];
                for i in 0..len {
                    moments(param[i], gradient[i], &mut first[i], &mut second[i]);
                    if largest[i] < second[i] {
                        largest[i] = second[i];
                    }
                    param[i] = moved(param[i], first[i], largest[i]);
                }
            }
        }
    }
}

/// The factors of a step of gradient descent, as its loop needs them.
#[derive(Clone, Copy)]
pub(crate) struct Sgd<T> {
    pub(crate) rate: T,
    /// Added to the gradient, times the parameter.
    pub(crate) decay: T,
    /// What is kept of the momentum, and what the gradient adds to it.
    pub(crate) keep: T,
    pub(crate) take: T,
    /// With Nesterov's look ahead, what of the new momentum is added to the gradient.
    pub(crate) ahead: Option<T>,
}

/// One step.
pub(crate) fn sgd<T: Element>(
    step: Sgd<T>,
    param: &mut [T],
    gradient: &[T],
    momentum: Option<&mut [T]>,
) {
    let size = param.len() * COST;
    let chunks = param.chunks_mut(CHUNK).zip(gradient.chunks(CHUNK));
    match momentum {
        None => {
            run(
                size,
                chunks.collect(),
                |(param, gradient): (&mut [T], &[T])| {
                    for (param, &g) in param.iter_mut().zip(gradient) {
                        *param -= step.rate * (g + step.decay * *param);
                    }
                },
            );
        }
        Some(momentum) => {
            let tasks = chunks.zip(momentum.chunks_mut(CHUNK)).collect();
            run(
                size,
                tasks,
                |((param, gradient), momentum): ((&mut [T], &[T]), &mut [T])| {
                    for ((param, &g), momentum) in param.iter_mut().zip(gradient).zip(momentum) {
                        let g = g + step.decay * *param;
                        *momentum = step.keep * *momentum + step.take * g;
                        *param -=
                            step.rate * step.ahead.map_or(*momentum, |ahead| g + ahead * *momentum);
                    }
                },
            );
        }
    }
}

/// The sum of squares, in f64, in the order of the numbers. Sixteen partial sums, so that it is not bound by the time of
/// one addition.
pub(crate) fn sum_of_squares<T: Element>(x: &[T]) -> f64 {
    let (whole, rest) = x.as_chunks::<16>();
    let mut sums = [0f64; 16];
    for x in whole {
        for (sum, x) in sums.iter_mut().zip(x) {
            *sum += x.to_f64() * x.to_f64();
        }
    }
    let rest: f64 = rest.iter().map(|x| x.to_f64() * x.to_f64()).sum();
    sums.iter().sum::<f64>() + rest
}
