//! Buffers that outlive a call but not a step, kept for the next one.
//!
//! A training step asks for the same buffers again and again. Fresh memory costs about 2 µs per 4 kB page, more than the
//! arithmetic that fills it, so what is given back is kept, and the next lease of about the same size gets it.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A buffer of some length, whose contents are what the last user left; it goes back to the pool when dropped.
#[derive(Debug)]
pub(crate) struct Lease<T: Pooled = f32> {
    buffer: Vec<T>,
    len: usize,
}

/// A buffer of `len` numbers with arbitrary contents.
pub(crate) fn lease(len: usize) -> Lease<f32> {
    Lease::new(len)
}

/// A buffer of `len` bytes with arbitrary contents.
pub(crate) fn lease_bytes(len: usize) -> Lease<u8> {
    Lease::new(len)
}

impl<T: Pooled> Lease<T> {
    fn new(len: usize) -> Self {
        let mut buffer = T::pool().take(len).unwrap_or_default();
        if buffer.len() < len {
            // Not `resize` of an empty vector: zeroed memory from the system need not be touched here.
            buffer = vec![T::default(); len];
        }
        Self { buffer, len }
    }
}

impl<T: Pooled> Drop for Lease<T> {
    fn drop(&mut self) {
        T::pool().give_back(std::mem::take(&mut self.buffer));
    }
}

impl<T: Pooled> Deref for Lease<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.buffer[..self.len]
    }
}

impl<T: Pooled> DerefMut for Lease<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.buffer[..self.len]
    }
}

/// A number of which there are pooled buffers.
pub(crate) trait Pooled: Copy + Default + 'static {
    fn pool() -> MutexGuard<'static, Pool<Self>>;
}

impl Pooled for f32 {
    fn pool() -> MutexGuard<'static, Pool<Self>> {
        static POOL: Mutex<Pool<f32>> = Mutex::new(Pool::new());
        // A thread that panicked cannot have left the list of free buffers broken.
        POOL.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pooled for u8 {
    fn pool() -> MutexGuard<'static, Pool<Self>> {
        static POOL: Mutex<Pool<u8>> = Mutex::new(Pool::new());
        POOL.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leases after which a buffer that nobody took is freed. A step of a deep network is a few hundred.
const PATIENCE: u64 = 4096;

/// Free buffers, the one given back last at the end: its contents are most likely in the cache.
#[derive(Debug)]
pub(crate) struct Pool<T> {
    free: Vec<(Vec<T>, u64)>,
    leases: u64,
}

impl<T> Pool<T> {
    const fn new() -> Self {
        Self {
            free: Vec::new(),
            leases: 0,
        }
    }

    /// The smallest free buffer that holds `len`, unless it is more than twice as large.
    fn take(&mut self, len: usize) -> Option<Vec<T>> {
        self.leases += 1;
        let now = self.leases;
        let fits = |buffer: &Vec<T>| (len..=2 * len).contains(&buffer.len());
        let best = (0..self.free.len())
            .rev()
            .filter(|&i| fits(&self.free[i].0))
            .min_by_key(|&i| self.free[i].0.len());
        let taken = best.map(|i| self.free.remove(i).0);
        if now.is_multiple_of(256) {
            self.free.retain(|(_, since)| now - since < PATIENCE);
        }
        taken
    }

    fn give_back(&mut self, buffer: Vec<T>) {
        if !buffer.is_empty() {
            self.free.push((buffer, self.leases));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_given_back_is_leased_again() {
        let mut pool = Pool::new();
        pool.give_back(vec![1f32; 100]);
        pool.give_back(vec![2f32; 70]);
        assert_eq!(pool.take(60), Some(vec![2f32; 70]));
        assert_eq!(pool.take(101), None);
        assert_eq!(pool.take(49), None); // More than twice as large.
        assert_eq!(pool.take(50), Some(vec![1f32; 100]));
        assert!(pool.free.is_empty());
    }

    #[test]
    fn a_buffer_that_nobody_takes_is_freed_in_the_end() {
        let mut pool = Pool::new();
        pool.give_back(vec![0u8; 100]);
        for _ in 0..PATIENCE + 256 {
            assert_eq!(pool.take(1000), None);
        }
        assert!(pool.free.is_empty());
    }

    #[test]
    fn a_lease_has_the_length_asked_for() {
        let first = lease(10);
        let second = lease(7);
        assert_eq!((first.len(), second.len(), lease(0).len()), (10, 7, 0));
    }
}
