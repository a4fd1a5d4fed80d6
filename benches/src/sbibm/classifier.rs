//! C2ST by the recipe of sbibm (Lueckmann et al. 2021): a perceptron of two hidden layers of 10 x D rectified units, trained by
//! Adam as scikit-learn's `MLPClassifier` does by default, and its accuracy over five folds.
//! Invariant: samples come standardised; one thread, so that several can run beside each other; same seed, same accuracy.

use ndarray::linalg::general_mat_mul;
use ndarray::{Array1, Array2, ArrayView2, ArrayViewMut2, Axis, s};
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

const FOLDS: usize = 5;
const BATCH: usize = 200;
const LEARNING_RATE: f32 = 1e-3;
const BETA: [f32; 2] = [0.9, 0.999];
const EPSILON: f32 = 1e-8;
/// L2 penalty of the weights.
const ALPHA: f32 = 1e-4;
/// Training ends when the loss has not improved by this for more than that many epochs.
const TOLERANCE: f64 = 1e-4;
const PATIENCE: usize = 10;
const MAX_EPOCHS: usize = 10_000;

/// Mean accuracy over the folds of a classifier that tells `x` from `y`, both \[n, D\]; 0.5 if they cannot be told apart.
pub fn c2st(x: ArrayView2<'_, f32>, y: ArrayView2<'_, f32>, seed: u64) -> f64 {
    let mut order: Vec<usize> = (0..x.nrows() + y.nrows()).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    let chosen = |rows: &[usize]| {
        let mut inputs = Array2::zeros((rows.len(), x.ncols()));
        for (mut input, &row) in inputs.rows_mut().into_iter().zip(rows) {
            input.assign(&if row < x.nrows() { x.row(row) } else { y.row(row - x.nrows()) });
        }
        let labels = rows.iter().map(|&row| if row < x.nrows() { 0.0 } else { 1.0 }).collect();
        (inputs, labels)
    };
    let accuracy = |fold: usize| {
        let bound = |k: usize| k * order.len() / FOLDS;
        let held_out = bound(fold)..bound(fold + 1);
        let train = [&order[..held_out.start], &order[held_out.end..]].concat();
        let (inputs, labels) = chosen(&train);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(1 + fold as u64);
        let mut classifier = Classifier::new(x.ncols(), 10 * x.ncols(), &mut rng);
        classifier.train(&inputs, &labels, &mut rng);
        let (inputs, labels) = chosen(&order[held_out]);
        classifier.accuracy(&inputs, &labels)
    };
    (0..FOLDS).map(accuracy).sum::<f64>() / FOLDS as f64
}

/// A linear map with the moments of its parameters; the bias is the last row.
struct Linear {
    params: Array2<f32>,
    gradient: Array2<f32>,
    first: Array2<f32>,
    second: Array2<f32>,
}

impl Linear {
    fn new(n_in: usize, n_out: usize, rng: &mut ChaCha8Rng) -> Self {
        let bound = (6.0 / (n_in + n_out) as f32).sqrt();
        let zeros = || Array2::zeros((n_in + 1, n_out));
        let params = zeros().mapv(|_: f32| rng.random_range(-bound..bound));
        Self { params, gradient: zeros(), first: zeros(), second: zeros() }
    }

