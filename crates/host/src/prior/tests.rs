//! Marginals against numbers of 40 digits, against their own densities, and at the ends of the unit interval.
#![allow(clippy::excessive_precision, reason = "reference values are given with all their digits")]

use super::*;
use crate::outer::EdgeChoice;
use proptest::prelude::*;

/// The u of the reference quantiles.
const US: [f64; 4] = [1e-12, 0.001, 0.3, 1.0 - 1.0 / (1u64 << 30) as f64];

/// One of each kind, and shapes that are hard to invert.
fn cases() -> Vec<Marginal> {
    use Marginal::*;
    let cut = |lower, upper| TruncatedNormal { mean: 1.0, sd: 0.5, lower, upper };
    let mut cases = vec![
        Uniform { lower: -2.0, upper: 3.0 },
        LogUniform { lower: 1e-8, upper: 1e3 },
        Normal { mean: 5.0, sd: 0.1 },
        cut(Some(0.0), None),
        cut(None, Some(0.9)),
        cut(Some(-0.5), Some(1.5)),
        cut(Some(8.0), None),
        cut(None, Some(-12.0)),
        cut(Some(1.3), Some(1.3 + 1e-6)),
        Lognormal { mu: -1.0, sigma: 2.0 },
        HalfNormal { sd: 3.0 },
        Exponential { scale: 0.2 },
        StudentT { df: 0.5, loc: 0.0, scale: 1.0 },
        StudentT { df: 1.0, loc: -3.0, scale: 2.0 },
        StudentT { df: 4.0, loc: 0.0, scale: 1.0 },
        StudentT { df: 1e6, loc: 1.0, scale: 1e-3 },
    ];
    cases.extend([0.1, 0.6, 1.0, 1.5, 12.0, 4e5].map(|shape| Gamma { shape, scale: 2.0 }));
    let pairs = [(0.5, 0.5), (1.0, 1.0), (0.5, 3.0), (2.0, 0.9), (3.0, 7.0), (1e5, 20.0), (40.0, 3e4)];
    cases.extend(pairs.map(|(alpha, beta)| Beta { alpha, beta }));
    cases
}

#[track_caller]
fn close(got: f64, expected: f64, relative: f64, what: &str) {
    assert!((got / expected - 1.0).abs() <= relative, "{what}: {got:e}, expected {expected:e}");
}

