//! Context networks: what a set's features do not depend on, and specifications and counts that are none.

#![allow(clippy::unwrap_used, clippy::panic)]

use approx::assert_relative_eq;
use lwflow_model::*;

fn spec(network: ContextNetworkSpec, context_dim: usize) -> Result<FlowSpec, ModelError> {
    let settings = FlowSettings {
        n_layers: 2,
        hidden: vec![5],
        context_network: Some(network),
        ..FlowSettings::default()
    };
    FlowSpec::build(2, context_dim, &settings, BaseSpec::Gaussian, 1)
}

/// Sets of elements of two values.
fn set(counted: bool) -> SetSpec {
    let (phi, hidden, activation) = (vec![6, 5], vec![4], Activation::Silu);
    SetSpec { element: 2, counted, phi, hidden, n_features: 3, activation }
}

fn flow(counted: bool, context_dim: usize) -> Flow<f64> {
    let mut flow = Flow::init(spec(ContextNetworkSpec::Set(set(counted)), context_dim).unwrap(), 4).unwrap();
    flow.params_mut().iter_mut().enumerate().for_each(|(i, p)| *p += 0.3 * (1.7 * i as f64).sin());
    flow
}

#[test]
fn order_and_padding_change_nothing() {
    let flow = flow(true, 9);
    let theta = [0.3, -0.8];
    let [a, b, c] = [[0.5, -1.0], [1.5, 0.2], [-0.7, 2.0]];
    let row = |count: f64, elements: [[f64; 2]; 4]| [&[count], elements.as_flattened()].concat();
    let log_prob = |row: &[f64]| flow.log_prob(&theta, row).unwrap()[0];
    let three = log_prob(&row(3.0, [a, b, c, [0.0; 2]]));
    for other in [[b, c, a, [0.0; 2]], [c, b, a, [9.0, -1e30]], [a, b, c, [1.0, 1.0]]] {
        assert_relative_eq!(log_prob(&row(3.0, other)), three, max_relative = 1e-12);
    }
    // What is present does count, and so does how many there are.
    let others =
        [row(3.0, [a, b, b, c]), row(2.0, [a, b, c, c]), row(4.0, [a, b, c, c]), row(0.0, [a, b, c, c])];
    assert!(others.iter().all(|other| (log_prob(other) - three).abs() > 1e-6));
    let [once, twice] = [row(1.0, [a; 4]), row(2.0, [a; 4])];
    assert!((log_prob(&once) - log_prob(&twice)).abs() > 1e-6, "equal means, other numbers");
    assert_eq!(log_prob(&row(0.0, [a, b, c, a])), log_prob(&row(0.0, [c; 4])));
    // The gradient of what is absent, and of the count, is zero.
    let gradient = flow.gradient(&theta, &row(3.0, [a, b, c, [1.0; 2]]), &[1.0], None).unwrap().context;
    assert!(gradient[0] == 0.0 && gradient[1..7].iter().all(|&g| g != 0.0) && gradient[7..] == [0.0; 2]);
}

#[test]
fn counts_that_are_none_name_their_row() {
    let flow = flow(true, 5);
    for count in [-1.0, 0.5, 3.0, f64::NAN, f64::INFINITY] {
        let context = [1.0, 0.1, 0.2, 0.0, 0.0, count, 0.0, 0.0, 0.0, 0.0];
        let error = flow.log_prob(&[0.1; 4], &context).unwrap_err().to_string();
        let words = "expected a whole number from 0 to 2";
        assert_eq!(error, format!("context, row 1: the number of elements is {count}, {words}"));
    }
    assert!(flow.features(&[1.0; 6]).is_err());
}

#[test]
fn nonsense_is_refused() {
    let refuse = |network: ContextNetworkSpec, context_dim: usize, words: &str| {
        let text = spec(network, context_dim).unwrap_err().to_string();
        assert!(text.contains(words), "{text}");
    };
    let of_set = |change: &dyn Fn(&mut SetSpec), context_dim: usize, words: &str| {
        let mut network = set(true);
        change(&mut network);
        refuse(ContextNetworkSpec::Set(network), context_dim, words);
    };
    let of_mlp = |hidden: Vec<usize>, n_features: usize, words: &str| {
        let network = MlpSpec { hidden, n_features, activation: Activation::Relu };
        refuse(ContextNetworkSpec::Mlp(network), 3, words);
    };
    of_set(&|_| (), 0, "context_network is there, expected none: the flow has no context");
    of_set(
        &|_| (),
        4,
        "context_network.element is 2, expected a divisor of the 3 context values after the count",
    );
    of_set(&|_| (), 1, "divisor of the 0 context values");
    of_set(&|s| s.counted = false, 5, "divisor of the 5 context values");
    of_set(&|s| s.element = 0, 5, "context_network.element is 0");
    of_set(&|s| s.element = usize::MAX, 5, "context_network.element is");
    of_set(&|s| s.phi = Vec::new(), 5, "context_network.phi is 0 widths, expected 1 to 17 widths");
    of_set(&|s| s.phi = vec![usize::MAX], 5, "context_network.phi is");
    of_set(&|s| s.phi = vec![4; 100], 5, "context_network.phi is 100 widths");
    of_set(&|s| s.n_features = 0, 5, "context_network.n_features is 0");
    of_mlp(vec![0], 3, "context_network.hidden is 0, expected widths from 1 to 4096");
    of_mlp(vec![4097], 3, "context_network.hidden is 4097");
    of_mlp(vec![4; 17], 3, "context_network.hidden is 17 widths");
    of_mlp(vec![], 4097, "context_network.n_features is 4097");
}

/// Parameters of the network stand between the layers and the base, and a flow without one is written as before.
#[test]
fn the_layout_has_the_network_before_the_base() {
    let flow = flow(true, 5);
    let layout = flow.layout();
    assert_eq!(layout.network, layout.block("context/phi/linear0/weight").unwrap().offset..layout.base);
    let shapes: Vec<(&str, Vec<usize>)> =
        layout.blocks[8..].iter().map(|b| (&b.name[..], b.shape.clone())).collect();
    assert_eq!(shapes[0], ("context/phi/linear0/weight", vec![6, 2]));
    assert_eq!(shapes[2], ("context/phi/linear1/weight", vec![5, 6]));
    assert_eq!(shapes[4], ("context/rho/linear0/weight", vec![4, 6]));
    assert_eq!(shapes[6], ("context/rho/linear1/weight", vec![3, 4]));
    assert_eq!(flow.spec().n_features(), 3);
    let behind = ParamLayout::new(&flow.spec().of_features());
    assert_eq!((behind.len, behind.network.len()), (layout.len - layout.network.len(), 0));
    let plain = FlowSpec::build(2, 5, &FlowSettings::default(), BaseSpec::Gaussian, 1).unwrap();
    assert!(!serde_json::to_string(&plain).unwrap().contains("context_network"));
    assert!(!serde_json::to_string(&FlowSettings::default()).unwrap().contains("context_network"));
}
