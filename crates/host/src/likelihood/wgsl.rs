//! A log likelihood written in WGSL, on whatever device the engine has: parameters go over as f32, less an offset.
//! Invariant: no parameter goes over whose f32 spacing is coarse for its prior; an audit is f64 from end to end.

use std::ops::ControlFlow;
use std::time::Duration;

use lwflow_engine::{Engine, LikelihoodExecutor, QuantileTable, ScanExecutor, Scanned, WgslProgram};
use rayon::prelude::*;

use super::{Evaluations, Likelihood, PriorScan, is_legal};
use crate::HostError;
use crate::prior::{Marginal, Prior, transform_rows};
use crate::rng::sobol_blocks;
use crate::weights::check_log_values;

/// Coarsest f32 spacing of a parameter, in widths of its prior.
const COARSEST: f64 = 1e-4;

/// One parameter as a WGSL likelihood or simulator sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct WgslParameter {
    /// Its name, for messages.
    pub name: String,
    /// The reference it is handed over as a difference from: `theta[i]` in WGSL is the parameter less this.
    pub offset: f64,
    /// Where the prior has its mass: a low and a high quantile, or the bounds.
    pub range: (f64, f64),
}

impl WgslParameter {
    /// The parameters of a prior, by `names` `[D]` and `offsets` `[D]`.
    ///
    /// # Errors
    /// [`HostError::Length`] for another number of names or offsets than the prior has parameters.
    pub fn of_prior(prior: &dyn Prior, names: &[String], offsets: &[f64]) -> Result<Vec<Self>, HostError> {
        let d = prior.dim();
        crate::error::check_length("names", names.len(), d, "the parameters of the prior")?;
        crate::error::check_length("offsets", offsets.len(), d, "the parameters of the prior")?;
        let each = names.iter().zip(offsets).zip(ranges(prior));
        Ok(each.map(|((name, offset), range)| Self { name: name.clone(), offset: *offset, range }).collect())
    }

    /// Checks that f32 can tell values of the parameter apart.
    pub(crate) fn check(&self) -> Result<(), HostError> {
        let (low, high) = self.range;
        let name = &self.name;
        if !(low < high && low.is_finite() && high.is_finite() && self.offset.is_finite()) {
            let got = format!("{low} to {high}, offset {}", self.offset);
            return Err(HostError::invalid(
                format!("the range of parameter {name}"),
                got,
                "finite, low below high",
            ));
        }
        let largest = (low - self.offset).abs().max((high - self.offset).abs());
        let spacing = f32_spacing(largest);
        let width = high - low;
        if spacing <= COARSEST * width {
            return Ok(());
        }
        Err(HostError::invalid(
            format!(
                "the spacing of f32 numbers at parameter {name} ({low} to {high}, offset {})",
                self.offset
            ),
            format!("{spacing:e}"),
            format!(
                "at most {COARSEST:e} of its width {width:e}: set `offset` in [parameters.{name}] to a value in that \
                 range, for instance {}, and let the WGSL function add it where it needs the whole value",
                low + 0.5 * width
            ),
        ))
    }
}

/// Where a prior has all but a thousandth of its mass at either end: quantiles, or else the extremes of a thousand draws.
fn ranges(prior: &dyn Prior) -> Vec<(f64, f64)> {
    const TAIL: f64 = 0.001;
    if let Some(marginals) = prior.marginals() {
        return marginals.iter().map(|m| (m.quantile(TAIL), m.quantile(1.0 - TAIL))).collect();
    }
    let d = prior.dim();
    let theta = transform_rows(prior, &sobol_blocks(0, 1000, d).points);
    let column = |j: usize| theta.iter().skip(j).step_by(d).copied();
    let extremes = |j| (column(j).fold(f64::INFINITY, f64::min), column(j).fold(f64::NEG_INFINITY, f64::max));
    (0..d).map(extremes).collect()
}

/// Distance of neighbouring f32 numbers at magnitude `x`; infinite beyond them.
fn f32_spacing(x: f64) -> f64 {
    if x > f64::from(f32::MAX) {
        return f64::INFINITY;
    }
    let x = (x as f32).max(f32::MIN_POSITIVE);
    f64::from(f32::from_bits(x.to_bits() + 1)) - f64::from(x)
}