#[test]
fn quantiles_are_those_of_a_calculation_in_40_digits() {
    use Marginal::*;
    let cut = |lower, upper| TruncatedNormal { mean: 0.0, sd: 1.0, lower: Some(lower), upper };
    let student = |df| StudentT { df, loc: 0.0, scale: 1.0 };
    let table: [(Marginal, [f64; 4]); 14] = [
        (
            Normal { mean: 0.0, sd: 1.0 },
            [-7.0344838253011319326, -3.0902323061678135354, -0.52440051270804081597, 6.0093535655307438932],
        ),
        (
            Gamma { shape: 0.5, scale: 1.0 },
            [
                7.8539816339744827802e-25,
                7.8539857463124497236e-7,
                0.074235930916272719042,
                18.731828756132513437,
            ],
        ),
        (
            Gamma { shape: 2.5, scale: 1.0 },
            [0.00002562321748415267946, 0.10510630131460958283, 1.499954066379953105, 25.42153213350287323],
        ),
        (
            Gamma { shape: 300.0, scale: 1.0 },
            [193.80847799095295273, 249.31143677349469307, 290.68116242321795211, 416.05328177911686383],
        ),
        (
            Beta { alpha: 0.5, beta: 0.5 },
            [
                2.4674011002723395555e-24,
                2.4673990709169441803e-6,
                0.20610737385376342131,
                0.99999999999999999786,
            ],
        ),
        (
            Beta { alpha: 2.5, beta: 0.75 },
            [
                0.000019115161104447490103,
                0.075675861422632365307,
                0.69247947929989680954,
                0.99999999999965889321,
            ],
        ),
        (
            Beta { alpha: 400.0, beta: 30.0 },
            [0.81262989017489727751, 0.88672371824661506679, 0.92430222377479874827, 0.98155363658837632289],
        ),
        (
            student(1.5),
            [-52194694.273446354602, -52.184430008992646936, -0.65179548260235709647, 547301.03742375411822],
        ),
        (
            student(4.0),
            [-1316.0727465592565424, -7.1731822197823084392, -0.56864906304970548011, 238.22784796023906991],
        ),
        (
            student(200.0),
            [-7.5032476570726835205, -3.1314798142211214702, -0.5252373340155534901, 6.2995762078690467929],
        ),
        (
            cut(3.0, None),
            [3.0000000000003045903, 3.0003047295511359513, 3.1070166966371420544, 7.0024982083360238848],
        ),
        (
            cut(-1.0, Some(2.0)),
            [
                -0.99999999999661696837,
                -0.99662267153484038343,
                -0.24240381788922682623,
                1.9999999858795705641,
            ],
        ),
        (
            cut(30.0, Some(31.0)),
            [30.000000000000033296, 30.000033313059934045, 30.011873653870603781, 30.684583823415840638],
        ),
        (
            cut(2.0, Some(2.00000095367431640625)),
            [2.000000000000000001, 2.0000000009536734078, 2.000000286102103928, 2.0000009536743155181],
        ),
    ];
    for (marginal, expected) in table {
        for (u, x) in US.into_iter().zip(expected) {
            close(marginal.quantile(u), x, 2e-13, &format!("{marginal:?} at {u:e}"));
        }
    }
    for (a, b, expected) in [
        (1e6, 0.5, -6.335390211057436965),
        (1e6, 2e6, -1909548.2909685329565),
        (3.5, 12.0, -7.8336330428946535598),
    ] {
        close(special::ln_beta(a, b), expected, 2e-15, "ln B");
    }
    for (x, expected) in
        [(10.0, 12.801827480081469611), (12345.678, 103959.91990554605982), (0.05, 2.9688792010517307685)]
    {
        close(special::ln_gamma(x), expected, 1e-14, "ln Gamma");
    }
}

#[test]
fn quantiles_invert_the_distribution_in_both_tails() {
    let ends = [1e-300, 1e-100, 1e-30, 1e-12, 1e-6, 0.01, 0.2, 0.4999999, 0.5];
    for marginal in cases() {
        marginal.check().unwrap();
        let (mut last, mut us) = (f64::NEG_INFINITY, ends.to_vec());
        us.extend([0.5000001, 0.8, 0.99, 1.0 - 1e-6, 1.0 - 1e-12, 1f64.next_down()]);
        for u in us {
            let x = marginal.quantile(u);
            let context = format!("{marginal:?} at {u:e}: {x:e}");
            assert!(x >= last && marginal.log_density(x).is_finite(), "{context}");
            last = x;
            // Where the numbers next to x lie further apart than the tolerance, u lies between theirs.
            let (got, wanted, around) = if u <= 0.5 {
                (marginal.cdf(x), u, [marginal.cdf(x.next_down()), marginal.cdf(x.next_up())])
            } else {
                (marginal.sf(x), 1.0 - u, [marginal.sf(x.next_up()), marginal.sf(x.next_down())])
            };
            // A cut tail of mass 1e-149 cannot be divided below 5e-324.
            let slack = 1e-10 * wanted + 1e-170;
            let is_close = (got - wanted).abs() <= slack;
            let is_next = around[0] <= wanted + slack && wanted - slack <= around[1];
            assert!(is_close || is_next, "{context}: {got:e}, expected {wanted:e}");
            assert!((marginal.cdf(x) + marginal.sf(x) - 1.0).abs() < 1e-12, "{context}");
        }
    }
}

