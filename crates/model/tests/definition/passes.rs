//! The definition checked by itself: round trips, log-determinants against the numerical Jacobian, gradients against
//! finite differences, densities that integrate to one. A new layer costs one row in `specs`.

#![allow(clippy::unwrap_used, clippy::panic)]

use approx::assert_relative_eq;
use lwflow_model::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn settings(n_layers: usize, hidden: &[usize], activation: Activation, mixing: Mixing) -> FlowSettings {
    let hidden = hidden.to_vec();
    FlowSettings { n_layers, hidden, activation, s_max: 1.5, mixing, ..FlowSettings::default() }
}

/// Splines on so narrow an interval that some points lie outside.
fn splines(n_layers: usize, hidden: &[usize], n_bins: usize, bound: f64) -> FlowSettings {
    let coupling = Coupling::Spline { n_bins, bound };
    FlowSettings { coupling, ..settings(n_layers, hidden, Activation::Silu, Mixing::Permute) }
}

/// Features of the context by an MLP.
fn mlp(hidden: &[usize], n_features: usize, settings: FlowSettings) -> FlowSettings {
    let network = MlpSpec { hidden: hidden.to_vec(), n_features, activation: Activation::Silu };
    FlowSettings { context_network: Some(ContextNetworkSpec::Mlp(network)), ..settings }
}

/// Features of sets with elements of two values.
fn set(counted: bool, phi: &[usize], hidden: &[usize], settings: FlowSettings) -> FlowSettings {
    let (phi, hidden, activation) = (phi.to_vec(), hidden.to_vec(), Activation::Tanh);
    let network = SetSpec { element: 2, counted, phi, hidden, n_features: 4, activation };
    FlowSettings { context_network: Some(ContextNetworkSpec::Set(network)), ..settings }
}

fn mixture(k: usize, covariance: Covariance) -> BaseSpec {
    BaseSpec::Mixture(MixtureSpec {
        n_components: k,
        covariance,
        weight_floor: 0.01,
        ..MixtureSpec::default()
    })
}

/// One row per kind of flow: (name, specification).
fn specs() -> Vec<(&'static str, FlowSpec)> {
    use Activation::*;
    let row = |d, c, s: FlowSettings, b| FlowSpec::build(d, c, &s, b, 5).unwrap();
    vec![
        ("no layers", row(2, 0, settings(0, &[], Relu, Mixing::Alternate), mixture(3, Covariance::Full))),
        ("one dimension", row(1, 0, settings(3, &[4], Tanh, Mixing::Alternate), BaseSpec::Gaussian)),
        (
            "one dimension, context",
            row(1, 3, settings(2, &[5, 3], Silu, Mixing::Permute), mixture(2, Covariance::Diagonal)),
        ),
        ("linear conditioner", row(3, 0, settings(3, &[], Tanh, Mixing::Alternate), BaseSpec::Gaussian)),
        (
            "plane, silu",
            row(2, 0, settings(4, &[6, 5], Silu, Mixing::Alternate), mixture(3, Covariance::Full)),
        ),
        (
            "space, tanh, context",
            row(3, 3, settings(4, &[7, 4], Tanh, Mixing::Permute), mixture(2, Covariance::Diagonal)),
        ),
        (
            "five, three hidden",
            row(5, 0, settings(5, &[6, 5, 4], Silu, Mixing::Permute), mixture(2, Covariance::Full)),
        ),
        ("wide", row(64, 3, settings(2, &[8, 8], Silu, Mixing::Permute), BaseSpec::Gaussian)),
        ("spline, one dimension", row(1, 0, splines(2, &[4], 8, 3.0), mixture(2, Covariance::Full))),
        ("spline, one dimension, context", row(1, 3, splines(2, &[5], 5, 1.3), BaseSpec::Gaussian)),
        ("spline, one bin", row(2, 0, splines(2, &[4], 1, 2.0), mixture(2, Covariance::Full))),
        ("spline, two bins", row(2, 0, splines(3, &[4, 4], 2, 1.2), BaseSpec::Gaussian)),
        ("spline, plane", row(2, 0, splines(4, &[6, 5], 6, 4.0), mixture(3, Covariance::Full))),
        ("spline, space, context", row(3, 3, splines(3, &[7], 30, 2.0), mixture(2, Covariance::Diagonal))),
        ("mlp", row(3, 4, mlp(&[5], 2, splines(3, &[7], 4, 2.0)), mixture(2, Covariance::Diagonal))),
        ("linear features", row(1, 3, mlp(&[], 6, splines(2, &[5], 5, 1.3)), BaseSpec::Gaussian)),
        (
            "set",
            row(
                3,
                6,
                set(false, &[5, 3], &[4], settings(2, &[5], Silu, Mixing::Permute)),
                BaseSpec::Gaussian,
            ),
        ),
        (
            "counted set",
            row(
                1,
                9,
                set(true, &[4], &[], settings(2, &[4], Tanh, Mixing::Alternate)),
                mixture(2, Covariance::Full),
            ),
        ),
        ("relu", row(4, 3, settings(4, &[8, 8], Relu, Mixing::Permute), mixture(2, Covariance::Full))),
    ]
}

