//! Values that make no sense: unknown words, wrong types, numbers out of range, entries that contradict each other.

use super::*;

#[test]
fn unknown_words_list_the_valid_ones() {
    let cases = [
        (
            "flow",
            "activation = \"rellu\"",
            "`flow.activation` is \"rellu\", did you mean `relu`?; valid values: relu, silu, tanh",
        ),
        ("flow", "mixing = \"none\"", "`flow.mixing` is \"none\"; valid values: alternate, permute"),
        (
            "base",
            "kind = \"Gaussian\"",
            "`base.kind` is \"Gaussian\", did you mean `gaussian`?; valid values: gaussian, mixture",
        ),
        ("base", "covariance = \"diag\"", "`base.covariance` is \"diag\"; valid values: full, diagonal"),
        (
            "training",
            "schedule = \"cos\"",
            "`training.schedule` is \"cos\"; valid values: cosine, plateau, constant",
        ),
        (
            "training",
            "control_variate = \"yes\"",
            "`training.control_variate` is \"yes\"; valid values: auto, true, false",
        ),
        (
            "output",
            "precision = \"f64\"",
            "`output.precision` is \"f64\", did you mean `f32`?; valid values: f32, f16",
        ),
        (
            "parameters.a",
            "prior = \"flat\"",
            "`parameters.a.prior` is \"flat\"; valid values: uniform, log_uniform, normal, truncated_normal, \
             lognormal, half_normal, exponential, gamma, beta, student_t",
        ),
        (
            "parameters.a",
            "lower = 0\nlower_edge = \"sof\"",
            "`parameters.a.lower_edge` is \"sof\", did you mean `soft`?; valid values: auto, soft, hard",
        ),
    ];
    for (section, body, expected) in cases {
        let line = 3 + body.lines().count();
        assert_eq!(with(section, body), format!("runs/TASK.toml:{line}: {expected}"));
    }
    let text = message("[likelihood]\ntarget = \"guass3\"\n");
    assert!(
        text.starts_with("runs/TASK.toml:2: `likelihood.target` is \"guass3\", did you mean `gauss3`?"),
        "{text}"
    );
    assert!(text.ends_with(&TARGET_NAMES.join(", ")), "{text}");
    let text = message("[likelihood]\ntarget = \"many_well_17\"\n");
    assert!(text.contains("did you mean `many_well_N`"), "{text}");
    for (name, pairs) in [("many_well", 2), ("many_well_3", 3), ("many_well_16", 16)] {
        let task = parse(&format!("[likelihood]\ntarget = \"{name}\"\n")).unwrap();
        let expected = Likelihood::Target { name: Target::ManyWell(pairs), n_draws: 131_072 };
        assert_eq!(task.likelihood, Some(expected));
    }
    let text = message("[likelihood]\nchain = \"c\"\nformat = \"polycord\"\n");
    let expected = "`likelihood.format` is \"polycord\", did you mean `polychord`?; valid values: getdist, \
                    polychord, multinest, ultranest";
    assert_eq!(text, format!("runs/TASK.toml:3: {expected}"));
}

#[test]
fn wrong_types_are_named() {
    let cases = [
        ("flow", "n_layers = \"8\"", "`flow.n_layers` is the string \"8\", expected a whole number"),
        (
            "flow",
            "hidden = 32",
            "`flow.hidden` is the integer 32, expected a list of whole numbers, such as [32, 32]",
        ),
        ("flow", "hidden = [32, true]", "`flow.hidden` is the boolean true, expected a whole number"),
        ("flow", "s_max = false", "`flow.s_max` is the boolean false, expected a number"),
        ("flow", "activation = 1", "`flow.activation` is the integer 1, expected a text in quotes"),
        ("base", "trainable = 1", "`base.trainable` is the integer 1, expected true or false"),
        (
            "training",
            "control_variate = 1",
            "`training.control_variate` is the integer 1, expected true, false or \"auto\"",
        ),
        ("parameters", "x0 = 1.0", "`parameters.x0` is the float 1.0, expected a section"),
    ];
    for (section, body, expected) in cases {
        assert_eq!(with(section, body), format!("runs/TASK.toml:4: {expected}"));
    }
    assert_eq!(
        message("flow = 3\n[likelihood]\ntarget = \"gauss1\"\n"),
        "runs/TASK.toml:1: `flow` is the integer 3, expected a section"
    );
}