/// A log likelihood in WGSL.
///
/// ```
/// use lwflow_engine::{DeviceChoice, Engine, EngineSettings, WgslProgram, WgslSource};
/// use lwflow_host::likelihood::{Evaluations, Likelihood, WgslLikelihood, WgslParameter};
/// let text = "fn log_likelihood(theta: array<f32, D>) -> f32 { return -0.5 * square(theta[0]); }";
/// let program = WgslProgram::new(&WgslSource {
///     file: "normal.wgsl".into(),
///     text: text.into(),
///     dim: 1,
///     ..Default::default()
/// })?;
/// let engine = Engine::new(&EngineSettings { device: DeviceChoice::Cpu, ..Default::default() })?;
/// let mass = WgslParameter { name: "mass".into(), offset: 1e9, range: (1e9 - 1.0, 1e9 + 1.0) };
/// let mut likelihood = WgslLikelihood::new(&engine, &program, &[mass], Vec::new())?;
/// let mut out = Evaluations::default();
/// likelihood.evaluate(&[1e9, 1e9 + 0.5], &mut out)?;
/// assert_eq!(out.log_likelihood, [0.0, -0.125]);
/// assert_eq!(likelihood.audit(&[1e9 + 0.5])?, Some(vec![-0.125]));
/// # Ok::<(), lwflow_host::HostError>(())
/// ```
#[derive(Debug)]
pub struct WgslLikelihood {
    executor: LikelihoodExecutor,
    offset: Vec<f64>,
    derived_names: Vec<String>,
    timeout: Duration,
    narrow: Vec<f32>,
}

impl WgslLikelihood {
    /// The program on the engine's device, with one entry per parameter in their order.
    ///
    /// # Errors
    /// [`HostError::Length`] for another number of parameters or derived names than the program's;
    /// [`HostError::Invalid`] naming a parameter whose f32 spacing is coarser than 1e-4 of its prior's width; any error of
    /// the device.
    pub fn new(
        engine: &Engine,
        program: &WgslProgram,
        parameters: &[WgslParameter],
        derived_names: Vec<String>,
    ) -> Result<Self, HostError> {
        let source = program.source();
        crate::error::check_length("parameters", parameters.len(), source.dim, "as many as theta has")?;
        crate::error::check_length(
            "derived names",
            derived_names.len(),
            source.n_derived,
            "as many as `derived` returns",
        )?;
        parameters.iter().try_for_each(WgslParameter::check)?;
        let seconds = engine.settings().timeout_seconds;
        Ok(Self {
            executor: engine.likelihood(program)?,
            offset: parameters.iter().map(|p| p.offset).collect(),
            derived_names,
            timeout: Duration::try_from_secs_f64(seconds).unwrap_or(Duration::from_secs(300)),
            narrow: Vec::new(),
        })
    }

    /// The program.
    #[must_use]
    pub fn program(&self) -> &WgslProgram {
        self.executor.program()
    }

    /// Why log L cannot be audited in f64; `None` if it can.
    #[must_use]
    pub fn no_audit(&self) -> Option<&str> {
        self.program().no_audit()
    }

    /// theta less the offset.
    fn shifted<'a>(&'a self, theta: &'a [f64]) -> impl Iterator<Item = f64> + 'a {
        theta.iter().zip(self.offset.iter().cycle()).map(|(value, offset)| value - offset)
    }
}

impl Likelihood for WgslLikelihood {
    fn dim(&self) -> usize {
        self.offset.len()
    }

    fn derived_names(&self) -> &[String] {
        &self.derived_names
    }

    fn evaluate(&mut self, theta: &[f64], out: &mut Evaluations) -> Result<(), HostError> {
        let mut narrow = std::mem::take(&mut self.narrow);
        narrow.clear();
        narrow.extend(self.shifted(theta).map(|value| value as f32));
        let result = self.executor.evaluate_unchecked(&narrow);
        self.narrow = narrow;
        let (values, derived) = result?;
        let values: Vec<f64> = values.into_iter().map(f64::from).collect();
        let n_legal = values.iter().position(|v| !is_legal(*v)).unwrap_or(values.len());
        out.log_likelihood.extend_from_slice(&values[..n_legal]);
        out.derived.extend(derived[..n_legal * self.derived_names.len()].iter().map(|v| f64::from(*v)));
        check_log_values("log_likelihood", &values, theta, true)
    }

    fn prior_scan(
        &mut self,
        marginals: &[Marginal],
        key: u32,
    ) -> Result<Option<Box<dyn PriorScan>>, HostError> {
        let each = marginals.par_iter().zip(&self.offset);
        let tables = each.map(|(marginal, offset)| QuantileTable::new(*offset, |u| marginal.quantile(u)));
        let Some(tables) = tables.collect::<Option<Vec<_>>>() else { return Ok(None) };
        Ok(Some(Box::new(self.executor.scan(key, &tables)?)))
    }

    fn audit(&mut self, theta: &[f64]) -> Result<Option<Vec<f64>>, HostError> {
        let wide: Vec<f64> = self.shifted(theta).collect();
        Ok(self.program().audit(&wide, self.timeout)?.map(|(values, _)| values))
    }
}

