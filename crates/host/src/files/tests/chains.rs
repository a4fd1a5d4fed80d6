//! Chains against the exactly known target of the test data (tests/data/chains): x0 and x1 zero-mean Gaussians of sd 0.1
//! and correlation 0.9, x2 exponential of mean 0.1, x3 uniform on (0, 1), x4 on (2, 4) with density 1/2 + (x4 - 3)/2.
//! The nested run's prior is uniform on (-1, 1)^2 x (0, 1)^2 x (2, 4) and its likelihood is that density: log Z = -log 8.

use approx::assert_relative_eq;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::super::{
    ChainFormat, ChainSamples, ChainSettings, FileError, WeightKind, WeightedPairs, autocorrelation_ess,
    nested_weights, read_chains,
};
use super::{chain_data, folder, put};

/// Means and standard deviations of the target.
const MEAN: [f64; 5] = [0.0, 0.0, 0.1, 0.5, 10.0 / 3.0];
const SD: [f64; 5] = [0.1, 0.1, 0.1, 0.288_675_134_594_812_9, 0.471_404_520_791_031_7];

fn read(name: &str, burn_in: f64) -> ChainSamples {
    read_chains(&chain_data(name), &ChainSettings { parameters: None, burn_in }).unwrap()
}

fn weighted(pairs: &WeightedPairs, value: impl Fn(&[f64]) -> f64) -> f64 {
    pairs.weights().iter().zip(pairs.theta.chunks_exact(pairs.dim)).map(|(w, theta)| w * value(theta)).sum()
}

/// Means within 4 standard errors, standard deviations and the correlation within as much as `ess` draws allow.
fn check_target(pairs: &WeightedPairs, ess: f64) {
    for j in 0..5 {
        let mean = weighted(pairs, |t| t[j]);
        let sd = weighted(pairs, |t| (t[j] - mean).powi(2)).sqrt();
        assert!((mean - MEAN[j]).abs() < 4.0 * SD[j] / ess.sqrt(), "x{j}: mean {mean}, truth {}", MEAN[j]);
        // The variance of a sample variance is (kurtosis - 1) sd^4 / n; the exponential's kurtosis of 9 is the largest.
        let kurtosis: f64 = if j == 2 { 9.0 } else { 3.0 };
        let sd_error = SD[j] * ((kurtosis - 1.0) / 4.0 / ess).sqrt();
        assert!((sd - SD[j]).abs() < 4.0 * sd_error, "x{j}: sd {sd}, truth {}", SD[j]);
    }
    let correlation = weighted(pairs, |t| t[0] * t[1]) / 0.01;
    assert!((correlation - 0.9).abs() < 4.0 * (1.81 / ess).sqrt(), "correlation {correlation}");
}

#[test]
fn getdist_chains_give_the_target() {
    let chains = read("gd", 0.1);
    let (pairs, report) = (&chains.pairs, &chains.report);
    assert_eq!((report.format, pairs.kind), (ChainFormat::GetDist, WeightKind::Chain));
    assert_eq!(pairs.names, ["x0", "x1", "x2", "x3", "x4"]);
    assert_eq!((pairs.n, report.chains.len()), (9000, 2));
    assert_eq!((report.chains[0].n_read, report.chains[0].n_burn_in), (5000, 500));
    assert_eq!(pairs.log_z(), None);
    let ess = report.autocorrelation_ess.unwrap();
    // Steps of 0.1 across the range of 2 of x4: far fewer independent draws than Kish sees. Batch means give 130 to 160.
    let weights: Vec<f64> = pairs.log_weights.iter().map(|lw| lw.exp()).collect();
    let kish = weights.iter().sum::<f64>().powi(2) / weights.iter().map(|w| w * w).sum::<f64>();
    assert_relative_eq!(report.kish_ess, kish, max_relative = 1e-9);
    assert_relative_eq!(report.kish_ess, 3908.39, max_relative = 1e-5);
    assert!(ess > 60.0 && ess < 0.1 * report.kish_ess, "{report:?}");
    for chain in &report.chains {
        assert!(chain.autocorrelation_ess.unwrap() <= ess, "{chain:?}");
        assert!(chain.slowest_parameter.is_some());
    }
    check_target(pairs, ess);
    // Rows of different blocks must hardly depend on each other: no block is shorter than an autocorrelation time.
    let blocks = chains.blocks.as_ref().unwrap();
    let n_blocks = *blocks.last().unwrap() as usize + 1;
    assert!(blocks.len() == pairs.n && blocks.is_sorted(), "{n_blocks} blocks");
    assert!((8..=(ess as usize) / 2).contains(&n_blocks), "{n_blocks} blocks for an ESS of {ess}");
    assert_ne!(blocks[4499], blocks[4500], "a block crosses from one chain to the next");
}