/// Nodes and weights of the Gauss-Legendre rule of order four on (-1, 1), in closed form.
fn gauss_4() -> [(f64, f64); 4] {
    let root = (6.0f64 / 5.0).sqrt() * 2.0 / 7.0;
    let (inner, outer) = ((3.0 / 7.0 - root).sqrt(), (3.0 / 7.0 + root).sqrt());
    let (heavy, light) = ((18.0 + 30f64.sqrt()) / 36.0, (18.0 - 30f64.sqrt()) / 36.0);
    [(-outer, light), (-inner, heavy), (inner, heavy), (outer, light)]
}

#[test]
fn densities_integrate_to_one_and_to_the_distribution() {
    for marginal in cases() {
        // Pieces between quantiles, ever smaller ones towards both ends.
        let us: Vec<f64> = (0..=640).map(|i| 1.0 / (1.0 + (-(i as f64 - 320.0) / 20.0).exp())).collect();
        let xs: Vec<f64> = us.iter().map(|u| marginal.quantile(*u)).collect();
        let mut total = 0.0;
        for i in 0..640 {
            let (middle, half) = (0.5 * (xs[i] + xs[i + 1]), 0.5 * (xs[i + 1] - xs[i]));
            let sum = gauss_4().map(|(x, w)| w * marginal.log_density(middle + half * x).exp());
            total += half * sum.iter().sum::<f64>();
            let expected = us[i + 1] - us[0];
            assert!(
                (total - expected).abs() < 1e-7,
                "{marginal:?} to {}: {total}, expected {expected}",
                xs[i + 1]
            );
        }
        assert!((total - 1.0).abs() < 5e-7, "{marginal:?}: {total}");
    }
}

#[test]
fn nothing_lies_on_or_outside_a_bound() {
    for marginal in cases() {
        let Support { lower, upper, .. } = marginal.support();
        for bound in lower.into_iter().chain(upper) {
            assert_eq!(marginal.log_density(bound), f64::NEG_INFINITY, "{marginal:?}");
        }
        let outside = [lower.map(|b| b - 1.0), upper.map(|b| b + 1.0)];
        for x in outside.into_iter().flatten() {
            assert_eq!(marginal.log_density(x), f64::NEG_INFINITY);
            let expected = if lower.is_some_and(|b| x < b) { (0.0, 1.0) } else { (1.0, 0.0) };
            assert_eq!((marginal.cdf(x), marginal.sf(x)), expected);
        }
        assert!(marginal.log_density(f64::NAN).is_nan());
    }
    let unit = Support { lower: Some(0.0), upper: Some(1.0), ..Support::default() };
    let triangle = JointPrior::new(
        vec![Support { periodic: true, ..unit }, unit],
        |u, theta| {
            theta[1] = u[0].sqrt();
            theta[0] = u[1] * theta[1];
        },
        |theta| if theta[0] < theta[1] { 2f64.ln() } else { f64::NEG_INFINITY },
    )
    .unwrap();
    let mut theta = [0.0; 2];
    triangle.prior_transform(&[1f64.next_down(), f64::from_bits(1)], &mut theta);
    assert_eq!(theta[0], f64::from_bits(1));
    assert_eq!(triangle.log_prior(&theta), 2f64.ln());
    assert_eq!(triangle.log_prior(&[0.0, 0.5]), f64::NEG_INFINITY);
    assert!(triangle.log_prior(&[f64::NAN, 0.5]).is_nan() && triangle.log_prior(&[0.5]).is_nan());
    assert_eq!(triangle.supports(), [Support { periodic: true, ..unit }, unit]);
}

#[test]
fn joint_priors_need_intervals() {
    let joint = |lower, upper| {
        let support = Support { lower, upper, ..Support::default() };
        JointPrior::new(vec![support], |_, _| {}, |_| 0.0).map(|_| ()).unwrap_err().to_string()
    };
    let expected = "expected an open interval with finite bounds or none";
    assert_eq!(joint(Some(1.0), Some(1.0)), format!("support of parameter 0 is (1, 1), {expected}"));
    assert_eq!(joint(None, Some(f64::NAN)), format!("support of parameter 0 is (-inf, NaN), {expected}"));
    let empty = JointPrior::new(Vec::new(), |_, _| {}, |_| 0.0).unwrap_err().to_string();
    assert_eq!(empty, "prior is without parameters, expected at least one");
    let open = Support { lower: Some(0.0), periodic: true, ..Support::default() };
    let error = JointPrior::new(vec![open], |_, _| {}, |_| 0.0).map(|_| ()).unwrap_err().to_string();
    assert_eq!(
        error,
        "support of the periodic parameter 0 is (0, inf), expected both bounds, one period apart"
    );
}