/// A flow away from the identity, its parameters drawn at random.
fn random_flow(spec: &FlowSpec, rng: &mut ChaCha8Rng) -> Flow<f64> {
    let mut flow = Flow::<f64>::init(spec.clone(), 3).unwrap();
    for p in flow.params_mut() {
        *p += rng.random_range(-0.4..0.4);
    }
    flow
}

fn draw(rng: &mut ChaCha8Rng, n: usize) -> Vec<f64> {
    (0..n).map(|_| rng.random_range(-1.5..1.5)).collect()
}

/// Rows of context; the counts of counted sets take turns from none to all.
fn contexts(rng: &mut ChaCha8Rng, spec: &FlowSpec, n: usize) -> Vec<f64> {
    let mut context = draw(rng, n * spec.context_dim);
    if let Some(ContextNetworkSpec::Set(set)) = spec.context_network.as_ref().filter(|_| is_counted(spec)) {
        for (i, row) in context.chunks_exact_mut(spec.context_dim).enumerate() {
            row[0] = ((i + 2) % (set.most(spec.context_dim) + 1)) as f64;
        }
    }
    context
}

/// Whether the first value of the context is a count.
fn is_counted(spec: &FlowSpec) -> bool {
    matches!(&spec.context_network, Some(ContextNetworkSpec::Set(set)) if set.counted)
}

#[test]
fn round_trip() {
    for (name, spec) in specs() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let flow = random_flow(&spec, &mut rng);
        let (z, c) = (draw(&mut rng, 9 * spec.dim), contexts(&mut rng, &spec, 9));
        let (theta, log_det) = flow.forward_and_log_det(&z, &c).unwrap();
        let (back, log_det_back) = flow.inverse_and_log_det(&theta, &c).unwrap();
        for (a, b) in z.iter().chain(&log_det).zip(back.iter().chain(&log_det_back)) {
            assert_relative_eq!(a, b, epsilon = 1e-10, max_relative = 1e-10);
        }
        assert!(
            ["no layers", "spline, one bin"].contains(&name)
                || theta.iter().zip(&z).any(|(a, b)| (a - b).abs() > 1e-3),
            "{name}"
        );
    }
}

#[test]
fn log_det_is_that_of_the_jacobian() {
    for (name, spec) in specs() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let flow = random_flow(&spec, &mut rng);
        let d = spec.dim;
        let (z, c) = (draw(&mut rng, d), contexts(&mut rng, &spec, 1));
        let h = 1e-5;
        let mut jacobian = vec![0.0; d * d];
        for j in 0..d {
            let shifted = |s: f64| {
                let mut z = z.clone();
                z[j] += s;
                flow.forward_and_log_det(&z, &c).unwrap().0
            };
            let (up, down) = (shifted(h), shifted(-h));
            for i in 0..d {
                jacobian[i * d + j] = (up[i] - down[i]) / (2.0 * h);
            }
        }
        let log_det = flow.forward_and_log_det(&z, &c).unwrap().1[0];
        assert_relative_eq!(log_abs_det(jacobian, d), log_det, epsilon = 1e-6);
        let _ = name;
    }
}

