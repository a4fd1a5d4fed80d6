//! C2ST by the recipe of sbibm (Lueckmann et al. 2021): a perceptron of two hidden layers of 10 x D rectified units, trained by
//! Adam as scikit-learn's `MLPClassifier` does by default, and its accuracy over five folds.
//! Invariant: samples come standardised; one thread, so that several can run beside each other; same seed, same accuracy.

use super::product::{Operand, columns, product, transpose};
use ndarray::{Array1, Array2, ArrayView2, Axis};
use pulp::{Arch, Simd, WithSimd};
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

/// A linear map with the moments of its parameters: `[n_in + 1, n_out]`, the last row being the bias. Columns behind the
/// last, which fill whole vectors, are zero and stay zero.
struct Linear {
    n_in: usize,
    n_out: usize,
    params: Vec<f32>,
    gradient: Vec<f32>,
    first: Vec<f32>,
    second: Vec<f32>,
    /// The weights, `[n_out, n_in]`.
    transposed: Vec<f32>,
}

impl Linear {
    fn new(n_in: usize, n_out: usize, rng: &mut ChaCha8Rng) -> Self {
        let bound = (6.0 / (n_in + n_out) as f32).sqrt();
        let zeros = || vec![0.0; (n_in + 1) * columns(n_out)];
        let mut params = zeros();
        for row in params.chunks_exact_mut(columns(n_out)) {
            row[..n_out].fill_with(|| rng.random_range(-bound..bound));
        }
        let (gradient, first, second) = (zeros(), zeros(), zeros());
        Self { n_in, n_out, params, gradient, first, second, transposed: vec![0.0; n_out * columns(n_in)] }
    }

    /// Where the bias begins.
    fn n_weights(&self) -> usize {
        self.n_in * columns(self.n_out)
    }

    /// `output`, `[n, n_out]`, of `input`, `[n, n_in]`.
    #[inline(always)]
    fn run<S: Simd>(&self, simd: S, input: &[f32], output: &mut [f32], panel: &mut Vec<f32>) {
        let (weights, bias) = self.params.split_at(self.n_weights());
        for row in output.chunks_exact_mut(bias.len()) {
            row.copy_from_slice(bias);
        }
        product(simd, Operand::Rows(input, columns(self.n_in)), weights, columns(self.n_out), output, panel);
    }

    /// The gradient of the mean over a batch, whose sum over outputs is `delta`, `[n, n_out]`.
    #[inline(always)]
    fn set_gradient<S: Simd>(&mut self, simd: S, input: &[f32], delta: &[f32], panel: &mut Vec<f32>) {
        let (n_in, n_columns, n_weights) = (columns(self.n_in), columns(self.n_out), self.n_weights());
        let n = input.len() / n_in;
        let (weights, bias) = self.gradient.split_at_mut(n_weights);
        for (gradient, weight) in weights.iter_mut().zip(&self.params) {
            *gradient = ALPHA * weight;
        }
        product(simd, Operand::Columns(input, n_in), delta, n_columns, weights, panel);
        bias.fill(0.0);
        for row in delta.chunks_exact(n_columns) {
            for (sum, delta) in bias.iter_mut().zip(row) {
                *sum += delta;
            }
        }
        let share = 1.0 / n as f32;
        for gradient in &mut self.gradient {
            *gradient *= share;
        }
    }

    /// The gradient by the input, `[n, n_in]`.
    #[inline(always)]
    fn back<S: Simd>(&mut self, simd: S, delta: &[f32], out: &mut [f32], panel: &mut Vec<f32>) {
        transpose(
            &self.params,
            columns(self.n_out),
            self.n_in,
            self.n_out,
            columns(self.n_in),
            &mut self.transposed,
        );
        out.fill(0.0);
        product(
            simd,
            Operand::Rows(delta, columns(self.n_out)),
            &self.transposed,
            columns(self.n_in),
            out,
            panel,
        );
    }

