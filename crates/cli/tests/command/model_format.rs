//! docs/model-format.md is complete: its NumPy program, which shares no code with lwflow, reproduces `lwflow log-prob`
//! for a file that holds every bijection, circles cut open, both covariances, every activation, a context and its networks.

use crate::harness::on_cores;
use lwflow_host::files::{ColumnChoice, SampleTable, read_samples, write_samples};
use lwflow_host::model_file::{Precision, write_model};
use lwflow_host::posterior::Posterior;
use lwflow_model::{
    Activation, BaseSpec, Bijection, Bound, ContextNetworkSpec, Coupling, Covariance, Edge, Flow,
    FlowSettings, FlowSpec, MixtureSpec, MlpSpec, OuterTransform, SetSpec,
};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Allowed difference of log q in nats.
const TOLERANCE: f64 = 1e-4;

/// A Python with NumPy: that of `cargo xtask test`, the system's, or that of an environment made once under the target folder.
fn python() -> Option<PathBuf> {
    let works = |python: &Path| {
        Command::new(python).args(["-c", "import numpy"]).output().is_ok_and(|o| o.status.success())
    };
    let system = PathBuf::from("python3");
    let made = std::env::var_os("LWFLOW_READERS_PYTHON").map(PathBuf::from);
    if let Some(python) = made.into_iter().chain([system.clone()]).find(|python| works(python)) {
        return Some(python);
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("numpy");
    let inside = folder.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python3" });
    if !works(&inside) {
        let run = |program: &Path, arguments: &[&str]| {
            Command::new(program).args(arguments).output().is_ok_and(|o| o.status.success())
        };
        let made = run(&system, &["-m", "venv", &folder.display().to_string()])
            && run(&inside, &["-m", "pip", "install", "--quiet", "numpy"]);
        if !made || !works(&inside) {
            lwflow_skip::skip("no python3 with numpy, and none could be installed");
            return None;
        }
    }
    Some(inside)
}

/// Where circles are cut open.
const CUT: f64 = 0.4;

fn bijections() -> Vec<Bijection> {
    let side = |value, edge: Option<Edge>| edge.map(|edge| Bound { value, edge });
    let edges = [None, Some(Edge::Soft), Some(Edge::Hard)];
    let all = edges.iter().flat_map(|&l| edges.iter().map(move |&u| (l, u)));
    let bounded: Vec<Bijection> = all
        .map(|(l, u)| Bijection { lower: side(-1.5, l), upper: side(2.5, u), cut: None, sharpness: 3.0 })
        .collect();
    let is_circle = |b: &&Bijection| b.lower.is_some() && b.upper.is_some();
    let circles = bounded.iter().filter(is_circle).map(|b| Bijection { cut: Some(CUT), ..*b });
    bounded.iter().copied().chain(circles).collect()
}

/// A set whose rows begin with the number of their elements.
fn counted(network: Option<&ContextNetworkSpec>) -> Option<&SetSpec> {
    match network {
        Some(ContextNetworkSpec::Set(set)) if set.counted => Some(set),
        _ => None,
    }
}

/// A posterior over all bijections, four of them of circles, whose parameters are nowhere trivial.
fn posterior(
    activation: Activation,
    coupling: Coupling,
    base: BaseSpec,
    context_dim: usize,
    context_network: Option<ContextNetworkSpec>,
) -> Posterior {
    let bijections = bijections();
    let d = bijections.len();
    let (hidden, is_counted) = (vec![8, 8], counted(context_network.as_ref()).is_some());
    let settings = FlowSettings {
        n_layers: 3,
        hidden,
        activation,
        coupling,
        context_network,
        ..FlowSettings::default()
    };
    let spec = FlowSpec::build(d, context_dim, &settings, base, 5).unwrap();
    let mut flow = Flow::<f32>::init(spec, 5).unwrap();
    for (i, p) in flow.params_mut().iter_mut().enumerate() {
        *p += 0.3 * (1.7 * i as f32 + 0.4).sin();
    }
    let mut outer = OuterTransform::new(bijections);
    for j in 0..d {
        outer.location[j] = 0.1 * j as f64 - 0.3;
        outer.scale[j] = 0.5 + 0.1 * j as f64;
    }
    let (mut context_location, mut context_scale) = (vec![0.5; context_dim], vec![2.0; context_dim]);
    if is_counted {
        (context_location[0], context_scale[0]) = (0.0, 1.0);
    }
    Posterior {
        names: (0..d).map(|j| format!("p{j}")).collect(),
        labels: (0..d).map(|j| format!("p_{j}")).collect(),
        outer,
        flow,
        context_location,
        context_scale,
        novelty: None,
        seed: 5,
        evidence: None,
    }
}

/// The program of the document between the fences of this language.
fn program(language: &str) -> &'static str {
    let text = include_str!("../../../../docs/model-format.md");
    text.split(&format!("```{language}\n")).nth(1).and_then(|t| t.split("```").next()).unwrap()
}