/// Gaussian elimination with partial pivoting.
fn log_abs_det(mut a: Vec<f64>, d: usize) -> f64 {
    let mut sum = 0.0;
    for k in 0..d {
        let p = (k..d).max_by(|&i, &j| a[i * d + k].abs().total_cmp(&a[j * d + k].abs())).unwrap();
        for j in 0..d {
            a.swap(k * d + j, p * d + j);
        }
        sum += a[k * d + k].abs().ln();
        for i in k + 1..d {
            let f = a[i * d + k] / a[k * d + k];
            for j in k..d {
                a[i * d + j] -= f * a[k * d + j];
            }
        }
    }
    sum
}

#[test]
fn gradients_are_those_of_finite_differences() {
    for (name, spec) in specs() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let flow = random_flow(&spec, &mut rng);
        let n = 4;
        let (theta, c) = (draw(&mut rng, n * spec.dim), contexts(&mut rng, &spec, n));
        let w: Vec<f64> = (0..n).map(|_| rng.random_range(0.1..1.0)).collect();
        let lv: Vec<f64> = (0..n).map(|_| rng.random_range(-1.0..1.0)).collect();
        let plain = flow.gradient(&theta, &c, &w, None).unwrap();
        let control = flow.gradient(&theta, &c, &w, Some(&lv)).unwrap();
        assert_relative_eq!(plain.loss, control.loss);
        // Both losses as plain functions: -sum w log q, and the same plus sum q exp(lv).
        let loss = |flow: &Flow<f64>, theta: &[f64], c: &[f64]| {
            let q = flow.log_prob(theta, c).unwrap();
            let plain: f64 = -q.iter().zip(&w).map(|(q, w)| q * w).sum::<f64>();
            let extra: f64 = q.iter().zip(&lv).map(|(q, lv)| (q + lv).exp()).sum();
            (plain, plain + extra)
        };
        assert_relative_eq!(plain.loss, loss(&flow, &theta, &c).0, max_relative = 1e-12);
        let h = 1e-5;
        let compare = |what: &str, i: usize, up: (f64, f64), down: (f64, f64), plain: f64, control: f64| {
            let scale = 1e-6 * (1.0 + up.1.abs());
            for (numerical, exact) in
                [((up.0 - down.0) / (2.0 * h), plain), ((up.1 - down.1) / (2.0 * h), control)]
            {
                assert!(
                    (numerical - exact).abs() < scale + 1e-6 * exact.abs(),
                    "{name}: {what}[{i}] {numerical} {exact}"
                );
            }
        };
        for i in (0..flow.params().len()).step_by(1 + flow.params().len() / 300) {
            let shifted = |s: f64| {
                let mut f = flow.clone();
                f.params_mut()[i] += s;
                loss(&f, &theta, &c)
            };
            compare("params", i, shifted(h), shifted(-h), plain.params[i], control.params[i]);
        }
        for i in 0..theta.len() {
            let shifted = |s: f64| {
                let mut t = theta.clone();
                t[i] += s;
                loss(&flow, &t, &c)
            };
            compare("theta", i, shifted(h), shifted(-h), plain.theta[i], control.theta[i]);
        }
        // A count does not vary by little.
        let varies = |i: &usize| !(is_counted(&spec) && i.is_multiple_of(spec.context_dim));
        for i in (0..c.len()).filter(varies) {
            let shifted = |s: f64| {
                let mut t = c.clone();
                t[i] += s;
                loss(&flow, &theta, &t)
            };
            compare("context", i, shifted(h), shifted(-h), plain.context[i], control.context[i]);
        }
    }
}

