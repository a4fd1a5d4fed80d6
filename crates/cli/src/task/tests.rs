//! Every message of the task file: what was written, and what the reader is told.

mod context;
mod priors;
mod simulators;
mod sources;
mod values;

use super::*;
use lwflow_host::prior::Marginal;
use lwflow_host::targets::Target;

fn parse(text: &str) -> Result<Task, TaskError> {
    Task::parse(text, Path::new("runs/TASK.toml"))
}

fn message(text: &str) -> String {
    match parse(text) {
        Ok(task) => panic!("accepted: {task:?}"),
        Err(error) => error.to_string(),
    }
}

/// A task whose line 3 opens `section` and whose later lines are `body`.
fn with(section: &str, body: &str) -> String {
    message(&format!("[likelihood]\ntarget = \"gauss1\"\n[{section}]\n{body}\n"))
}

#[test]
fn only_the_likelihood_is_needed() {
    let task = parse("[likelihood]\ntarget = \"gauss3\"\n").unwrap();
    assert_eq!(task.likelihood, Some(Likelihood::Target { name: Target::Gauss3, n_draws: 131_072 }));
    assert_eq!(task.flow, FlowSection::default());
    assert_eq!(task.base, BaseSection::default());
    assert_eq!(task.training, TrainingSection::default());
    assert_eq!(task.output, OutputSection::default());
    assert!(task.parameters.is_empty());
}

#[test]
fn every_key_reaches_its_field() {
    let text = r#"
        [likelihood]
        chain = "chains/gd"
        format = "getdist"
        burn_in = 0.2
        [parameters.zeta]
        lower = -1
        upper = 1.5
        label = "\\zeta"
        truth = 0.5
        lower_edge = "soft"
        upper_edge = "hard"
        prior = "uniform"
        [parameters.alpha]
        [flow]
        n_layers = 4
        hidden = [16, 0x10]
        activation = "tanh"
        s_max = 2
        mixing = "alternate"
        [base]
        kind = "mixture"
        n_components = 3
        covariance = "diagonal"
        trainable = false
        [training]
        batch_size = 1_000
        max_visits = 2e6
        learning_rate = 1e-3
        schedule = "plateau"
        clip_norm = 1.0
        validation_share = 0.25
        patience = 7
        averaging = 0.1
        weight_decay = 0.5
        replicas = 4
        control_variate = false
        [output]
        n_samples = 0
        precision = "f16"
        figures = false
    "#;
    let task = parse(text).unwrap();
    let chain =
        Likelihood::Chain { root: "runs/chains/gd".into(), format: ChainFormat::Getdist, burn_in: 0.2 };
    assert_eq!(task.likelihood, Some(chain));
    // The order of the file, not of the alphabet.
    let names: Vec<_> = task.parameters.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(names, ["zeta", "alpha"]);
    let zeta = ParameterSection {
        name: "zeta".into(),
        lower: Some(-1.0),
        upper: Some(1.5),
        label: Some("\\zeta".into()),
        lower_edge: Edge::Soft,
        upper_edge: Edge::Hard,
        prior: Some(Marginal::Uniform { lower: -1.0, upper: 1.5 }),
        periodic: false,
        offset: None,
        truth: Some(0.5),
    };
    assert_eq!(task.parameters[0], zeta);
    let flow = FlowSection {
        n_layers: 4,
        hidden: vec![16, 16],
        activations: vec![Activation::Tanh],
        coupling: Coupling::Affine,
        s_max: 2.0,
        n_bins: 8,
        bound: 5.0,
        mixing: Mixing::Alternate,
        context_network: None,
    };
    assert_eq!(task.flow, flow);
    let base = BaseSection {
        kind: BaseKind::Mixture,
        components: Components::Fixed(3),
        covariance: Covariance::Diagonal,
        trainable: false,
    };
    assert_eq!(task.base, base);
    let training = TrainingSection {
        batch_size: 1000,
        max_visits: 2_000_000,
        learning_rate: 1e-3,
        schedule: Schedule::Plateau,
        clip_norm: 1.0,
        validation_share: 0.25,
        patience: 7,
        control_variate: ControlVariate::Off,
        averaging: 0.1,
        weight_decay: 0.5,
        replicas: 4,
    };
    assert_eq!(task.training, training);
    assert_eq!(task.output, OutputSection { n_samples: 0, precision: Precision::F16, figures: false });
}

#[test]
fn auto_and_its_limit() {
    let components = |body: &str| {
        let text = format!("[likelihood]\ntarget = \"gauss1\"\n[base]\n{body}\n");
        parse(&text).map(|task| task.base.components).map_err(|error| error.to_string())
    };
    assert_eq!(components("n_components = \"auto\"\nmax_components = 5"), Ok(Components::Auto { max: 5 }));
    assert_eq!(components("max_components = 5"), Ok(Components::Auto { max: 5 }));
    assert_eq!(components("n_components = \"auto\""), Ok(BaseSection::default().components));
    assert_eq!(components("n_components = \"trained\""), Ok(Components::Trained { max: 8 }));
    assert_eq!(
        components("n_components = \"trained\"\nmax_components = 5"),
        Ok(Components::Trained { max: 5 })
    );
    assert_eq!(
        components("n_components = 3\nmax_components = 5"),
        Err("runs/TASK.toml:5: `base.max_components` cannot stand beside a given number of components: \
             it limits n_components = \"auto\" and \"trained\" alone"
            .into())
    );
    assert_eq!(
        components("n_components = \"many\""),
        Err("runs/TASK.toml:4: `base.n_components` is the string \"many\", expected a whole number, \"auto\" or \
         \"trained\""
            .into())
    );
}