#[test]
fn senseless_numbers_are_refused_by_name() {
    use Marginal::*;
    let refused = |marginal: Marginal| marginal.check().unwrap_err().to_string();
    let positive = "expected a finite number above 0";
    let shape = "expected a number above 0, at most 1e8";
    let resolve = "expected at most 1e-6 nearer to a bound, or farther out, than 64-bit numbers resolve";
    let spread = "expected a spread that 64-bit numbers resolve: other units, or less a constant";
    let cut = |lower, upper| TruncatedNormal { mean: 0.0, sd: 1.0, lower, upper };
    let exact = [
        (
            Uniform { lower: 1.0, upper: 1.0 },
            "upper is 1, expected a number above `lower`, which is 1".into(),
        ),
        (Uniform { lower: f64::NAN, upper: 1.0 }, "lower is NaN, expected a finite number".into()),
        (Uniform { lower: -1e308, upper: 1e308 }, "upper - lower is inf, expected a finite number".into()),
        (LogUniform { lower: 0.0, upper: 1.0 }, format!("lower is 0, {positive}")),
        (Normal { mean: f64::INFINITY, sd: 1.0 }, "mean is inf, expected a finite number".into()),
        (Normal { mean: 0.0, sd: 0.0 }, format!("sd is 0, {positive}")),
        (Lognormal { mu: 0.0, sigma: -1.0 }, format!("sigma is -1, {positive}")),
        (HalfNormal { sd: f64::NAN }, format!("sd is NaN, {positive}")),
        (Exponential { scale: f64::INFINITY }, format!("scale is inf, {positive}")),
        (Gamma { shape: 0.0, scale: 1.0 }, format!("shape is 0, {shape}")),
        (Gamma { shape: 1.0, scale: 0.0 }, format!("scale is 0, {positive}")),
        (Beta { alpha: 1e9, beta: 1.0 }, format!("alpha is 1000000000, {shape}")),
        (Beta { alpha: 1.0, beta: -1.0 }, format!("beta is -1, {shape}")),
        (StudentT { df: 0.0, loc: 0.0, scale: 1.0 }, format!("df is 0, {shape}")),
        (StudentT { df: 1.0, loc: f64::NAN, scale: 1.0 }, "loc is NaN, expected a finite number".into()),
        (
            cut(None, None),
            "lower is missing, and so is upper, expected a bound; without one the prior is `normal`".into(),
        ),
        (cut(Some(2.0), Some(1.0)), "upper is 1, expected a number above `lower`, which is 2".into()),
        (
            cut(Some(40.0), None),
            "the truncated_normal prior is without mass on (40, inf), expected bounds nearer to the mean 0 (sd 1)"
                .into(),
        ),
        (
            Normal { mean: 1e9, sd: 1e-3 },
            format!("the normal prior is as narrow as 1.3489723205566406e-3 around 9.999999999993255e8, {spread}"),
        ),
    ];
    for (marginal, expected) in exact {
        if matches!(marginal, Normal { mean: 1e9, .. }) {
            // 1.2e-7 lies between two numbers there.
            let text = refused(marginal);
            assert!(
                text.starts_with("the normal prior is as narrow as 1.3") && text.ends_with(spread),
                "{text}"
            );
            continue;
        }
        assert_eq!(refused(marginal), expected);
    }
    for marginal in [
        Beta { alpha: 1.0, beta: 0.1 },
        Gamma { shape: 0.01, scale: 1.0 },
        StudentT { df: 0.01, loc: 0.0, scale: 1.0 },
        Lognormal { mu: 0.0, sigma: 200.0 },
    ] {
        let text = refused(marginal);
        assert!(
            text.starts_with(&format!("the {} prior is ", marginal.name())) && text.ends_with(resolve),
            "{text}"
        );
    }
}