#[test]
fn one_named_chain_is_read_alone_and_parameters_can_be_chosen() {
    let settings = ChainSettings { parameters: Some(vec!["x4".to_owned(), "x0".to_owned()]), burn_in: 0.0 };
    let one = read_chains(&chain_data("gd_2.txt"), &settings).unwrap();
    assert_eq!((one.report.files.len(), one.pairs.n, one.pairs.dim), (1, 5000, 2));
    assert_eq!(one.pairs.names, ["x4", "x0"]);
    assert_eq!(one.pairs.theta[..2], [3.186224718005696, -0.12101389631259263]);
    assert_eq!(one.pairs.log_weights[0], 7.0_f64.ln());
}

#[test]
fn the_nested_run_gives_the_target_and_its_evidence() {
    let chains = read("pc", 0.0);
    let (pairs, report) = (&chains.pairs, &chains.report);
    assert_eq!((report.format, pairs.kind), (ChainFormat::DeadBirth, WeightKind::NestedSampling));
    let nested = report.nested.as_ref().unwrap();
    assert_eq!((nested.n_dead, nested.n_live, nested.n_dropped, nested.n_live_largest), (1375, 125, 0, 125));
    assert_eq!(pairs.n, 1500);
    let log_z = pairs.log_z().unwrap();
    let truth = -(8.0_f64.ln());
    // Information: log 8 less the target's entropy; Skilling's error is sqrt(information / live points).
    let gaussian = (2.0 * std::f64::consts::PI * std::f64::consts::E * 0.01 * 0.19_f64.sqrt()).ln();
    let information = 8.0_f64.ln() - (gaussian + (1.0 + 0.1_f64.ln()) + 0.5);
    let skilling = (information / 125.0).sqrt();
    assert!((log_z.log_z - truth).abs() < 3.0 * log_z.sd, "{log_z:?}, truth {truth}");
    assert!((log_z.sd / skilling - 1.0).abs() < 0.1, "{log_z:?}, Skilling {skilling}");
    assert!((nested.information - information).abs() < 3.0 * skilling, "{nested:?}, {information}");
    assert!(report.kish_ess > 300.0 && report.kish_ess < 1500.0, "{}", report.kish_ess);
    check_target(pairs, report.kish_ess);
    // Naming any of the files comes to the same.
    let same = read("pc_phys_live-birth.txt", 0.0);
    assert_eq!(same.pairs.log_weights, pairs.log_weights);
}

#[test]
fn live_points_carry_the_last_part_of_the_run() {
    let folder = folder();
    let dead = std::fs::read(chain_data("pc_dead-birth.txt")).unwrap();
    put(&folder, "pc_dead-birth.txt", &dead);
    put(&folder, "pc_phys_live-birth.txt", "");
    let without = read_chains(&folder.path().join("pc"), &ChainSettings::default()).unwrap();
    let with = read("pc", 0.0);
    assert_eq!(without.pairs.n, 1375);
    assert_eq!(without.pairs.names, ["p1", "p2", "p3", "p4", "p5"]);
    assert!(without.pairs.notes.iter().any(|n| n.contains("no live points")), "{:?}", without.pairs.notes);
    assert!(without.pairs.log_z().unwrap().log_z < with.pairs.log_z().unwrap().log_z);
}

