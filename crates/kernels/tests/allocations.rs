//! A steady step asks the system for no tensor memory but what leaves an operation: buffers in between are kept for the next step.
//!
//! What leaves one here: its output, the ones that `backward` begins with, and each gradient, of which candle makes three (its zeros,
//! what the operation gives, and their sum). One process, one test: the count is of the whole process.

#![allow(unsafe_code)] // An allocator is made of unsafe functions; this one only counts.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use candle_core::{DType, Result, Tensor, Var};
use nearfar_kernels::{
    AdamStep, ConvBlock, Direction, Norm, adam_step, conv_block, linear, lstm, test_util::noise,
};

struct Counting;

/// Smaller ones are lists of sizes, names and the like.
const LEAST: usize = 16 * 1024;

static BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count(bytes: usize) {
    if bytes >= LEAST {
        BYTES.fetch_add(bytes, Relaxed);
    }
}

/// Bytes that the fourth step asked for.
fn steady(step: &dyn Fn() -> Result<()>) -> Result<usize> {
    for _ in 0..3 {
        step()?;
    }
    BYTES.store(0, Relaxed);
    step()?;
    Ok(BYTES.load(Relaxed))
}

fn bytes(tensors: &[&Tensor]) -> usize {
    tensors.iter().map(|it| it.elem_count() * 4).sum()
}

fn var(shape: &[usize], seed: u64) -> Result<Var> {
    Var::from_tensor(&noise(shape, seed)?.to_dtype(DType::F32)?)
}

/// What may leave: output and ones, and each gradient three times.
fn leaves(output: &Tensor, trained: &[&Tensor]) -> usize {
    2 * bytes(&[output]) + 3 * bytes(trained)
}

#[test]
fn a_steady_step_asks_for_what_leaves_and_no_more() -> Result<()> {
    let image = var(&[32, 16, 28, 28], 1)?;
    let constant = image.as_tensor().detach();
    let (weight, scale, shift) = (var(&[16, 16, 3, 3], 2)?, var(&[16], 3)?, var(&[16], 4)?);
    let block = ConvBlock {
        padding: 1,
        stride: 1,
        norm: Some(Norm::Batch { eps: 1e-5 }),
        relu: true,
        pool: 2,
    };
    let convolve = |image: &Tensor| {
        let made = conv_block(image, &weight, Some(&scale), &shift, None, None, &block)?;
        Ok::<_, candle_core::Error>(made.output)
    };
    let output = convolve(&constant)?;
    for (input, trained) in [
        (&constant, vec![]),
        (image.as_tensor(), vec![image.as_tensor()]),
    ] {
        let found = steady(&|| convolve(input)?.backward().map(drop))?;
        let most = leaves(&output, &trained);
        assert!(found <= most, "conv_block: {found} bytes, {most} leave it");
    }

    let sequence = noise(&[32, 20, 64], 5)?.to_dtype(DType::F32)?;
    let parameters = var(&[4 * 64 * (64 + 64 + 1)], 6)?;
    let lengths = [20; 32];
    let recur = || lstm(&sequence, &lengths, &parameters, 64, Direction::Forward);
    let most = leaves(&recur()?, &[&parameters]);
    let found = steady(&|| recur()?.backward().map(drop))?;
    assert!(found <= most, "lstm: {found} bytes, {most} leave it");

    let (rows, matrix, bias) = (
        noise(&[256, 300], 7)?.to_dtype(DType::F32)?,
        var(&[200, 300], 8)?,
        var(&[200], 9)?,
    );
    let map = || linear(&rows, &matrix, Some(&bias));
    let most = leaves(&map()?, &[&matrix]);
    let found = steady(&|| map()?.backward().map(drop))?;
    assert!(found <= most, "linear: {found} bytes, {most} leave it");

    let (parameter, first, second) = (
        var(&[300, 300], 10)?,
        var(&[300, 300], 11)?,
        var(&[300, 300], 12)?,
    );
    second.set(&second.sqr()?)?;
    let gradient = noise(&[300, 300], 13)?.to_dtype(DType::F32)?;
    let settings = AdamStep {
        learning_rate: 1e-3,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.0,
        decoupled: true,
        step: 1,
    };
    let found = steady(&|| adam_step(&parameter, &gradient, &first, &second, &settings))?;
    assert_eq!(found, 0, "Adam is in place");

    // The count can see: a product of two tensors is one more.
    let found = steady(&|| (&gradient * &gradient).map(drop))?;
    assert_eq!(found, bytes(&[&gradient]));
    Ok(())
}
