//! Which instruction set the kernels run with.

use std::any::TypeId;
use std::sync::OnceLock;

use pulp::{Scalar, Scalar128b, Simd, WithSimd};

/// The environment variable that forces an instruction set, for tests and comparisons: `avx512`, `avx2`, `neon`,
/// `portable` (four lanes in plain Rust) or `scalar` (one lane).
///
/// It is read once. Without it, and where it names one that this processor has not, the best one is taken;
/// [`instruction_set`] says which that was.
pub const INSTRUCTION_SET_VARIABLE: &str = "NEARFAR_SIMD";

/// The instruction set that the kernels run with in this process, by its name in [`INSTRUCTION_SET_VARIABLE`].
///
/// ```
/// assert!(["avx512", "avx2", "neon", "portable", "scalar"].contains(&nearfar_kernels::instruction_set()));
/// ```
pub fn instruction_set() -> &'static str {
    match chosen() {
        #[cfg(target_arch = "x86_64")]
        Chosen::Avx512(_) => "avx512",
        #[cfg(target_arch = "x86_64")]
        Chosen::Avx2(_) => "avx2",
        #[cfg(target_arch = "aarch64")]
        Chosen::Neon(_) => "neon",
        Chosen::Portable => "portable",
        Chosen::Scalar => "scalar",
    }
}

#[derive(Clone, Copy)]
enum Chosen {
    #[cfg(target_arch = "x86_64")]
    Avx512(pulp::x86::V4),
    #[cfg(target_arch = "x86_64")]
    Avx2(pulp::x86::V3),
    #[cfg(target_arch = "aarch64")]
    Neon(pulp::aarch64::Neon),
    /// Compiles to SSE2 on x86-64: twice as fast as one lane.
    Portable,
    Scalar,
}

fn chosen() -> Chosen {
    static CHOSEN: OnceLock<Chosen> = OnceLock::new();
    *CHOSEN.get_or_init(|| {
        let wanted = std::env::var(INSTRUCTION_SET_VARIABLE).unwrap_or_default();
        choose(&wanted.to_ascii_lowercase())
            .or_else(|| choose(""))
            .unwrap_or(Chosen::Portable)
    })
}

/// The best instruction set of this machine among those called `wanted`; empty means any.
fn choose(wanted: &str) -> Option<Chosen> {
    let allows = |name: &str| wanted.is_empty() || wanted == name;
    #[cfg(target_arch = "x86_64")]
    {
        if let (true, Some(simd)) = (allows("avx512"), pulp::x86::V4::try_new()) {
            return Some(Chosen::Avx512(simd));
        }
        if let (true, Some(simd)) = (allows("avx2"), pulp::x86::V3::try_new()) {
            return Some(Chosen::Avx2(simd));
        }
    }
    #[cfg(target_arch = "aarch64")]
    if let (true, Some(simd)) = (allows("neon"), pulp::aarch64::Neon::try_new()) {
        return Some(Chosen::Neon(simd));
    }
    if allows("portable") {
        return Some(Chosen::Portable);
    }
    allows("scalar").then_some(Chosen::Scalar)
}

/// Runs `op` with the instruction set of this process.
#[inline(always)]
pub(crate) fn dispatch<O: WithSimd>(op: O) -> O::Output {
    match chosen() {
        #[cfg(target_arch = "x86_64")]
        Chosen::Avx512(simd) => Simd::vectorize(simd, op),
        #[cfg(target_arch = "x86_64")]
        Chosen::Avx2(simd) => Simd::vectorize(simd, op),
        #[cfg(target_arch = "aarch64")]
        Chosen::Neon(simd) => Simd::vectorize(simd, op),
        Chosen::Portable => Simd::vectorize(Scalar128b, op),
        Chosen::Scalar => Simd::vectorize(Scalar, op),
    }
}

/// Whether a fused multiply-add is one instruction; elsewhere it is a call of the C library for each lane.
#[inline(always)]
pub(crate) fn has_fma<S: Simd>() -> bool {
    TypeId::of::<S>() != TypeId::of::<Scalar>() && TypeId::of::<S>() != TypeId::of::<Scalar128b>()
}

/// `a · b + c`, fused where the processor can.
#[inline(always)]
pub(crate) fn multiply_add<S: Simd>(simd: S, a: S::f32s, b: S::f32s, c: S::f32s) -> S::f32s {
    if has_fma::<S>() {
        simd.mul_add_f32s(a, b, c)
    } else {
        simd.add_f32s(simd.mul_f32s(a, b), c)
    }
}

/// `a · b + c` of single numbers, fused where the processor can: for plain loops that the compiler vectorizes.
#[inline(always)]
pub(crate) fn fma<S: Simd>(a: f32, b: f32, c: f32) -> f32 {
    if has_fma::<S>() {
        a.mul_add(b, c)
    } else {
        a * b + c
    }
}

/// The vector of numbers that begins at a place.
#[inline(always)]
pub(crate) fn vector<S: Simd>(_: S, values: &[f32], at: usize) -> S::f32s {
    S::as_simd_f32s(&values[at..][..S::F32_LANES]).0[0]
}

/// Writes a vector to a place.
#[inline(always)]
pub(crate) fn set_vector<S: Simd>(_: S, values: &mut [f32], at: usize, vector: S::f32s) {
    S::as_mut_simd_f32s(&mut values[at..][..S::F32_LANES]).0[0] = vector;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instruction_set_of_this_machine_can_be_chosen_by_name() {
        assert!(matches!(choose("scalar"), Some(Chosen::Scalar)));
        assert!(matches!(choose("portable"), Some(Chosen::Portable)));
        assert!(choose("").is_some());
        assert!(choose("no such set").is_none());
    }
}