impl PriorScan for ScanExecutor {
    fn blocks(
        &mut self,
        first: u32,
        n: u32,
        threshold: f64,
        _: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Result<Option<Scanned>, HostError> {
        Ok(Some(Self::blocks(self, first, n, threshold)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lwflow_engine::{DeviceChoice, EngineSettings, WgslSource};

    fn engine() -> Engine {
        Engine::new(&EngineSettings { device: DeviceChoice::Cpu, ..Default::default() }).unwrap()
    }

    fn program(text: &str, dim: usize, n_derived: usize) -> WgslProgram {
        let source = WgslSource {
            file: "user.wgsl".into(),
            text: text.into(),
            dim,
            n_derived,
            ..WgslSource::default()
        };
        WgslProgram::new(&source).unwrap()
    }

    fn parameter(name: &str, offset: f64, low: f64, high: f64) -> WgslParameter {
        WgslParameter { name: name.into(), offset, range: (low, high) }
    }

    const NORMAL: &str = "fn log_likelihood(theta: array<f32, D>) -> f32 {
        if theta[0] > 2.0 { return sqrt(-theta[0]); }
        return -0.5 * square(theta[0]) + theta[1];
    }
    fn derived(theta: array<f32, D>) -> array<f32, M> { return array<f32, M>(theta[0] + theta[1]); }";

    #[test]
    fn a_coarse_parameter_is_refused_with_the_remedy() {
        let program = program(NORMAL, 2, 1);
        let shape = parameter("shape", 0.0, -1.0, 1.0);
        let names = || vec!["sum".to_owned()];
        let mass = parameter("mass", 0.0, 1e9 - 1e-3, 1e9 + 1e-3);
        let error = WgslLikelihood::new(&engine(), &program, &[shape.clone(), mass], names()).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("parameter mass") && text.contains("`offset` in [parameters.mass]"), "{text}");
        assert!(text.contains("1000000000"), "{text}");
        let mass = parameter("mass", 1e9, 1e9 - 1e-3, 1e9 + 1e-3);
        WgslLikelihood::new(&engine(), &program, &[shape.clone(), mass], names()).unwrap();
        // A width of a thousand spacings is too narrow, one of a hundred thousand is not.
        for (high, fine) in [(1.0 + 1e-4, false), (1.01, true)] {
            let made = WgslLikelihood::new(
                &engine(),
                &program,
                &[shape.clone(), parameter("x", 0.0, 1.0, high)],
                names(),
            );
            assert_eq!(made.is_ok(), fine);
        }
        let error =
            WgslLikelihood::new(&engine(), &program, &[shape.clone(), shape], Vec::new()).unwrap_err();
        assert!(error.to_string().contains("derived names"), "{error}");
    }

    #[test]
    fn what_is_good_before_an_error_is_kept() {
        let parameters = [parameter("a", 0.0, -4.0, 4.0), parameter("b", 100.0, 99.0, 101.0)];
        let mut likelihood =
            WgslLikelihood::new(&engine(), &program(NORMAL, 2, 1), &parameters, vec!["sum".into()]).unwrap();
        let mut out = Evaluations::default();
        let theta = [1.0, 100.5, 0.0, 99.5, 3.0, 100.0, 0.0, 100.0];
        let error = likelihood.evaluate(&theta, &mut out).unwrap_err();
        assert_eq!(out.log_likelihood, [0.0, -0.5]);
        assert_eq!(out.derived, [1.5, -0.5]);
        match error {
            HostError::BadLogValue { row: 2, theta, value, .. } => {
                assert_eq!(theta, [3.0, 100.0]);
                assert!(value.is_nan());
            }
            other => panic!("{other}"),
        }
    }

    #[test]
    fn the_audit_measures_the_error_of_f32() {
        let parameters = [parameter("a", 0.0, -4.0, 4.0), parameter("b", 1e6, 1e6 - 1.0, 1e6 + 1.0)];
        let mut likelihood =
            WgslLikelihood::new(&engine(), &program(NORMAL, 2, 1), &parameters, vec!["sum".into()]).unwrap();
        let theta: Vec<f64> =
            (0..600).flat_map(|i| [f64::from(i) * 0.0031, 1e6 + f64::from(i) / 617.0]).collect();
        let mut out = Evaluations::default();
        likelihood.evaluate(&theta, &mut out).unwrap();
        let audit = likelihood.audit(&theta).unwrap().unwrap();
        let mut worst = 0.0_f64;
        for ((value, exact), t) in out.log_likelihood.iter().zip(&audit).zip(theta.chunks_exact(2)) {
            assert!((exact - (-0.5 * t[0] * t[0] + (t[1] - 1e6))).abs() < 1e-15);
            worst = worst.max((value - exact).abs());
        }
        assert!(worst > 0.0 && worst < 1e-6, "{worst}");
    }
}
