//! Priors in the sections of the parameters: every kind, and every way to get one wrong.

use super::*;
use lwflow_host::outer::EdgeChoice;
use lwflow_host::prior::Prior;

/// A task by a command with the parameter a, whose section starts in line 3.
fn asked(body: &str) -> String {
    format!("[likelihood]\ncommand = [\"p\"]\n[parameters.a]\n{body}\n")
}

fn wrong(body: &str) -> String {
    message(&asked(body))
}

#[test]
fn every_kind_has_its_keys() {
    use Marginal::*;
    type Case = (&'static str, Marginal, (Option<f64>, Option<f64>));
    let cases: [Case; 14] = [
        ("\"uniform\"\nlower = -1\nupper = 2", Uniform { lower: -1.0, upper: 2.0 }, (Some(-1.0), Some(2.0))),
        (
            "\"log_uniform\"\nlower = 1e-3\nupper = 2",
            LogUniform { lower: 1e-3, upper: 2.0 },
            (Some(1e-3), Some(2.0)),
        ),
        ("\"normal\"\nmean = 1\nsd = 2", Normal { mean: 1.0, sd: 2.0 }, (None, None)),
        (
            "\"truncated_normal\"\nmean = 1\nsd = 2\nupper = 3",
            TruncatedNormal { mean: 1.0, sd: 2.0, lower: None, upper: Some(3.0) },
            (None, Some(3.0)),
        ),
        (
            "\"truncated_normal\"\nmean = 1\nsd = 2\nlower = 0\nupper = 3",
            TruncatedNormal { mean: 1.0, sd: 2.0, lower: Some(0.0), upper: Some(3.0) },
            (Some(0.0), Some(3.0)),
        ),
        ("\"lognormal\"\nmu = -1\nsigma = 0.5", Lognormal { mu: -1.0, sigma: 0.5 }, (Some(0.0), None)),
        ("\"half_normal\"\nsd = 2", HalfNormal { sd: 2.0 }, (Some(0.0), None)),
        ("\"exponential\"\nscale = 2", Exponential { scale: 2.0 }, (Some(0.0), None)),
        ("\"exponential\"\nrate = 4", Exponential { scale: 0.25 }, (Some(0.0), None)),
        ("\"gamma\"\nshape = 3\nscale = 2", Gamma { shape: 3.0, scale: 2.0 }, (Some(0.0), None)),
        ("\"gamma\"\nshape = 3\nrate = 2", Gamma { shape: 3.0, scale: 0.5 }, (Some(0.0), None)),
        ("\"beta\"\nalpha = 2\nbeta = 0.5", Beta { alpha: 2.0, beta: 0.5 }, (Some(0.0), Some(1.0))),
        (
            "\"student_t\"\ndf = 4\nloc = 1\nscale = 2",
            StudentT { df: 4.0, loc: 1.0, scale: 2.0 },
            (None, None),
        ),
        (
            "\"half_normal\"\nsd = 2\nlower_edge = \"hard\"\nlabel = \"\\\\tau\"",
            HalfNormal { sd: 2.0 },
            (Some(0.0), None),
        ),
    ];
    for (body, marginal, bounds) in cases {
        let task = parse(&asked(&format!("prior = {body}"))).unwrap();
        let a = &task.parameters[0];
        assert_eq!((a.prior, (a.lower, a.upper)), (Some(marginal), bounds), "{body}");
        let prior = prior_of(&task).unwrap();
        assert_eq!(prior.marginals(), [marginal]);
        assert!(!prior.supports()[0].periodic);
        let hard = body.contains("hard");
        assert_eq!(prior.supports()[0].lower_edge == EdgeChoice::Hard, hard);
    }
    let task = parse(&asked("prior = \"uniform\"\nlower = 0\nupper = 3\nperiodic = true")).unwrap();
    assert!(task.parameters[0].periodic);
    assert!(prior_of(&task).unwrap().supports()[0].periodic);
    let text = "[likelihood]\nwgsl = \"a.wgsl\"\n[parameters.a]\nprior = \"normal\"\nmean = 1e9\nsd = 1\noffset = 1e9\n";
    assert_eq!(parse(text).unwrap().parameters[0].offset, Some(1e9));
}

#[test]
fn a_task_without_priors_has_none() {
    let task = parse("[likelihood]\npairs = \"p.csv\"\n[parameters.x]\nlower = 0\n").unwrap();
    let error = prior_of(&task).unwrap_err().to_string();
    assert_eq!(error, "runs/TASK.toml:1: `parameters.x.prior` is missing: every parameter needs a prior");
    let error = prior_of(&parse("[likelihood]\ntarget = \"gauss1\"\n").unwrap()).unwrap_err().to_string();
    assert!(error.starts_with("runs/TASK.toml:1: `parameters` is missing: a section"), "{error}");
}

#[test]
fn missing_numbers_name_what_the_prior_needs() {
    let cases = [
        (
            "log_uniform\"\nlower = 1",
            "prior` cannot stand beside an open side: a log_uniform prior needs `lower` and `upper`",
            4,
        ),
        (
            "uniform\"",
            "prior` cannot stand beside an open side: a uniform prior needs both `lower` and `upper`",
            4,
        ),
        ("normal\"\nmean = 1", "sd` is missing: a normal prior needs `mean` and `sd`", 3),
        ("normal\"\nsd = 1", "mean` is missing: a normal prior needs `mean` and `sd`", 3),
        (
            "truncated_normal\"\nmean = 1\nsd = 1",
            "lower` is missing: a truncated_normal prior needs `mean`, `sd` and `lower` or `upper` or both",
            3,
        ),
        (
            "lognormal\"\nmu = 1",
            "sigma` is missing: a lognormal prior needs `mu` and `sigma`, mean and sd of the logarithm",
            3,
        ),
        ("half_normal\"", "sd` is missing: a half_normal prior needs `sd`, that of the whole normal", 3),
        ("exponential\"", "scale` is missing: an exponential prior needs `scale`, its mean, or `rate`", 3),
        ("gamma\"\nscale = 1", "shape` is missing: a gamma prior needs `shape` and `scale` or `rate`", 3),
        ("gamma\"\nshape = 1", "scale` is missing: a gamma prior needs `shape` and `scale` or `rate`", 3),
        ("beta\"\nalpha = 1", "beta` is missing: a beta prior needs `alpha` and `beta`", 3),
        (
            "student_t\"\nloc = 1\nscale = 1",
            "df` is missing: a student_t prior needs `df`, `loc` and `scale`",
            3,
        ),
    ];
    for (body, expected, line) in cases {
        assert_eq!(
            wrong(&format!("prior = \"{body}")),
            format!("runs/TASK.toml:{line}: `parameters.a.{expected}")
        );
    }
    assert_eq!(
        wrong("prior = \"gamma\"\nshape = 1\nscale = 1\nrate = 1"),
        "runs/TASK.toml:7: `parameters.a.rate` cannot stand beside `scale`: one is the inverse of the other"
    );
}

#[test]
fn keys_of_another_prior_name_the_right_one() {
    let cases = [
        (
            "normal\"\nmean = 0\nsigma = 1",
            6,
            "sigma`, did you mean `parameters.a.sd`?; valid here: prior, mean, sd, label, offset, truth",
        ),
        (
            "normal\"\nmu = 0\nsd = 1",
            5,
            "mu`, did you mean `parameters.a.mean`?; valid here: prior, mean, sd, label, offset, truth",
        ),
        (
            "lognormal\"\nmean = 0\nsd = 1",
            5,
            "mean`, did you mean `parameters.a.mu`?; valid here: prior, mu, sigma, label, lower_edge, offset, truth",
        ),
        (
            "gamma\"\nalpha = 1\nrate = 1",
            5,
            "alpha`, did you mean `parameters.a.shape`?; valid here: prior, shape, scale, rate, label, lower_edge, offset, truth",
        ),
        (
            "student_t\"\nnu = 1",
            5,
            "nu`, did you mean `parameters.a.df`?; valid here: prior, df, loc, scale, label, offset, truth",
        ),
        (
            "normal\"\nmean = 0\nsd = 1\nlower = 0",
            7,
            "lower`; valid here: prior, mean, sd, label, offset, truth",
        ),
        (
            "half_normal\"\nscale = 1",
            5,
            "scale`, did you mean `parameters.a.sd`?; valid here: prior, sd, label, lower_edge, offset, truth",
        ),
        (
            "normal\"\nmeen = 0",
            5,
            "meen`, did you mean `parameters.a.mean`?; valid here: prior, mean, sd, label, offset, truth",
        ),
        (
            "normal\"\npatience = 0",
            5,
            "patience`, did you mean `training.patience`?; valid here: prior, mean, sd, label, offset, truth",
        ),
    ];
    for (body, line, expected) in cases {
        let text = format!("runs/TASK.toml:{line}: unknown key `parameters.a.{expected}");
        assert_eq!(wrong(&format!("prior = \"{body}")), text);
    }
    assert_eq!(
        wrong("lower = 0\nsd = 1"),
        "runs/TASK.toml:5: `parameters.a.prior` is missing: the kind of prior to which the other keys belong"
    );
    assert_eq!(
        wrong("prior = \"nomal\"\nmean = 0\nsd = 1"),
        "runs/TASK.toml:4: `parameters.a.prior` is \"nomal\", did you mean `normal`?; valid values: uniform, \
         log_uniform, normal, truncated_normal, lognormal, half_normal, exponential, gamma, beta, student_t"
    );
}

#[test]
fn numbers_that_make_no_prior_are_refused_at_their_key() {
    let positive = "expected a finite number above 0";
    let shape = "expected a number above 0, at most 1e8";
    let cases = [
        ("normal\"\nmean = 0\nsd = 0", 6, format!("sd` is 0, {positive}")),
        ("normal\"\nmean = nan\nsd = 1", 5, "mean` is nan, expected a finite number".into()),
        ("log_uniform\"\nlower = 0\nupper = 1", 5, format!("lower` is 0, {positive}")),
        ("log_uniform\"\nlower = 2\nupper = 1", 6, "upper` is 1, expected a number above `lower`, which is 2".into()),
        ("lognormal\"\nmu = 0\nsigma = -2", 6, format!("sigma` is -2, {positive}")),
        ("exponential\"\nrate = -1", 5, format!("rate` is -1, {positive}")),
        ("exponential\"\nscale = 0", 5, format!("scale` is 0, {positive}")),
        ("gamma\"\nshape = 0\nrate = 0", 5, format!("shape` is 0, {shape}")),
        ("gamma\"\nshape = 1\nrate = 0", 6, format!("rate` is 0, {positive}")),
        ("beta\"\nalpha = 1\nbeta = -1", 6, format!("beta` is -1, {shape}")),
        ("student_t\"\ndf = 0\nloc = 0\nscale = 1", 5, format!("df` is 0, {shape}")),
        (
            "truncated_normal\"\nmean = 0\nsd = 1\nlower = 50",
            4,
            "prior` is without mass on (50, inf), expected bounds nearer to the mean 0 (sd 1)".into(),
        ),
        (
            "beta\"\nalpha = 1\nbeta = 0.1",
            4,
            "prior` is a density with a share 2.5e-2 of its mass beyond 9.999999999999999e-1, expected at most 1e-6 \
             nearer to a bound, or farther out, than 64-bit numbers resolve"
                .into(),
        ),
    ];
    for (body, line, expected) in cases {
        assert_eq!(
            wrong(&format!("prior = \"{body}")),
            format!("runs/TASK.toml:{line}: `parameters.a.{expected}")
        );
    }
    assert_eq!(
        wrong("prior = \"normal\"\nmean = \"0\"\nsd = 1"),
        "runs/TASK.toml:5: `parameters.a.mean` is the string \"0\", expected a number"
    );
}

#[test]
fn periods_edges_and_offsets_have_their_place() {
    assert_eq!(
        wrong("prior = \"log_uniform\"\nlower = 1\nupper = 2\nperiodic = true"),
        "runs/TASK.toml:7: unknown key `parameters.a.periodic`; valid here: prior, lower, upper, label, lower_edge, \
         upper_edge, offset, truth"
    );
    for source in ["pairs = \"p.csv\"", "chain = \"c\"\nformat = \"getdist\""] {
        for prior in ["", "prior = \"uniform\"\n"] {
            let text = |upper: &str| {
                format!("[likelihood]\n{source}\n[parameters.a]\n{prior}lower = 1\n{upper}periodic = true\n")
            };
            let a = &parse(&text("upper = 2\n")).unwrap().parameters[0];
            assert_eq!((a.periodic, a.lower, a.upper), (true, Some(1.0), Some(2.0)));
        }
    }
    assert_eq!(
        message("[likelihood]\npairs = \"p.csv\"\n[parameters.a]\nlower = 1\nperiodic = true\n"),
        "runs/TASK.toml:5: `parameters.a.periodic` cannot stand beside an open side: `lower` and `upper` are one period \
         apart"
    );
    assert_eq!(
        message(
            "[likelihood]\ntarget = \"gauss1\"\n[parameters.x1]\nlower = -9\nupper = 9\nperiodic = true\n"
        ),
        "runs/TASK.toml:6: `parameters.x1.periodic` cannot stand beside `likelihood.target`: no built-in target has a \
         periodic parameter"
    );
    assert_eq!(
        wrong("prior = \"uniform\"\nlower = 1\nupper = 2\nperiodic = true\nlower_edge = \"soft\""),
        "runs/TASK.toml:8: `parameters.a.lower_edge` cannot stand beside periodic = true: a period has no edge"
    );
    assert_eq!(
        wrong("prior = \"uniform\"\nlower = 1\nupper = 2\noffset = 1"),
        "runs/TASK.toml:7: `parameters.a.offset` cannot stand beside `likelihood.command`: only a function in WGSL is \
         evaluated in 32 bits, which an offset helps"
    );
    assert_eq!(
        wrong("prior = \"uniform\"\nlower = 1\nupper = 2\nperiodic = 1"),
        "runs/TASK.toml:7: `parameters.a.periodic` is the integer 1, expected true or false"
    );
    assert_eq!(
        message("[likelihood]\ntarget = \"gauss1\"\n[parameters.x1]\nprior = \"normal\"\nmean = 0\nsd = 1\n"),
        "runs/TASK.toml:4: `parameters.x1.prior` cannot stand beside `likelihood.target`: a built-in target brings its \
         own prior"
    );
}