#[test]
fn counts_of_live_points_follow_births_and_deaths() {
    let inf = f64::NEG_INFINITY;
    // Two draws of the prior; each death but the last is followed by a birth at its contour.
    let nested = nested_weights(&[4.0, 1.0, 2.0, 3.0], &[2.0, inf, inf, 1.0]).unwrap();
    assert_eq!(nested.order, [1, 2, 3, 0]);
    assert_eq!(nested.n_live, [2, 2, 2, 1]);
    assert_relative_eq!(nested.log_x[..], [-0.5, -1.0, -1.5, -2.5], epsilon = 1e-15);
    let x = |v: f64| v.exp();
    let z = [
        (x(0.0) - x(-1.0)) / 2.0 * x(1.0),
        (x(-0.5) - x(-1.5)) / 2.0 * x(2.0),
        (x(-1.0) - x(-2.5)) / 2.0 * x(3.0),
        x(-1.5) / 2.0 * x(4.0),
    ];
    assert_relative_eq!(nested.log_z.log_z, z.iter().sum::<f64>().ln(), epsilon = 1e-12);
    assert_relative_eq!(nested.log_weights[0], z[3].ln(), epsilon = 1e-12);
    // A plateau dies one by one; a point born at its level is not yet alive there.
    let tied = nested_weights(&[1.0, 1.0, 1.0, 5.0], &[inf, inf, inf, 1.0]).unwrap();
    assert_eq!(tied.n_live, [3, 2, 1, 1]);
    for (l, b) in [(&[1.0][..], &[1.0][..]), (&[f64::NAN], &[inf]), (&[], &[]), (&[1.0, 2.0], &[inf])] {
        assert!(nested_weights(l, b).is_err());
    }
}

/// The closed form of the error against volumes drawn at random, X_i = X_{i-1} u^(1/n_i).
#[test]
fn the_error_of_the_evidence_is_that_of_random_volumes() {
    let chains = read("pc", 0.0);
    let log_l = chains.pairs.log_likelihood.as_ref().unwrap();
    let mut birth = Vec::new();
    for name in ["pc_dead-birth.txt", "pc_phys_live-birth.txt"] {
        let text = std::fs::read_to_string(chain_data(name)).unwrap();
        birth.extend(text.lines().map(|l| l.split_whitespace().last().unwrap().parse::<f64>().unwrap()));
    }
    let nested = nested_weights(log_l, &birth).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let draws: Vec<f64> = (0..400)
        .map(|_| {
            let (mut x, mut z) = (1.0_f64, 0.0);
            for (row, live) in nested.order.iter().zip(&nested.n_live) {
                let inner = x * uniform(&mut rng).powf(1.0 / *live as f64);
                z += log_l[*row].exp() * (x - inner);
                x = inner;
            }
            z.ln()
        })
        .collect();
    let mean = draws.iter().sum::<f64>() / 400.0;
    let sd = (draws.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / 399.0).sqrt();
    assert!((mean - nested.log_z.log_z).abs() < 4.0 * sd / 20.0 + 0.02, "{mean}, {:?}", nested.log_z);
    assert!((sd / nested.log_z.sd - 1.0).abs() < 4.0 / 800.0_f64.sqrt(), "{sd}, {:?}", nested.log_z);
}

fn uniform(rng: &mut impl Rng) -> f64 {
    1.0 - rng.random::<f64>()
}