#[test]
fn density_integrates_to_one() {
    for (name, spec) in specs().into_iter().filter(|(_, s)| s.dim <= 2) {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let mut flow = Flow::<f64>::init(spec.clone(), 3).unwrap();
        for p in flow.params_mut() {
            *p += rng.random_range(-0.25..0.25);
        }
        let context = contexts(&mut rng, &spec, 1);
        let (half, n) = if spec.dim == 1 { (60.0, 24_000) } else { (16.0, 700) };
        let h = 2.0 * half / n as f64;
        let axis: Vec<f64> = (0..n).map(|i| -half + (i as f64 + 0.5) * h).collect();
        let mut total = 0.0;
        if spec.dim == 1 {
            for &x in &axis {
                total += flow.log_prob(&[x], &context).unwrap()[0].exp() * h;
            }
        } else {
            for &x in &axis {
                let theta: Vec<f64> = axis.iter().flat_map(|&y| [x, y]).collect();
                total += flow.log_prob(&theta, &[]).unwrap().iter().map(|q| q.exp()).sum::<f64>() * h * h;
            }
        }
        assert!((total - 1.0).abs() < 2e-3, "{name}: integral {total}");
    }
}

#[test]
fn frozen_base_has_no_gradient() {
    let base = BaseSpec::Mixture(MixtureSpec { n_components: 2, trainable: false, ..MixtureSpec::default() });
    let spec = FlowSpec::build(2, 0, &FlowSettings::default(), base, 1).unwrap();
    let flow = Flow::<f64>::init(spec, 1).unwrap();
    let g = flow.gradient(&[0.3, -0.2], &[], &[1.0], None).unwrap();
    assert!(g.params[flow.layout().base..].iter().all(|&g| g == 0.0));
    assert!(g.params.iter().any(|&g| g != 0.0));
}

#[test]
fn weightless_samples_add_nothing_even_where_the_density_is_zero() {
    let spec = FlowSpec::build(2, 0, &FlowSettings::default(), BaseSpec::Gaussian, 1).unwrap();
    let flow = Flow::<f64>::init(spec, 1).unwrap();
    let one = flow.gradient(&[0.3, -0.2], &[], &[1.0], None).unwrap();
    let two = flow.gradient(&[0.3, -0.2, 1e200, 0.0], &[], &[1.0, 0.0], None).unwrap();
    assert_eq!(one.loss, two.loss);
    assert!(two.params.iter().zip(&one.params).all(|(a, b)| a == b));
}

#[test]
fn layout_names_every_value_once() {
    for (name, spec) in specs() {
        let layout = ParamLayout::new(&spec);
        let mut next = 0;
        for block in &layout.blocks {
            assert_eq!(block.offset, next, "{name}: {}", block.name);
            next += block.len();
        }
        assert_eq!(next, layout.len);
        assert!(
            layout
                .blocks
                .iter()
                .enumerate()
                .all(|(i, b)| layout.blocks[..i].iter().all(|a| a.name != b.name))
        );
    }
}