#[test]
fn an_independent_prior_names_the_parameter_at_fault() {
    let flat = Marginal::Uniform { lower: 0.0, upper: 2.0 };
    let normal = Marginal::Normal { mean: 0.0, sd: 1.0 };
    let wrong = vec![flat, Marginal::Normal { mean: 0.0, sd: -1.0 }];
    let error = IndependentPrior::new(wrong).unwrap_err().to_string();
    assert_eq!(error, "prior of parameter 1 (normal): sd is -1, expected a finite number above 0");
    let error = IndependentPrior::new(Vec::new()).unwrap_err().to_string();
    assert_eq!(error, "prior is without parameters, expected at least one");
    let prior = IndependentPrior::new(vec![flat, normal]).unwrap();
    let error = prior.clone().with_periodic(1).unwrap_err().to_string();
    assert_eq!(error, "prior of the periodic parameter 1 is normal, expected uniform, over one period");
    let error = prior.clone().with_periodic(2).unwrap_err().to_string();
    assert_eq!(error, "periodic parameter is 2, expected below 2");
    let prior = prior.with_periodic(0).unwrap().with_edges(0, EdgeChoice::Soft, EdgeChoice::Hard);
    let edges = prior.supports()[0];
    assert!(prior.dim() == 2 && edges.periodic && !prior.supports()[1].periodic);
    assert_eq!((edges.lower_edge, edges.upper_edge), (EdgeChoice::Soft, EdgeChoice::Hard));
    assert_eq!((edges.lower, prior.supports()[1]), (Some(0.0), Support::default()));
    assert!(prior.log_prior(&[1.0]).is_nan() && prior.log_prior(&[1.0, f64::NAN]).is_nan());
    assert_eq!(prior.log_prior(&[2.0, 0.0]), f64::NEG_INFINITY);
    let expected = -(2f64.ln()) - 0.5 - 0.5 * std::f64::consts::TAU.ln();
    assert!((prior.log_prior(&[1.9, -1.0]) - expected).abs() < 1e-14);
    assert_eq!(prior.marginals()[1].name(), "normal");
}