/// x' = a x + noise has (1 - a)/(1 + a) independent draws per row; rows repeated by weight change nothing.
#[test]
fn autocorrelation_of_an_autoregressive_chain_is_found() {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let mut normal =
        || (-2.0 * uniform(&mut rng).ln()).sqrt() * (std::f64::consts::TAU * uniform(&mut rng)).cos();
    for (n, a, tolerance) in [(20_000, 0.9_f64, 0.25), (20_000, 0.0, 0.1), (200_000, 0.97, 0.25)] {
        let mut x = 0.0;
        let chain: Vec<f64> = (0..n)
            .map(|_| {
                x = a * x + (1.0 - a * a).sqrt() * normal();
                x
            })
            .collect();
        let expected = n as f64 * (1.0 - a) / (1.0 + a);
        let ess = autocorrelation_ess(&chain, 1, &vec![1.0; n])[0].unwrap();
        assert!((ess / expected - 1.0).abs() < tolerance, "a = {a}: {ess}, expected {expected}");
        let tripled = autocorrelation_ess(&chain, 1, &vec![3.0; n])[0].unwrap();
        assert_relative_eq!(tripled, ess, max_relative = 1e-9);
    }
    // Independent rows of unequal weight: Kish's figure.
    let theta: Vec<f64> = (0..20_000).map(|_| normal()).collect();
    let weights: Vec<f64> = (0..20_000).map(|i| f64::from(1 + i % 4)).collect();
    let kish = weights.iter().sum::<f64>().powi(2) / weights.iter().map(|w| w * w).sum::<f64>();
    let ess = autocorrelation_ess(&theta, 1, &weights)[0].unwrap();
    assert!((ess / kish - 1.0).abs() < 0.1, "{ess}, Kish {kish}");
    assert_eq!(autocorrelation_ess(&[2.0; 50], 1, &[1.0; 50]), [None]);
    assert_eq!(autocorrelation_ess(&[1.0, 2.0], 1, &[1.0; 2]), [None]);
}

#[test]
fn a_nested_run_that_misses_points_is_refused() {
    let dead = std::fs::read_to_string(chain_data("pc_dead-birth.txt")).unwrap();
    let live = std::fs::read(chain_data("pc_phys_live-birth.txt")).unwrap();
    let read = |lines: &mut dyn Iterator<Item = &str>| {
        let folder = folder();
        put(&folder, "pc_dead-birth.txt", lines.collect::<Vec<_>>().join("\n") + "\n");
        put(&folder, "pc_phys_live-birth.txt", &live);
        read_chains(&folder.path().join("pc"), &ChainSettings::default())
    };
    assert!(read(&mut dead.lines()).is_ok());
    let error = read(&mut dead.lines().take(700)).unwrap_err().to_string();
    for words in ["pc_phys_live-birth.txt", "row 0 (line 1)", "birth log L 4.925", "points are missing"] {
        assert!(error.contains(words), "`{words}` is missing in: {error}");
    }
    assert!(read(&mut dead.lines().enumerate().filter(|(i, _)| i % 2 == 0).map(|(_, l)| l)).is_err());
}

#[test]
fn chain_names_headers_and_derived_parameters() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    put(&folder, "run.1.txt", "# weight minuslogpost a b chi2__x\n1 2 3 4 5\n2 3 4 5 6\n");
    put(&folder, "run.10.txt", "1 2 30 40 50\n");
    put(&folder, "run.2.txt", "1 2 0.3D+01 4 5\n");
    let run = read_chains(&at("run"), &ChainSettings::default()).unwrap();
    assert_eq!(run.pairs.names, ["a", "b"]);
    assert_eq!(run.pairs.theta, [3.0, 4.0, 4.0, 5.0, 3.0, 4.0, 30.0, 40.0]);
    assert!(run.pairs.notes.iter().any(|n| n.contains("chi2__x")), "{:?}", run.pairs.notes);
    put(&folder, "run.paramnames", "m \\Omega_m h^2\t# density\ns*\t$!sigma$\n\nchi2*\n");
    let run = read_chains(&at("run"), &ChainSettings::default()).unwrap();
    assert_eq!(
        (&run.pairs.names[..], &run.pairs.labels[..]),
        (&["m".into()][..], &["\\Omega_m h^2".into()][..])
    );
    let all = Some(vec!["s".to_owned(), "m".to_owned()]);
    let run = read_chains(&at("run"), &ChainSettings { parameters: all, burn_in: 0.0 }).unwrap();
    assert_eq!(run.pairs.theta[..2], [4.0, 3.0]);
    assert_eq!(run.pairs.labels, ["\\sigma", "\\Omega_m h^2"]);
    let derived = Some(vec!["chi2".to_owned()]);
    let run = read_chains(&at("run"), &ChainSettings { parameters: derived, burn_in: 0.0 }).unwrap();
    assert_eq!(run.pairs.labels, ["chi2"]);
    assert!(run.pairs.notes.iter().any(|n| n == "not asked for and left out: m"), "{:?}", run.pairs.notes);
    put(&folder, "single.txt", "1 2 3\n");
    assert_eq!(read_chains(&at("single"), &ChainSettings::default()).unwrap().pairs.names, ["p1"]);
}