    #[inline(always)]
    fn step(&mut self, rate: f32) {
        let Self { params, gradient, first, second, .. } = self;
        for (((p, g), m), v) in params.iter_mut().zip(gradient).zip(first).zip(second) {
            *m = BETA[0] * *m + (1.0 - BETA[0]) * *g;
            *v = BETA[1] * *v + (1.0 - BETA[1]) * *g * *g;
            *p -= rate * *m / (v.sqrt() + EPSILON);
        }
    }

    /// Sum of the squares of the weights.
    #[inline(always)]
    fn squares(&self) -> f32 {
        let mut sums = [0.0; columns(1)];
        for part in self.params[..self.n_weights()].chunks_exact(sums.len()) {
            for (sum, w) in sums.iter_mut().zip(part) {
                *sum += w * w;
            }
        }
        sums.iter().sum()
    }
}

struct Classifier {
    arch: Arch,
    /// Memory of the products.
    panel: Vec<f32>,
    linears: [Linear; 3],
    /// Values of the hidden layers and of the output, and the gradients of the same, of a batch.
    values: [Vec<f32>; 3],
    deltas: [Vec<f32>; 3],
}

impl Classifier {
    fn new(n_in: usize, width: usize, rng: &mut ChaCha8Rng) -> Self {
        let arrays = || [width, width, 1].map(|n| vec![0.0; BATCH * columns(n)]);
        Self {
            arch: Arch::new(),
            panel: Vec::new(),
            linears: [(n_in, width), (width, width), (width, 1)].map(|(a, b)| Linear::new(a, b, rng)),
            values: arrays(),
            deltas: arrays(),
        }
    }

    /// Values of all layers for a batch, `[n, D]`, of at most [`BATCH`] rows.
    #[inline(always)]
    fn run<S: Simd>(&mut self, simd: S, input: &[f32]) {
        let n = input.len() / columns(self.linears[0].n_in);
        for (k, linear) in self.linears.iter().enumerate() {
            let (before, after) = self.values.split_at_mut(k);
            let input = before.last().map_or(input, |values| &values[..n * columns(linear.n_in)]);
            let output = &mut after[0][..n * columns(linear.n_out)];
            linear.run(simd, input, output, &mut self.panel);
            if k < 2 {
                for v in output {
                    *v = v.max(0.0);
                }
            }
        }
    }