/// Any prior with numbers over many orders of magnitude.
fn any_marginal() -> impl Strategy<Value = Marginal> {
    use Marginal::*;
    let wide = || (-6.0..6.0f64).prop_map(|e| 10f64.powf(e));
    let number = || -1e3..1e3f64;
    prop_oneof![
        (number(), wide()).prop_map(|(lower, width)| Uniform { lower, upper: lower + width }),
        (wide(), wide()).prop_map(|(lower, width)| LogUniform { lower, upper: lower + width }),
        (number(), wide()).prop_map(|(mean, sd)| Normal { mean, sd }),
        (number(), wide(), -30.0..30.0f64, wide(), 0..3).prop_map(|(mean, sd, at, width, sides)| {
            let lower = mean + at * sd;
            let cut = |is_there: bool, bound| is_there.then_some(bound);
            TruncatedNormal {
                mean,
                sd,
                lower: cut(sides != 1, lower),
                upper: cut(sides != 0, lower + width * sd),
            }
        }),
        (number(), 0.01..50.0f64).prop_map(|(mu, sigma)| Lognormal { mu: 0.1 * mu, sigma }),
        wide().prop_map(|sd| HalfNormal { sd }),
        wide().prop_map(|scale| Exponential { scale }),
        (wide(), wide()).prop_map(|(shape, scale)| Gamma { shape, scale }),
        (wide(), wide()).prop_map(|(alpha, beta)| Beta { alpha, beta }),
        (wide(), number(), wide()).prop_map(|(df, loc, scale)| StudentT { df, loc, scale }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    /// What is accepted keeps the invariant at every u of the open interval, and is inverted by its distribution.
    #[test]
    fn accepted_marginals_keep_their_invariant(marginal in any_marginal(), u in 0.0..1.0f64, exponent in 1..1022i32) {
        prop_assume!(marginal.check().is_ok());
        let Support { lower, upper, .. } = marginal.support();
        let tiny = 2f64.powi(-exponent);
        for u in [u.max(tiny), tiny, (1.0 - tiny).min(1f64.next_down()), f64::from_bits(1), 1f64.next_down()] {
            let x = marginal.quantile(u);
            prop_assert!(lower.is_none_or(|b| x > b) && upper.is_none_or(|b| x < b), "{x} at {u}");
            prop_assert!(x.is_finite() && marginal.log_density(x).is_finite(), "{x} at {u}");
            let (low, high) = (marginal.cdf(x.next_down()), marginal.cdf(x.next_up()));
            prop_assert!(low <= u + 1e-10 && u - 1e-10 <= high, "{u}: between {low} and {high} at {x}");
        }
    }
}

#[test]
fn the_normal_distribution_is_right_far_out() {
    // 40 digits of mpmath's erfc(-z / sqrt(2)) / 2.
    for (z, expected) in [
        (-37.0, 5.7255712225245768227e-300),
        (-20.0, 2.7536241186062336951e-89),
        (-8.5, 9.4795348222033183542e-18),
        (-3.0, 0.0013498980316300945267),
        (-0.787, 0.21564093307987179093),
        (0.4, 0.65542174161032417491),
    ] {
        close(crate::rng::normal_cdf(z), expected, 1e-12, &format!("normal_cdf({z})"));
    }
}

#[test]
fn tables_of_quantiles_are_right_to_f32_at_every_u() {
    use Marginal::*;
    let mut marginals = cases();
    marginals.extend([Gamma { shape: 2.5, scale: 1.0 }, Normal { mean: 0.0, sd: 1.0 }]);
    let table_of = |marginal: &Marginal| lwflow_engine::QuantileTable::new(0.0, |u| marginal.quantile(u));
    for marginal in &marginals {
        let table = table_of(marginal).unwrap();
        let mut last = f32::NEG_INFINITY;
        let lower: Vec<u32> = (0..31).flat_map(|k| [1 << k, (1 << k) + (1 << k) / 3]).collect();
        let upper = lower.iter().rev().map(|bits| !bits);
        for bits in std::iter::once(0).chain(lower.iter().copied()).chain(upper).chain([u32::MAX]) {
            let u = (f64::from(bits) + 0.5) / 4_294_967_296.0;
            let (got, exact) = (table.at(bits), marginal.quantile(u));
            // Either f32 cannot tell the two apart, or the masses beyond them differ by less than 4e-5 of themselves.
            let (x, mass) = (f64::from(got), u.min(1.0 - u));
            let beyond = if u < 0.5 { marginal.cdf(x) } else { marginal.sf(x) };
            let is_near = (x - exact).abs() <= 6.0 * f64::from(f32::EPSILON) * exact.abs() + 2e-38;
            assert!(
                is_near || (beyond / mass - 1.0).abs() < 4e-5,
                "{marginal:?} at {u:e}: {got:e}, exactly {exact:e}; mass beyond {beyond:e}"
            );
            let slack = 8.0 * f32::EPSILON * got.abs();
            assert!(got >= last - slack, "{marginal:?} at {u:e}: {got:e} after {last:e}");
            last = got;
        }
    }
    // A pole that cubics do not follow.
    assert!(table_of(&Gamma { shape: 0.02, scale: 1.0 }).is_none());
}

#[test]
fn rows_of_the_prior_are_those_of_all_its_points() {
    let marginal = Marginal::Uniform { lower: 0.0, upper: 1.0 };
    let prior = IndependentPrior::new(vec![marginal; 3]).unwrap();
    let all = crate::rng::sobol_blocks(5, 20_000, 3).points;
    for rows in [0..1, 8000..8200, 100..17_000, 8192..16_384] {
        assert_eq!(prior_rows(&prior, 5, rows.clone()), all[3 * rows.start..3 * rows.end]);
    }
}