#[test]
fn zero_likelihood_and_rounding_are_left_out_and_said() {
    let folder = folder();
    let mut text =
        String::from("0.5 -1e30 -1e30\n0.6 -inf -inf\n0.1 -1.0000000000000000E+00 -0.1000000000000000E+31\n");
    for i in 0..20 {
        text.push_str(&format!("0.2 {} {}\n", i, i - 1));
    }
    text.push_str("0.2 5 5\n");
    put(&folder, "ns_dead-birth.txt", text);
    let ns = read_chains(&folder.path().join("ns"), &ChainSettings::default()).unwrap();
    assert_eq!((ns.pairs.n, ns.report.nested.unwrap().n_dropped), (21, 3));
    assert!(ns.pairs.notes.iter().any(|n| n.contains("2 points of zero likelihood")), "{:?}", ns.pairs.notes);
    assert!(ns.pairs.notes.iter().any(|n| n.contains("1 of 24 points")), "{:?}", ns.pairs.notes);
}

#[test]
fn broken_chains_are_refused_with_their_place() {
    let folder = folder();
    let refuse = |text: &str| {
        let path = put(&folder, "c.txt", text);
        read_chains(&path, &ChainSettings::default()).unwrap_err()
    };
    let has = |error: FileError, words: &[&str]| {
        let text = error.to_string();
        words.iter().for_each(|word| assert!(text.contains(word), "`{word}` is missing in: {text}"));
    };
    has(refuse("1 2 3 4\n\n1 nan 3 4\n"), &["c.txt", "row 1", "(line 3)", "-log L", "[3, 4]"]);
    has(refuse("1 2 3\n-1 2 3\n"), &["row 1", "weight", "-1"]);
    has(refuse("1 2 3\n1 2 inf\n"), &["row 1", "theta[0] (p1)"]);
    has(refuse("1 2 3\n1 2\n"), &["line 2", "2 columns", "cut-off"]);
    has(refuse("1 2 3\n1 x 3\n"), &["line 2", "`x`", "column 1"]);
    has(refuse("1 2\n"), &["at least 3"]);
    has(refuse("# nothing\n"), &["no rows"]);
    has(refuse("0 2 3\n"), &["weight zero"]);
    let at = |name: &str| folder.path().join(name);
    let read = |name: &str| read_chains(&at(name), &ChainSettings::default()).unwrap_err();
    has(read("none"), &["no chain found", "none_1.txt"]);
    put(&folder, "w_1.txt", "1 2 3\n");
    put(&folder, "w_2.txt", "1 2 3 4\n");
    has(read("w"), &["w_2.txt", "4 columns", "3 as in"]);
    put(&folder, "w.paramnames", "a\nb\n");
    has(read("w"), &["w.paramnames", "[2]", "1 names"]);
    put(&folder, "s_dead-birth.txt", "-inf 1 0.1\n1 2 0.1\n");
    has(read("s"), &["s_dead-birth.txt", "row 0", "theta[0] (p1)"]);
    put(&folder, "s_dead-birth.txt", "3 1 0.1\n1 0.3 0.6\n");
    has(read("s"), &["not above their birth contour", "expected the columns"]);
    put(&folder, "s_dead-birth.txt", "3 nan 0.1\n");
    has(read("s"), &["row 0", "log L", "NaN"]);
    let burnt = ChainSettings { parameters: None, burn_in: 0.3 };
    put(&folder, "s_dead-birth.txt", "3 1 -inf\n");
    assert!(matches!(read_chains(&at("s"), &burnt), Err(FileError::BadSetting { .. })));
    let one = ChainSettings { parameters: None, burn_in: 1.0 };
    assert!(matches!(read_chains(&chain_data("gd"), &one), Err(FileError::BadSetting { .. })));
    let unknown = ChainSettings { parameters: Some(vec!["x9".to_owned()]), burn_in: 0.0 };
    has(read_chains(&chain_data("gd"), &unknown).unwrap_err(), &["`x9`", "`x0`"]);
}