#[test]
fn senseless_numbers_are_refused() {
    let count = "expected a whole number of at least 1";
    let positive = "expected a finite number above 0";
    let open_share = "expected a share: above 0, below 1";
    let cases = [
        ("flow", "n_layers", "-1", "expected a whole number of at least 0"),
        ("flow", "n_layers", "nan", "expected a whole number of at least 0"),
        ("flow", "s_max", "nan", positive),
        ("flow", "s_max", "inf", positive),
        ("flow", "s_max", "0", positive),
        ("flow", "s_max", "21", "expected above 0 and at most 20"),
        ("flow", "n_layers", "1025", "expected at most 1024"),
        ("flow", "hidden", "[32, 100000000]", "expected widths from 1 to 4096"),
        (
            "flow",
            "hidden",
            "[8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8]",
            "expected at most 16 hidden layers",
        ),
        ("base", "n_components", "5000", "expected at most 999"),
        ("base", "max_components", "1000", "expected at most 999"),
        ("base", "n_components", "0", count),
        ("base", "max_components", "2.5", count),
        ("training", "batch_size", "0", count),
        ("training", "batch_size", "-3", count),
        ("training", "batch_size", "1e300", count),
        ("training", "max_visits", "inf", count),
        ("training", "learning_rate", "-1e-3", "expected a number above 0, at most 1"),
        ("training", "learning_rate", "nan", "expected a number above 0, at most 1"),
        ("training", "clip_norm", "-inf", positive),
        ("training", "validation_share", "1.0", open_share),
        ("training", "validation_share", "0", open_share),
        ("training", "patience", "0", count),
        ("output", "n_samples", "-1", "expected a whole number of at least 0"),
        ("parameters.x", "lower", "-inf", "expected a finite number"),
        ("parameters.x", "upper", "nan", "expected a finite number"),
        ("parameters.x", "label", "\"\"", "expected a text that is not empty"),
        ("parameters.x", "truth", "nan", "expected a finite number"),
    ];
    for (section, key, value, expected) in cases {
        assert_eq!(
            with(section, &format!("{key} = {value}")),
            format!("runs/TASK.toml:4: `{section}.{key}` is {value}, {expected}")
        );
    }
    let between = "expected a number between the bounds, on neither";
    for (bounds, truth) in [("lower = 0", "0"), ("upper = 0", "0.5"), ("lower = -2", "-3")] {
        assert_eq!(
            with("parameters.x", &format!("{bounds}\ntruth = {truth}")),
            format!("runs/TASK.toml:5: `parameters.x.truth` is {truth}, {between}")
        );
    }
    assert_eq!(with("flow", "hidden = [32, 0]"), format!("runs/TASK.toml:4: `flow.hidden` is 0, {count}"));
    assert_eq!(
        message("[likelihood]\ntarget = \"gauss1\"\nn_draws = 0\n"),
        format!("runs/TASK.toml:3: `likelihood.n_draws` is 0, {count}")
    );
    assert_eq!(
        message("[likelihood]\nchain = \"c\"\nformat = \"getdist\"\nburn_in = 1.0\n"),
        "runs/TASK.toml:4: `likelihood.burn_in` is 1.0, expected a share: at least 0, below 1"
    );
}

#[test]
fn splines_have_keys_of_their_own() {
    let task =
        parse("[likelihood]\ntarget = \"gauss1\"\n[flow]\ncoupling = \"spline\"\nbound = 4\n").unwrap();
    let spline = lwflow_model::Coupling::Spline { n_bins: 8, bound: 4.0 };
    assert_eq!(task.flow.model_coupling(), spline);
    for (body, expected) in [
        ("n_bins = 1", "`flow.n_bins` is 1, expected a whole number of at least 2"),
        ("n_bins = 65", "`flow.n_bins` is 65, expected 1 to 64"),
        ("bound = -1", "`flow.bound` is -1, expected a finite number above 0"),
        ("bound = 1e9", "`flow.bound` is 1e9, expected at least 0.1 and at most 1000"),
        (
            "s_max = 2.0",
            "`flow.s_max` cannot stand beside coupling = \"spline\": only coupling = \"affine\" has it",
        ),
    ] {
        let text = with("flow", &format!("coupling = \"spline\"\n{body}"));
        assert_eq!(text, format!("runs/TASK.toml:5: {expected}"));
    }
    assert_eq!(
        with("flow", "n_bins = 8"),
        "runs/TASK.toml:4: `flow.n_bins` cannot stand beside coupling = \"affine\": only coupling = \"spline\" has it"
    );
}