#[test]
fn specification_survives_json_and_refuses_nonsense() {
    for (_, spec) in specs() {
        let text = serde_json::to_string(&spec).unwrap();
        assert_eq!(serde_json::from_str::<FlowSpec>(&text).unwrap(), spec);
    }
    let good = FlowSpec::build(3, 0, &FlowSettings::default(), mixture(2, Covariance::Full), 1).unwrap();
    let refuse = |change: &dyn Fn(&mut FlowSpec), words: &str| {
        let mut spec = good.clone();
        change(&mut spec);
        let text = spec.validate().unwrap_err().to_string();
        assert!(text.contains(words), "{text}");
    };
    let first = |f: &dyn Fn(&mut AffineCouplingSpec), s: &mut FlowSpec| match &mut s.layers[0] {
        LayerSpec::AffineCoupling(c) => f(c),
        LayerSpec::SplineCoupling(_) => panic!("an affine flow"),
    };
    for (n_bins, bound, words) in [
        (0, 5.0, "layers[0].n_bins is 0"),
        (MAX_BINS + 1, 5.0, "layers[0].n_bins is 65"),
        (8, f64::NAN, "layers[0].bound is NaN"),
        (8, 0.0, "layers[0].bound is 0"),
        (8, 1e9, "layers[0].bound is 1000000000"),
    ] {
        let settings = splines(2, &[4], n_bins, bound);
        let refused = FlowSpec::build(2, 0, &settings, BaseSpec::Gaussian, 1).unwrap_err().to_string();
        assert!(refused.contains(words), "{refused}");
    }
    refuse(&|s| s.dim = 0, "dim is 0");
    refuse(&|s| s.dim = usize::MAX, "dim is");
    refuse(&|s| s.context_dim = usize::MAX, "context_dim");
    refuse(&|s| first(&|c| c.s_max = f64::NAN, s), "layers[0].s_max is NaN");
    refuse(&|s| first(&|c| c.hidden = vec![0], s), "layers[0].hidden is 0");
    refuse(&|s| first(&|c| c.identity = vec![0, 0, 9], s), "partition of 0..3");
    refuse(&|s| first(&|c| c.transformed.clear(), s), "at least one transformed");
    refuse(&|s| s.base = mixture(0, Covariance::Full), "base.n_components is 0");
    refuse(&|s| s.base = mixture(200, Covariance::Full), "base.weight_floor");
    let flow = Flow::<f64>::init(good.clone(), 1).unwrap();
    assert!(flow.log_prob(&[1.0; 4], &[]).is_err() && flow.log_prob(&[1.0; 3], &[1.0]).is_err());
    assert!(Flow::from_params(good, vec![0.0f32; 3]).is_err());
}

#[test]
fn projection_keeps_scales_above_the_floor() {
    for covariance in [Covariance::Diagonal, Covariance::Full] {
        let base = BaseSpec::Mixture(MixtureSpec {
            n_components: 2,
            covariance,
            scale_floor: 0.1,
            ..Default::default()
        });
        let spec = FlowSpec::build(3, 0, &FlowSettings::default(), base, 1).unwrap();
        let mut flow = Flow::<f64>::init(spec.clone(), 1).unwrap();
        let layout = flow.layout().clone();
        flow.params_mut()[layout.base..].fill(-9.0);
        spec.project(&layout, flow.params_mut());
        let m = flow.mixture().unwrap();
        for k in 0..2 {
            for j in 0..3 {
                assert_relative_eq!(m.cholesky[(k * 3 + j) * 3 + j], 0.1, max_relative = 1e-12);
            }
        }
        assert_eq!(flow.params()[layout.base], -9.0);
    }
}

#[test]
fn outer_transform_round_trip_and_density() {
    let outer = OuterTransform {
        bijections: vec![
            Bijection::UNBOUNDED,
            Bijection { lower: Some(Bound { value: 0.0, edge: Edge::Hard }), ..Bijection::UNBOUNDED },
            Bijection {
                lower: Some(Bound { value: 0.0, edge: Edge::Hard }),
                upper: Some(Bound { value: 1.0, edge: Edge::Soft }),
                cut: None,
                sharpness: 20.0,
            },
            Bijection {
                lower: Some(Bound { value: 0.0, edge: Edge::Soft }),
                upper: Some(Bound { value: 1.0, edge: Edge::Soft }),
                cut: Some(0.4),
                sharpness: 20.0,
            },
        ],
        location: vec![1.0, -0.5, -1.5, 0.5],
        scale: vec![2.0, 0.7, 1.1, 0.2],
    };
    outer.validate(4).unwrap();
    let (mut theta, mut back) = ([0.0; 4], [0.0; 4]);
    let x = [0.3, -1.2, 0.4, 1.0];
    let log_det = outer.from_flow(&x, &mut theta);
    assert_relative_eq!(outer.to_flow(&theta, &mut back).unwrap(), log_det, max_relative = 1e-9);
    for (a, b) in x.iter().zip(&back) {
        assert_relative_eq!(a, b, max_relative = 1e-9);
    }
    assert_eq!(outer.to_flow(&[0.0, -1.0, 0.5, 0.5], &mut back), None);
    assert!(outer.validate(2).is_err());
}