    fn train(&mut self, inputs: &Array2<f32>, labels: &Array1<f32>, rng: &mut ChaCha8Rng) {
        let n = inputs.nrows();
        let mut order: Vec<usize> = (0..n).collect();
        let mut batch = vec![0.0; BATCH * columns(inputs.ncols())];
        let (mut best, mut without, mut step) = (f64::INFINITY, 0, 0);
        for _ in 0..MAX_EPOCHS {
            order.shuffle(rng);
            let mut loss = 0.0;
            for rows in order.chunks(BATCH) {
                let batch = gather(inputs, rows, &mut batch);
                step += 1;
                let labels = rows.iter().map(|&row| labels[row]);
                loss += self.arch.dispatch(Step { classifier: self, batch, labels, step });
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
    #[inline(always)]
    fn learn<S: Simd>(
        &mut self,
        simd: S,
        input: &[f32],
        labels: impl Iterator<Item = f32>,
        step: i32,
    ) -> f64 {
        let loss = self.loss_and_gradients(simd, input, labels);
        let rate = LEARNING_RATE * (1.0 - BETA[1].powi(step)).sqrt() / (1.0 - BETA[0].powi(step));
        for linear in &mut self.linears {
            linear.step(rate);
        }
        loss
    }

    /// Sets the gradients of the batch's mean loss; returns its sum.
    #[inline(always)]
    fn loss_and_gradients<S: Simd>(
        &mut self,
        simd: S,
        input: &[f32],
        labels: impl Iterator<Item = f32>,
    ) -> f64 {
        let n = input.len() / columns(self.linears[0].n_in);
        self.run(simd, input);
        let mut loss = 0.0;
        let (outputs, deltas) =
            (self.values[2].chunks_exact(columns(1)), self.deltas[2].chunks_exact_mut(columns(1)));
        for ((delta, z), label) in deltas.zip(outputs).zip(labels) {
            // log(1 + e^z) - label z, whatever the size of z.
            let z = z[0];
            loss += f64::from(z.max(0.0) - label * z + (-z.abs()).exp().ln_1p());
            delta[0] = 1.0 / (1.0 + (-z).exp()) - label;
        }
        for (k, linear) in self.linears.iter_mut().enumerate().rev() {
            let input = if k == 0 { input } else { &self.values[k - 1][..n * columns(linear.n_in)] };
            let (before, after) = self.deltas.split_at_mut(k);
            let delta = &after[0][..n * columns(linear.n_out)];
            linear.set_gradient(simd, input, delta, &mut self.panel);
            if let Some(next) = before.last_mut() {
                let next = &mut next[..input.len()];
                linear.back(simd, delta, next, &mut self.panel);
                for (delta, value) in next.iter_mut().zip(input) {
                    *delta = if *value > 0.0 { *delta } else { 0.0 };
                }
            }
        }
        let squares: f32 = self.linears.iter().map(Linear::squares).sum();
        loss + 0.5 * f64::from(ALPHA * squares)
    }

    fn accuracy(&mut self, inputs: &Array2<f32>, labels: &Array1<f32>) -> f64 {
        let mut right = 0;
        let mut batch = vec![0.0; BATCH * columns(inputs.ncols())];
        let order: Vec<usize> = (0..inputs.nrows()).collect();
        for (rows, labels) in order.chunks(BATCH).zip(labels.axis_chunks_iter(Axis(0), BATCH)) {
            let batch = gather(inputs, rows, &mut batch);
            self.arch.dispatch(Run { classifier: self, batch });
            let outputs = self.values[2].chunks_exact(columns(1));
            right += outputs.zip(labels).filter(|(z, label)| (z[0] > 0.0) == (**label > 0.5)).count();
        }
        right as f64 / labels.len() as f64
    }
}

/// [`Classifier::learn`] at the processor's level.
struct Step<'a, L> {
    classifier: &'a mut Classifier,
    batch: &'a [f32],
    labels: L,
    step: i32,
}

impl<L: Iterator<Item = f32>> WithSimd for Step<'_, L> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f64 {
        self.classifier.learn(simd, self.batch, self.labels, self.step)
    }
}

/// [`Classifier::run`] at the processor's level.
struct Run<'a> {
    classifier: &'a mut Classifier,
    batch: &'a [f32],
}

impl WithSimd for Run<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.classifier.run(simd, self.batch);
    }
}

/// Some rows of `inputs` in `batch`.
fn gather<'a>(inputs: &Array2<f32>, rows: &[usize], batch: &'a mut [f32]) -> &'a [f32] {
    let dim = inputs.ncols();
    for (to, &row) in batch.chunks_exact_mut(columns(dim)).zip(rows) {
        to[..dim].iter_mut().zip(inputs.row(row)).for_each(|(to, from)| *to = *from);
    }
    &batch[..rows.len() * columns(dim)]
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
        let mut classifier = Classifier::new(3, 17, &mut rng);
        let mut batch = vec![0.0; BATCH * columns(3)];
        let rows: Vec<usize> = (0..50).collect();
        let batch = gather(&x, &rows, &mut batch);
        let loss = |c: &mut Classifier| {
            c.loss_and_gradients(pulp::Scalar::new(), batch, labels.iter().copied()) / 50.0
        };
        loss(&mut classifier);
        for (layer, row, column) in
            [(0, 0, 1), (0, 3, 2), (1, 4, 5), (1, 17, 3), (1, 16, 16), (2, 2, 0), (2, 17, 0)]
        {
            let place = row * columns(classifier.linears[layer].n_out) + column;
            let at = |c: &mut Classifier, step: f32| {
                c.linears[layer].params[place] += step;
                let value = loss(c);
                c.linears[layer].params[place] -= step;
                value
            };
            let gradient = f64::from(classifier.linears[layer].gradient[place]);
            let numeric = (at(&mut classifier, 1e-2) - at(&mut classifier, -1e-2)) / 2e-2;
            assert!((gradient - numeric).abs() < 2e-3, "{layer} {row} {column}: {gradient}, {numeric}");
            loss(&mut classifier);
        }
    }
}
