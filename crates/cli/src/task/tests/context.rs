//! Context networks: their keys, their defaults, and where they may not stand.

use super::*;
use lwflow_model::{Activation as ModelActivation, MlpSpec, SetSpec};

const SIMULATOR: &str =
    "[simulator]\nwgsl = \"a.wgsl\"\nn_observed = 9\n[parameters.a]\nprior = \"normal\"\nmean = 0\nsd = 1\n";

fn network(keys: &str) -> ContextNetworkSpec {
    let mut task = parse(&format!("{SIMULATOR}[context_network]\n{keys}\n")).unwrap();
    assert!(task.flow.context_network.is_none(), "only a flow with context has it");
    task.use_context();
    assert_eq!(task.flow.context_network.as_ref(), task.context_network());
    task.flow.context_network.unwrap()
}

#[test]
fn every_key_of_a_network_reaches_its_field() {
    let mlp =
        |hidden, n_features, activation| ContextNetworkSpec::Mlp(MlpSpec { hidden, n_features, activation });
    assert_eq!(network("kind = \"mlp\""), mlp(vec![50, 50], 20, ModelActivation::Silu));
    let keys = "kind = \"mlp\"\nhidden = [7]\nn_features = 3\nactivation = \"tanh\"";
    assert_eq!(network(keys), mlp(vec![7], 3, ModelActivation::Tanh));
    let default = SetSpec {
        element: 1,
        counted: false,
        phi: vec![50, 50, 50],
        hidden: vec![50, 50],
        n_features: 20,
        activation: ModelActivation::Silu,
    };
    assert_eq!(network("kind = \"set\""), ContextNetworkSpec::Set(default.clone()));
    let keys = "kind = \"set\"\nelement = 4\ncounted = true\nphi = [8, 6]\nhidden = []\nn_features = 3";
    let (phi, hidden) = (vec![8, 6], Vec::new());
    let set = SetSpec { element: 4, counted: true, phi, hidden, n_features: 3, ..default };
    assert_eq!(network(keys), ContextNetworkSpec::Set(set));
    let plain = parse(SIMULATOR).unwrap();
    assert!(plain.context_network().is_none());
    assert!(!serde_json::to_string(&plain).unwrap().contains("context_network"));
}

#[test]
fn senseless_networks_are_refused_where_they_stand() {
    for (keys, expected) in [
        ("", ":8: `context_network.kind` is missing: \"mlp\", or \"set\""),
        ("kind = \"sets\"", ":9: `context_network.kind` is \"sets\", did you mean `set`?"),
        ("kind = \"mlp\"\nelement = 3", ":10: `context_network.element` cannot stand beside kind = \"mlp\""),
        (
            "kind = \"set\"\nfi = [3]",
            ":10: unknown key `context_network.fi`, did you mean `context_network.phi`?",
        ),
        ("kind = \"set\"\nelement = 2", ":10: `context_network.element` is 2, expected a divisor of the 9"),
        (
            "kind = \"set\"\nelement = 3\ncounted = true",
            ":10: `context_network.element` is 3, expected a divisor of the 8 context values after the count",
        ),
        ("kind = \"set\"\nphi = []", ":10: `context_network.phi` is [], expected 1 to 17 widths"),
        (
            "kind = \"mlp\"\nhidden = [5000]",
            ":10: `context_network.hidden` is [5000], expected widths from 1 to 4096",
        ),
        ("kind = \"mlp\"\nn_features = 0", ":10: `context_network.n_features` is 0, expected a whole number"),
        (
            "kind = \"mlp\"\nn_features = 5000",
            ":10: `context_network.n_features` is 5000, expected 1 to 4096",
        ),
        (
            "kind = \"set\"\ncounted = 3",
            ":10: `context_network.counted` is the integer 3, expected true or false",
        ),
    ] {
        let error = message(&format!("{SIMULATOR}[context_network]\n{keys}\n"));
        assert!(error.contains(expected), "{keys}: {error}");
    }
    let error =
        message("[likelihood]\nchain = \"c\"\nformat = \"getdist\"\n[context_network]\nkind = \"mlp\"\n");
    assert!(error.contains(":4: `context_network` cannot stand beside `likelihood.chain`"), "{error}");
    // Of pairs it is not known yet how many values there are.
    let pairs =
        "[likelihood]\npairs = \"p.npz\"\n[context_network]\nkind = \"set\"\nelement = 3\ncounted = true\n";
    assert!(parse(pairs).unwrap().context_network().is_some());
}