/// Writes the model, lets lwflow and the program evaluate it at the same points, and compares. With `edges` the first
/// point lies on a bound, the second outside, the third next to the cut of a circle, and the
/// fourth on it, where 64 bits hold nothing to compare.
fn compare(python: &Path, program: &str, posterior: &Posterior, precision: Precision, edges: bool) {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("reader.py"), program).unwrap();
    write_model(&at("model.safetensors"), posterior, precision).unwrap();
    let (n, d, context_dim) = (200, posterior.dim(), posterior.context_location.len());
    let mut theta = vec![0.0; n * d];
    for (i, row) in theta.chunks_exact_mut(d).enumerate() {
        let x: Vec<f64> = (0..d).map(|j| 2.0 * (1.3 * (i * d + j) as f64).sin()).collect();
        posterior.outer.from_flow(&x, row);
    }
    if edges {
        theta[d - 1] = 2.5;
        theta[2 * d - 1] = -9.0;
        theta[3 * d - 1] = CUT - 1e-9;
        theta[4 * d - 1] = CUT;
    }
    let mut points = SampleTable::new(posterior.names.clone(), theta).unwrap();
    points.context_dim = context_dim;
    points.context = (0..n * context_dim).map(|i| (0.9 * i as f64).cos()).collect();
    if let Some(set) = counted(posterior.spec().context_network.as_ref()) {
        let rows = points.context.chunks_exact_mut(context_dim).enumerate();
        rows.for_each(|(i, row)| row[0] = (i % (set.most(context_dim) + 1)) as f64);
    }
    write_samples(&at("points.npz"), &points, &mut std::io::sink()).unwrap();

    on_cores(folder.path(), "log-prob model.safetensors --in points.npz --out ours.npz").expect(0, &[]);
    let ours = read_samples(&at("ours.npz"), &ColumnChoice::default()).unwrap().log_prob.unwrap();
    let output = Command::new(python)
        .current_dir(folder.path())
        .args(["reader.py", "model.safetensors", "points.npz"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let theirs: Vec<f64> = said.lines().map(|l| l.parse().unwrap()).collect();
    assert_eq!((theirs.len(), ours.len()), (n, n));
    if edges {
        assert_eq!((ours[0], ours[1]), (f64::NEG_INFINITY, f64::NEG_INFINITY));
        assert!(ours[3].is_finite() && theirs[3].is_finite());
    }
    for (i, (t, o)) in theirs.iter().zip(&ours).enumerate() {
        let allowed = TOLERANCE * (1.0 + 0.01 * o.abs());
        let compared = !(edges && i == 3);
        assert!(!compared || t == o || (t - o).abs() < allowed, "row {i}: NumPy {t}, lwflow {o}");
    }
}

#[test]
fn numpy_program_reproduces_log_prob() {
    let Some(python) = python() else { return };
    let mixture = |covariance| {
        BaseSpec::Mixture(MixtureSpec {
            n_components: 3,
            covariance,
            weight_floor: 0.05,
            ..MixtureSpec::default()
        })
    };
    let spline = Coupling::Spline { n_bins: 6, bound: 2.0 };
    let (hidden, activation) = (vec![7], Activation::Silu);
    let mlp = ContextNetworkSpec::Mlp(MlpSpec { hidden: hidden.clone(), n_features: 3, activation });
    let set = |counted| {
        let (phi, hidden) = (vec![6, 5], hidden.clone());
        let set = SetSpec { element: 2, counted, phi, hidden, n_features: 3, activation };
        Some(ContextNetworkSpec::Set(set))
    };
    for (activation, coupling, base, (context_dim, network), precision) in [
        (Activation::Silu, Coupling::Affine, mixture(Covariance::Full), (2, None), Precision::F32),
        (Activation::Tanh, Coupling::Affine, mixture(Covariance::Diagonal), (0, None), Precision::F16),
        (Activation::Relu, Coupling::Affine, BaseSpec::Gaussian, (4, Some(mlp)), Precision::F32),
        (Activation::Silu, spline, mixture(Covariance::Full), (2, None), Precision::F32),
        (Activation::Tanh, Coupling::Affine, BaseSpec::Gaussian, (6, set(false)), Precision::F32),
        (Activation::Tanh, Coupling::Affine, mixture(Covariance::Full), (7, set(true)), Precision::F32),
    ] {
        let posterior = posterior(activation, coupling, base, context_dim, network);
        compare(&python, program("python"), &posterior, precision, true);
    }
}

/// The short program, for what a fit writes by default.
#[test]
fn short_numpy_program_reproduces_log_prob() {
    let Some(python) = python() else { return };
    let base = BaseSpec::Mixture(MixtureSpec { n_components: 3, ..MixtureSpec::default() });
    let mut posterior = posterior(Activation::Silu, Coupling::Affine, base, 0, None);
    let soft = |value| Some(Bound { value, edge: Edge::Soft });
    for b in &mut posterior.outer.bijections {
        *b = match b.lower {
            None => Bijection::UNBOUNDED,
            Some(_) => Bijection { lower: soft(-1.5), upper: soft(2.5), ..*b },
        };
    }
    assert!(program("py").lines().count() <= 30);
    compare(&python, program("py"), &posterior, Precision::F32, false);
}
