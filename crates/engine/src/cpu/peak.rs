//! The multiply-add rate that the cores reach when nothing else is in the way: the yardstick of the benches.
//! Invariant: measured, never looked up.

use std::hint::black_box;
use std::time::{Duration, Instant};

use super::simd::{Job, Lanes, Level, Simd};

/// Multiply-adds in registers; returns their number of floating-point operations.
struct MultiplyAdd {
    rounds: usize,
}

impl MultiplyAdd {
    #[inline(always)]
    fn chains<S: Simd, const N: usize>(self, s: S) -> f64 {
        let (a, b) = (s.splat(black_box(0.999)), s.splat(black_box(1e-3)));
        let mut sum = [s.splat(black_box(1.0)); N];
        for _ in 0..self.rounds {
            for sum in &mut sum {
                *sum = s.fma(*sum, a, b);
            }
        }
        let mut out = Lanes::ZERO;
        for sum in sum {
            s.store(s.add(sum, s.load(&out)), &mut out);
        }
        black_box(out);
        (self.rounds * N * 2 * out.0.len()) as f64
    }
}

impl Job for MultiplyAdd {
    type Out = f64;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f64 {
        if S::WIDE { self.chains::<S, 16>(s) } else { self.chains::<S, 6>(s) }
    }
}

/// Measured peak of `n_threads` threads in GF/s: f32 multiply-adds (two operations each) of the best instructions there
/// are, the best of several windows of a few milliseconds.
#[must_use]
pub fn fma_peak(n_threads: usize) -> f64 {
    peak(Level::detect(), n_threads)
}

fn peak(level: Level, n_threads: usize) -> f64 {
    let window = Duration::from_millis(4);
    let one = || {
        let mut best = 0.0_f64;
        for _ in 0..15 {
            let (start, mut operations) = (Instant::now(), 0.0);
            while start.elapsed() < window {
                operations += level.run(MultiplyAdd { rounds: 4096 });
            }
            best = best.max(operations / start.elapsed().as_secs_f64());
        }
        best / 1e9
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..n_threads.max(1)).map(|_| scope.spawn(one)).collect();
        threads.into_iter().filter_map(|t| t.join().ok()).sum()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_computes() {
        for level in Level::available() {
            let rate = peak(level, 1);
            assert!(rate > 0.05 && rate < 1e5, "{level}: {rate} GF/s");
        }
    }
}
