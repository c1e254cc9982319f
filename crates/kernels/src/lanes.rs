//! f32 and f64 under one name, as single numbers and as SIMD vectors.

use candle_core::{CpuStorage, Result, WithDType, bail};
use pulp::Simd;

use crate::slices::has_fma;

/// A floating-point number that the slice kernels compute with.
pub(crate) trait Element: WithDType + PartialOrd {
    const ZERO: Self;
    const ONE: Self;
    const NEG_INFINITY: Self;

    /// As many of them as the processor takes at once.
    type Lanes<S: Simd>: Copy;

    fn exp(self) -> Self;
    /// `e^x − 1`, right for small numbers too.
    fn exp_m1(self) -> Self;
    fn tanh(self) -> Self;
    /// The error function.
    fn erf(self) -> Self;
    fn is_nan(self) -> bool;
    fn ln_1p(self) -> Self;
    fn sqrt(self) -> Self;
    fn abs(self) -> Self;

    fn storage_mut(storage: &mut CpuStorage) -> Result<&mut [Self]>;

    /// A slice as whole vectors and a rest.
    fn lanes<S: Simd>(x: &[Self]) -> (&[Self::Lanes<S>], &[Self]);
    fn lanes_mut<S: Simd>(x: &mut [Self]) -> (&mut [Self::Lanes<S>], &mut [Self]);
    fn splat<S: Simd>(s: S, x: Self) -> Self::Lanes<S>;
    fn plus<S: Simd>(s: S, x: Self::Lanes<S>, y: Self::Lanes<S>) -> Self::Lanes<S>;
    fn minus<S: Simd>(s: S, x: Self::Lanes<S>, y: Self::Lanes<S>) -> Self::Lanes<S>;
    fn absolute<S: Simd>(s: S, x: Self::Lanes<S>) -> Self::Lanes<S>;
    /// `x y + z`, in one rounding where the processor has such an instruction.
    fn mul_add<S: Simd>(
        s: S,
        x: Self::Lanes<S>,
        y: Self::Lanes<S>,
        z: Self::Lanes<S>,
    ) -> Self::Lanes<S>;
    /// `value` with the sign of `x`; 0 where `x` is 0 or NaN.
    fn with_sign<S: Simd>(s: S, value: Self::Lanes<S>, x: Self::Lanes<S>) -> Self::Lanes<S>;
}

macro_rules! element {
    ($T:ident, $storage:ident, $erf:ident, $lanes:ident, $as:ident, $as_mut:ident, $splat:ident, $add:ident, $sub:ident, $mul:ident,
     $abs:ident, $mul_add:ident, $neg:ident, $less:ident, $select:ident) => {
        impl Element for $T {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const NEG_INFINITY: Self = $T::NEG_INFINITY;

            type Lanes<S: Simd> = S::$lanes;

            #[inline(always)]
            fn exp(self) -> Self {
                self.exp()
            }

            #[inline(always)]
            fn exp_m1(self) -> Self {
                self.exp_m1()
            }

            #[inline(always)]
            fn tanh(self) -> Self {
                self.tanh()
            }

            #[inline(always)]
            fn erf(self) -> Self {
                candle_core::cpu::erf::$erf(self)
            }

            #[inline(always)]
            fn is_nan(self) -> bool {
                self.is_nan()
            }

            #[inline(always)]
            fn ln_1p(self) -> Self {
                self.ln_1p()
            }

            #[inline(always)]
            fn sqrt(self) -> Self {
                self.sqrt()
            }

            #[inline(always)]
            fn abs(self) -> Self {
                self.abs()
            }

            fn storage_mut(storage: &mut CpuStorage) -> Result<&mut [Self]> {
                match storage {
                    CpuStorage::$storage(values) => Ok(values),
                    _ => bail!(concat!("the tensor does not hold ", stringify!($T))),
                }
            }

            #[inline(always)]
            fn lanes<S: Simd>(x: &[Self]) -> (&[Self::Lanes<S>], &[Self]) {
                S::$as(x)
            }

            #[inline(always)]
            fn lanes_mut<S: Simd>(x: &mut [Self]) -> (&mut [Self::Lanes<S>], &mut [Self]) {
                S::$as_mut(x)
            }

            #[inline(always)]
            fn splat<S: Simd>(s: S, x: Self) -> Self::Lanes<S> {
                s.$splat(x)
            }

            #[inline(always)]
            fn plus<S: Simd>(s: S, x: Self::Lanes<S>, y: Self::Lanes<S>) -> Self::Lanes<S> {
                s.$add(x, y)
            }

            #[inline(always)]
            fn minus<S: Simd>(s: S, x: Self::Lanes<S>, y: Self::Lanes<S>) -> Self::Lanes<S> {
                s.$sub(x, y)
            }

            #[inline(always)]
            fn absolute<S: Simd>(s: S, x: Self::Lanes<S>) -> Self::Lanes<S> {
                s.$abs(x)
            }

            #[inline(always)]
            fn mul_add<S: Simd>(
                s: S,
                x: Self::Lanes<S>,
                y: Self::Lanes<S>,
                z: Self::Lanes<S>,
            ) -> Self::Lanes<S> {
                if has_fma::<S>() {
                    s.$mul_add(x, y, z)
                } else {
                    s.$add(s.$mul(x, y), z)
                }
            }

            #[inline(always)]
            fn with_sign<S: Simd>(
                s: S,
                value: Self::Lanes<S>,
                x: Self::Lanes<S>,
            ) -> Self::Lanes<S> {
                let zero = s.$splat(0.0);
                let negative = s.$select(s.$less(x, zero), s.$neg(value), zero);
                s.$select(s.$less(zero, x), value, negative)
            }
        }
    };
}

element!(
    f32,
    F32,
    erf_f32,
    f32s,
    as_simd_f32s,
    as_mut_simd_f32s,
    splat_f32s,
    add_f32s,
    sub_f32s,
    mul_f32s,
    abs_f32s,
    mul_add_f32s,
    neg_f32s,
    less_than_f32s,
    select_f32s
);
element!(
    f64,
    F64,
    erf_f64,
    f64s,
    as_simd_f64s,
    as_mut_simd_f64s,
    splat_f64s,
    add_f64s,
    sub_f64s,
    mul_f64s,
    abs_f64s,
    mul_add_f64s,
    neg_f64s,
    less_than_f64s,
    select_f64s
);
