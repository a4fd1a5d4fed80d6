//! Splines at their edges: the identity of zeros, tails, knots, saturated softmaxes and weightless samples.
//! Invariant: the map stays monotone and finite, and its two directions agree, whatever the raw values.

#![allow(clippy::unwrap_used, clippy::panic)]

use approx::assert_relative_eq;
use lwflow_model::*;

/// A flow of one spline of one coordinate: the layer has no inputs, so that its biases are the raw values.
fn spline(n_bins: usize, bound: f64, raw: &[f64]) -> Flow<f64> {
    let layer = SplineCouplingSpec {
        identity: Vec::new(),
        transformed: vec![0],
        hidden: Vec::new(),
        activation: Activation::Silu,
        n_bins,
        bound,
    };
    let layers = vec![LayerSpec::SplineCoupling(layer)];
    let spec = FlowSpec { dim: 1, context_dim: 0, context_network: None, layers, base: BaseSpec::Gaussian };
    Flow::from_params(spec, raw.to_vec()).unwrap()
}

/// Raw values up to +-50.
fn extreme(n_bins: usize) -> Vec<Vec<f64>> {
    let n = n_raw(n_bins);
    let wave = |scale: f64, step: f64| (0..n).map(|i| scale * (step * i as f64 + 0.2).sin()).collect();
    let sign = |period: usize| (0..n).map(|i| if i % period == 0 { 50.0 } else { -50.0 }).collect();
    vec![
        wave(0.5, 1.3),
        wave(3.0, 2.1),
        wave(50.0, 0.9),
        sign(1),
        sign(2),
        sign(3),
        vec![-50.0; n],
        vec![7.0; n],
    ]
}

#[test]
fn zeros_are_the_identity() {
    for n_bins in [1, 2, 8, 30] {
        let flow = spline(n_bins, 5.0, &vec![0.0; n_raw(n_bins)]);
        for v in [-7.0, -5.0, -4.999, -1.3, 0.0, 0.4, 4.2, 5.0, 80.0] {
            let (u, log_det) = flow.inverse_and_log_det(&[v], &[]).unwrap();
            assert_relative_eq!(u[0], v, epsilon = 1e-13);
            assert!(log_det[0].abs() < 1e-13, "{log_det:?}");
        }
    }
}

#[test]
fn any_raw_values_give_a_monotone_map_and_its_inverse() {
    for n_bins in [1, 2, 8, 30] {
        for raw in extreme(n_bins) {
            let flow = spline(n_bins, 3.0, &raw);
            let mut last = f64::NEG_INFINITY;
            for i in 0..=7000 {
                let v = -3.5 + 1e-3 * f64::from(i);
                let (u, log_det) = flow.inverse_and_log_det(&[v], &[]).unwrap();
                assert!(u[0] > last && log_det[0].is_finite(), "{n_bins} bins, {raw:?}: {v} -> {u:?}");
                last = u[0];
                if v.abs() >= 3.0 {
                    assert_eq!((u[0], log_det[0]), (v, 0.0));
                }
                let (back, log_det_back) = flow.forward_and_log_det(&u, &[]).unwrap();
                // What rounding of u alone moves v by.
                let reach = 1e-14 * log_det[0].exp().max(1.0);
                assert!(
                    (back[0] - v).abs() < 1e3 * reach,
                    "{n_bins} bins, {raw:?}: {v} -> {u:?} -> {back:?}"
                );
                assert_relative_eq!(log_det_back[0], log_det[0], epsilon = 1e-5);
            }
        }
    }
}