#[test]
fn replicas_have_a_spread() {
    let replicas = |n: i64| {
        let text = format!("[likelihood]\ntarget = \"gauss1\"\n[training]\nreplicas = {n}\n");
        parse(&text).map(|task| task.training.replicas).map_err(|error| error.to_string())
    };
    assert_eq!((replicas(0), replicas(2), replicas(256)), (Ok(0), Ok(2), Ok(256)));
    for n in [-1, 1, 257] {
        assert!(replicas(n).unwrap_err().contains("training.replicas"), "{n}");
    }
}

#[test]
fn a_missing_file_is_named() {
    let error = Task::read(Path::new("no/such/TASK.toml")).unwrap_err();
    assert!(matches!(error, TaskError::Read { .. }));
    assert!(error.to_string().starts_with("no/such/TASK.toml: cannot read the task file: "), "{error}");
}

#[test]
fn broken_toml_names_the_line() {
    let text = message("[likelihood]\ntarget = \"gauss1\"\n[flow]\nn_layers = = 3\n");
    assert!(text.starts_with("runs/TASK.toml:4: not valid TOML: "), "{text}");
    let text = message("[likelihood]\ntarget = \"gauss1\"\ntarget = \"gauss2\"\n");
    assert!(text.starts_with("runs/TASK.toml:3: not valid TOML: duplicate key"), "{text}");
}

#[test]
fn unknown_keys_name_the_nearest() {
    assert_eq!(
        with("training", "batch_size = 3\nbatchsize = 3"),
        "runs/TASK.toml:5: unknown key `training.batchsize`, did you mean `training.batch_size`?; valid here: \
         batch_size, max_visits, learning_rate, schedule, clip_norm, validation_share, patience, control_variate, \
         averaging, weight_decay, replicas"
    );
    assert_eq!(
        with("trainning", ""),
        "runs/TASK.toml:3: unknown key `trainning`, did you mean `training`?; valid here: \
         likelihood, simulator, parameters, rounds, flow, context_network, base, training, output"
    );
    assert_eq!(
        with("parameters.x0", "lowr = 1.0"),
        "runs/TASK.toml:4: unknown key `parameters.x0.lowr`, did you mean `parameters.x0.lower`?; valid here: \
         lower, upper, label, lower_edge, upper_edge, prior, periodic, offset, truth"
    );
    // A key of another section is told its place.
    assert_eq!(
        with("flow", "patience = 1"),
        "runs/TASK.toml:4: unknown key `flow.patience`, did you mean `training.patience`?; valid here: \
         n_layers, hidden, activation, coupling, s_max, n_bins, bound, mixing"
    );
    assert_eq!(
        with("flow", "label = \"x\""),
        "runs/TASK.toml:4: unknown key `flow.label`, did you mean `parameters.<name>.label`?; valid here: \
         n_layers, hidden, activation, coupling, s_max, n_bins, bound, mixing"
    );
    assert_eq!(
        with("output", "zzz = 1"),
        "runs/TASK.toml:4: unknown key `output.zzz`; valid here: n_samples, precision, figures"
    );
    // The first in the file, not in the alphabet.
    assert!(with("output", "zzz = 1\naaa = 1").contains("output.zzz"));
}

#[test]
fn absolute_paths_stay() {
    let task = parse("[likelihood]\npairs = \"/data/a.npz\"\n").unwrap();
    assert_eq!(task.likelihood, Some(Likelihood::Pairs { path: "/data/a.npz".into() }));
}

#[test]
fn a_task_is_recorded_in_the_words_of_the_file() {
    let task = parse("[likelihood]\ntarget = \"gauss1\"\n").unwrap();
    let record = serde_json::to_value(&task).unwrap();
    assert_eq!(record["training"]["control_variate"], "auto");
    assert_eq!(record["base"]["kind"], "mixture");
    assert_eq!(record["likelihood"]["target"]["name"], "gauss1");
}

#[test]
fn the_examples_parse() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let read = |name: &str| Task::read(&examples.join(name).join("TASK.toml")).unwrap();
    assert!(matches!(read("gauss3").likelihood, Some(Likelihood::Target { name: Target::Gauss3, .. })));
    assert_eq!(read("gauss3").base.components, Components::Auto { max: 8 });
    let pairs = read("pairs");
    assert_eq!(pairs.likelihood, Some(Likelihood::Pairs { path: examples.join("pairs/pairs.npz") }));
    let chain = read("polychord");
    let root = examples.join("polychord/../../tests/data/chains/pc");
    let expected = Likelihood::Chain { root, format: ChainFormat::Polychord, burn_in: 0.0 };
    assert_eq!(chain.likelihood, Some(expected));
    let bounds: Vec<_> = chain.parameters.iter().map(|p| (p.name.as_str(), p.lower, p.upper)).collect();
    let expected = [
        ("x0", None, None),
        ("x1", None, None),
        ("x2", Some(0.0), None),
        ("x3", Some(0.0), Some(1.0)),
        ("x4", Some(2.0), Some(4.0)),
    ];
    assert_eq!(bounds, expected);
    let asked = read("command");
    assert!(matches!(&asked.likelihood, Some(Likelihood::Command { settings, .. }) if settings.workers == 2));
    assert_eq!(asked.rounds.as_ref().map(|r| r.max_evaluations), Some(200_000));
    let supports = lwflow_host::prior::Prior::supports(&prior_of(&asked).unwrap());
    assert!(supports[3].periodic && supports[3].upper == Some(std::f64::consts::TAU));
}