#[test]
fn exactly_one_source() {
    let sources = "give exactly one of target, pairs, chain, wgsl, command";
    assert_eq!(message(""), format!("runs/TASK.toml:1: `likelihood` is missing: {sources}"));
    assert_eq!(
        message("\n[likelihood]\n"),
        format!("runs/TASK.toml:2: `likelihood.target` is missing: {sources}")
    );
    let pairs_too = message("[likelihood]\ntarget = \"gauss1\"\npairs = \"a.csv\"\n");
    assert_eq!(
        pairs_too,
        format!("runs/TASK.toml:3: `likelihood.pairs` cannot stand beside `target`: {sources}")
    );
    let chain_too = message("[likelihood]\npairs = \"a.csv\"\nchain = \"c\"\n");
    assert_eq!(
        chain_too,
        format!("runs/TASK.toml:3: `likelihood.chain` cannot stand beside `pairs`: {sources}")
    );
    assert_eq!(
        message("[likelihood]\nchain = \"c\"\n"),
        "runs/TASK.toml:1: `likelihood.format` is missing: \"getdist\", \"polychord\", \"multinest\" or \"ultranest\""
    );
    assert_eq!(
        message("[likelihood]\npairs = \"a.txt\"\n"),
        "runs/TASK.toml:2: `likelihood.pairs` is \"a.txt\", expected a file that ends in .npz, .csv or .parquet"
    );
    assert_eq!(
        message("[likelihood]\npairs = \"a.npz\"\nburn_in = 0.1\n"),
        "runs/TASK.toml:3: `likelihood.burn_in` cannot stand beside `pairs`: only a chain has a burn-in"
    );
    assert_eq!(
        message("[likelihood]\nn_draws = 3\npairs = \"a.npz\"\n"),
        "runs/TASK.toml:2: `likelihood.n_draws` cannot stand beside `pairs`: only a target is drawn from"
    );
    assert_eq!(
        message("[likelihood]\ntarget = \"gauss1\"\nformat = \"getdist\"\n"),
        "runs/TASK.toml:3: `likelihood.format` cannot stand beside `target`: only a chain has a format"
    );
    assert_eq!(
        message("[likelihood]\nchain = \"c\"\nformat = \"polychord\"\nburn_in = 0.3\n"),
        "runs/TASK.toml:4: `likelihood.burn_in` cannot stand beside format = \"polychord\": \
         points of nested sampling are weighted, none is burn-in"
    );
}

#[test]
fn parameters_that_contradict_themselves() {
    assert_eq!(
        with("parameters.x", "lower = 1.0\nupper = 1.0"),
        "runs/TASK.toml:5: `parameters.x.upper` is 1.0, expected a number above `lower`, which is 1"
    );
    assert_eq!(
        with("parameters.x", "upper = 1.0\nlower_edge = \"soft\""),
        "runs/TASK.toml:5: `parameters.x.lower_edge` cannot stand beside a side without bound: \
         there is no edge to treat"
    );
    assert_eq!(
        with("parameters.x", "upper = 1.0\nprior = \"uniform\""),
        "runs/TASK.toml:5: `parameters.x.prior` cannot stand beside an open side: \
         a uniform prior needs both `lower` and `upper`"
    );
    assert_eq!(
        with("parameters", "\"\" = {}"),
        "runs/TASK.toml:4: `parameters` is given a name that is empty, expected sections [parameters.NAME]"
    );
}

#[test]
fn a_gaussian_base_has_no_components() {
    assert_eq!(
        with("base", "kind = \"gaussian\"\nn_components = 3"),
        "runs/TASK.toml:5: `base.n_components` cannot stand beside kind = \"gaussian\": only a mixture has it"
    );
}