/// At a knot and at the ends of the interval the pieces agree in value and slope.
#[test]
fn pieces_join() {
    let (n_bins, bound) = (5, 2.0);
    let raw: Vec<f64> = (0..n_raw(n_bins)).map(|i| (1.9 * i as f64).sin()).collect();
    let flow = spline(n_bins, bound, &raw);
    let sum: f64 = raw[..n_bins].iter().map(|r| r.exp()).sum();
    let mut knot = -bound;
    for width in raw[..n_bins].iter().map(|r| r.exp() / sum) {
        let at = |v: f64| flow.inverse_and_log_det(&[v], &[]).unwrap();
        let ((below, d_below), (above, d_above)) = (at(knot - 1e-9), at(knot + 1e-9));
        assert!((above[0] - below[0]).abs() < 1e-7 && (d_above[0] - d_below[0]).abs() < 1e-6);
        knot += 2.0 * bound * (MIN_BIN_SHARE + (1.0 - n_bins as f64 * MIN_BIN_SHARE) * width);
    }
    assert_relative_eq!(knot, bound, epsilon = 1e-12);
}

/// Outside nothing depends on the raw values, and the gradient passes through.
#[test]
fn gradients_outside_are_those_of_the_identity() {
    for v in [-9.0, -3.0, 3.0, 40.0] {
        let flow = spline(4, 3.0, &extreme(4)[1]);
        let g = flow.gradient(&[v], &[], &[0.7], None).unwrap();
        assert!(g.params.iter().all(|&g| g == 0.0));
        assert_relative_eq!(g.theta[0], 0.7 * v, max_relative = 1e-15);
    }
}

/// Gradients at saturated raw values, against differences of log q. At a knot the log-det has a corner: no point is on one.
#[test]
fn gradients_of_extreme_raw_values() {
    for n_bins in [2, 8, 30] {
        for raw in extreme(n_bins) {
            for v in [-2.93, -0.217, 0.713, 2.999] {
                let at = |raw: &[f64], v: f64| -spline(n_bins, 3.0, raw).log_prob(&[v], &[]).unwrap()[0];
                let gradient = spline(n_bins, 3.0, &raw).gradient(&[v], &[], &[1.0], None).unwrap();
                let h = 1e-6;
                for i in 0..=raw.len() {
                    let moved = |h: f64| {
                        let mut raw = raw.clone();
                        if let Some(r) = raw.get_mut(i) {
                            *r += h;
                            at(&raw, v)
                        } else {
                            at(&raw, v + h)
                        }
                    };
                    let numerical = (moved(h) - moved(-h)) / (2.0 * h);
                    let exact = gradient.params.get(i).copied().unwrap_or(gradient.theta[0]);
                    let scale = 1e-4 * (1.0 + gradient.theta[0].abs() + exact.abs());
                    assert!(
                        (numerical - exact).abs() < scale,
                        "{n_bins}, {raw:?}, {v}, {i}: {numerical} {exact}"
                    );
                }
            }
        }
    }
}

#[test]
fn weightless_samples_add_nothing() {
    let flow = spline(8, 5.0, &extreme(8)[1]);
    let one = flow.gradient(&[0.3], &[], &[1.0], None).unwrap();
    let more = flow.gradient(&[0.3, 1e200, 4.9, -5.0], &[], &[1.0, 0.0, 0.0, 0.0], None).unwrap();
    assert_eq!(one.loss, more.loss);
    assert_eq!(one.params, more.params);
}

#[test]
fn settings_and_layers_are_read_as_they_were_written_before_splines() {
    let old = r#"{"n_layers":8,"hidden":[32,32],"activation":"silu","s_max":2.0,"mixing":"permute"}"#;
    let settings: FlowSettings = serde_json::from_str(old).unwrap();
    assert_eq!(settings, FlowSettings::default());
    assert_eq!(serde_json::to_string(&settings).unwrap(), old);
    let spline = FlowSettings { coupling: Coupling::SPLINE, ..settings };
    let text = serde_json::to_string(&spline).unwrap();
    assert!(text.ends_with(r#""coupling":{"spline":{"n_bins":8,"bound":5.0}}}"#), "{text}");
    assert_eq!(serde_json::from_str::<FlowSettings>(&text).unwrap(), spline);
}