    fn weights(&self) -> ArrayView2<'_, f32> {
        self.params.slice(s![..-1, ..])
    }

    fn run(&self, input: ArrayView2<'_, f32>, mut output: ArrayViewMut2<'_, f32>) {
        let bias = self.params.row(self.params.nrows() - 1);
        output.assign(&bias);
        general_mat_mul(1.0, &input, &self.weights(), 1.0, &mut output);
    }

    /// The gradient of the mean over a batch, whose sum over outputs is `delta`.
    fn set_gradient(&mut self, input: ArrayView2<'_, f32>, delta: ArrayView2<'_, f32>) {
        let n = input.nrows() as f32;
        let last = self.gradient.nrows() - 1;
        self.gradient.row_mut(last).assign(&(delta.sum_axis(Axis(0)) / n));
        let mut weights = self.gradient.slice_mut(s![..-1, ..]);
        weights.assign(&self.params.slice(s![..-1, ..]));
        general_mat_mul(1.0 / n, &input.t(), &delta, ALPHA / n, &mut weights);
    }

    fn step(&mut self, rate: f32) {
        let Self { params, gradient, first, second } = self;
        let (Some(p), Some(g)) = (params.as_slice_mut(), gradient.as_slice()) else { return };
        let (Some(m), Some(v)) = (first.as_slice_mut(), second.as_slice_mut()) else { return };
        for (((p, g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
            *m = BETA[0] * *m + (1.0 - BETA[0]) * g;
            *v = BETA[1] * *v + (1.0 - BETA[1]) * g * g;
            *p -= rate * *m / (v.sqrt() + EPSILON);
        }
    }
}

struct Classifier {
    linears: [Linear; 3],
    /// Values of the hidden layers and of the output, and the gradients of the same, of a batch.
    values: [Array2<f32>; 3],
    deltas: [Array2<f32>; 3],
}

impl Classifier {
    fn new(n_in: usize, width: usize, rng: &mut ChaCha8Rng) -> Self {
        let arrays = || [width, width, 1].map(|n| Array2::zeros((BATCH, n)));
        Self {
            linears: [(n_in, width), (width, width), (width, 1)].map(|(a, b)| Linear::new(a, b, rng)),
            values: arrays(),
            deltas: arrays(),
        }
    }

    /// Values of all layers for at most [`BATCH`] rows of input.
    fn run(&mut self, input: ArrayView2<'_, f32>) {
        let n = input.nrows();
        for k in 0..3 {
            let (before, after) = self.values.split_at_mut(k);
            let input = before.last().map_or(input, |values| values.slice(s![..n, ..]));
            let mut output = after[0].slice_mut(s![..n, ..]);
            self.linears[k].run(input, output.view_mut());
            if k < 2 {
                output.mapv_inplace(|v| v.max(0.0));
            }
        }
    }

    fn train(&mut self, inputs: &Array2<f32>, labels: &Array1<f32>, rng: &mut ChaCha8Rng) {
        let n = inputs.nrows();
        let mut order: Vec<usize> = (0..n).collect();
        let mut batch = Array2::zeros((BATCH, inputs.ncols()));
        let (mut best, mut without, mut step) = (f64::INFINITY, 0, 0);
        for _ in 0..MAX_EPOCHS {
            order.shuffle(rng);
            let mut loss = 0.0;
            for rows in order.chunks(BATCH) {
                for (mut input, &row) in batch.rows_mut().into_iter().zip(rows) {
                    input.assign(&inputs.row(row));
                }
                step += 1;
                loss +=
                    self.learn(batch.slice(s![..rows.len(), ..]), rows.iter().map(|&row| labels[row]), step);
            }
            loss /= n as f64;
            without = if loss > best - TOLERANCE { without + 1 } else { 0 };
            best = best.min(loss);
            if without > PATIENCE {
                break;
            }
        }
    }

    /// One step of Adam; returns the batch's loss before it, summed.
    fn learn(&mut self, input: ArrayView2<'_, f32>, labels: impl Iterator<Item = f32>, step: i32) -> f64 {
        let loss = self.loss_and_gradients(input, labels);
        let rate = LEARNING_RATE * (1.0 - BETA[1].powi(step)).sqrt() / (1.0 - BETA[0].powi(step));
        self.linears.iter_mut().for_each(|linear| linear.step(rate));
        loss
    }

    /// Sets the gradients of the batch's mean loss; returns its sum.
    fn loss_and_gradients(&mut self, input: ArrayView2<'_, f32>, labels: impl Iterator<Item = f32>) -> f64 {
        let n = input.nrows();
        self.run(input);
        let mut loss = 0.0;
        for ((delta, &z), label) in self.deltas[2].iter_mut().zip(&self.values[2]).zip(labels) {
            // log(1 + e^z) - label z, whatever the size of z.
            loss += f64::from(z.max(0.0) - label * z + (-z.abs()).exp().ln_1p());
            *delta = 1.0 / (1.0 + (-z).exp()) - label;
        }
        for k in (0..3).rev() {
            let input = if k == 0 { input } else { self.values[k - 1].slice(s![..n, ..]) };
            let (before, after) = self.deltas.split_at_mut(k);
            let delta = after[0].slice(s![..n, ..]);
            self.linears[k].set_gradient(input, delta);
            if let Some(next) = before.last_mut() {
                let mut next = next.slice_mut(s![..n, ..]);
                general_mat_mul(1.0, &delta, &self.linears[k].weights().t(), 0.0, &mut next);
                // By rows, which are slices: elementwise loops over whole arrays are not vectorised.
                for (mut next, input) in next.rows_mut().into_iter().zip(input.rows()) {
                    let (Some(next), Some(input)) = (next.as_slice_mut(), input.as_slice()) else { continue };
                    for (delta, &value) in next.iter_mut().zip(input) {
                        *delta = if value > 0.0 { *delta } else { 0.0 };
                    }
                }
            }
        }
        let squares: f32 =
            self.linears.iter().map(|l| l.weights().rows().into_iter().map(|w| w.dot(&w)).sum::<f32>()).sum();
        loss + 0.5 * f64::from(ALPHA * squares)
    }

    fn accuracy(&mut self, inputs: &Array2<f32>, labels: &Array1<f32>) -> f64 {
        let mut right = 0;
        for (chunk, labels) in
            inputs.axis_chunks_iter(Axis(0), BATCH).zip(labels.axis_chunks_iter(Axis(0), BATCH))
        {
            self.run(chunk);
            right +=
                self.values[2].iter().zip(labels).filter(|&(&z, &label)| (z > 0.0) == (label > 0.5)).count();
        }
        right as f64 / labels.len() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two sets of n normal draws, the second moved by `shift` along its first coordinate.
    fn normals(n: usize, dim: usize, shift: f32) -> [Array2<f32>; 2] {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        // Twelve uniform draws less six: a normal to a few per cent.
        let mut normal = || (0..12).map(|_| rng.random::<f32>()).sum::<f32>() - 6.0;
        let mut sets = [0; 2].map(|_| Array2::from_shape_simple_fn((n, dim), &mut normal));
        sets[1].column_mut(0).mapv_inplace(|v| v + shift);
        sets
    }

    #[test]
    fn finds_what_can_be_told_and_no_more() {
        let [x, y] = normals(2000, 2, 0.0);
        let same = c2st(x.view(), y.view(), 1);
        assert!((0.46..0.54).contains(&same), "{same}");
        // The best that any classifier can do is Phi(1 / 2) = 0.691.
        let [x, y] = normals(2000, 2, 1.0);
        let moved = c2st(x.view(), y.view(), 1);
        assert!((0.66..0.72).contains(&moved), "{moved}");
        assert_eq!(moved.to_bits(), c2st(x.view(), y.view(), 1).to_bits());
        assert_ne!(moved.to_bits(), c2st(x.view(), y.view(), 2).to_bits());
    }

    #[test]
    fn gradients_are_those_of_the_loss() {
        let [x, _] = normals(50, 3, 0.0);
        let labels: Vec<f32> = (0..50).map(|i| (i % 2) as f32).collect();
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let mut classifier = Classifier::new(3, 8, &mut rng);
        let loss = |c: &mut Classifier| c.loss_and_gradients(x.view(), labels.iter().copied()) / 50.0;
        loss(&mut classifier);
        for (layer, row, column) in [(0, 0, 1), (0, 3, 2), (1, 4, 5), (1, 8, 3), (2, 2, 0), (2, 8, 0)] {
            let at = |c: &mut Classifier, step: f32| {
                c.linears[layer].params[[row, column]] += step;
                let value = loss(c);
                c.linears[layer].params[[row, column]] -= step;
                value
            };
            let gradient = f64::from(classifier.linears[layer].gradient[[row, column]]);
            let numeric = (at(&mut classifier, 1e-2) - at(&mut classifier, -1e-2)) / 2e-2;
            assert!((gradient - numeric).abs() < 2e-3, "{layer} {row} {column}: {gradient}, {numeric}");
            loss(&mut classifier);
        }
    }
}
