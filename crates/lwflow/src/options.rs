//! What every fit can be told: settings, seed, names, device, and a flag that stops it.

use crate::Error;
use lwflow_engine::{DeviceChoice, Engine, EngineSettings};
use lwflow_host::HostError;
use lwflow_host::fit::FitSettings;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Where a fit runs.
#[derive(Debug)]
pub(crate) enum Device {
    /// To be opened, and tested before its first use.
    Choice(DeviceChoice),
    /// The caller's.
    Open(Box<Engine>),
}

/// See the builders.
#[derive(Debug)]
pub(crate) struct Options {
    pub fit: FitSettings,
    pub seed: u64,
    pub names: Option<Vec<String>>,
    pub labels: Option<Vec<String>>,
    pub device: Device,
    pub cancel: Option<Arc<AtomicBool>>,
}

impl Default for Options {
    fn default() -> Self {
        let device = Device::Choice(DeviceChoice::Auto);
        Self { fit: FitSettings::default(), seed: 0, names: None, labels: None, device, cancel: None }
    }
}

impl Options {
    /// The engine, opened and tested now if the caller brought none.
    pub fn engine(&self) -> Result<Engine, Error> {
        match &self.device {
            Device::Open(engine) => Ok(Engine::clone(engine)),
            Device::Choice(device) => open(device),
        }
    }

    /// Names and labels of `dim` parameters.
    pub fn names(&self, dim: usize) -> Result<(Vec<String>, Vec<String>), Error> {
        let names = self.names.clone().unwrap_or_else(|| (0..dim).map(|j| format!("theta{j}")).collect());
        let labels = self.labels.clone().unwrap_or_else(|| names.clone());
        for (what, given) in [("names", &names), ("labels", &labels)] {
            if given.len() != dim {
                let expected = format!("{dim}, one for each parameter");
                return Err(HostError::Length { what, got: given.len(), expected }.into());
            }
        }
        if let Some(j) = (1..dim).find(|&j| names[..j].contains(&names[j])) {
            let (what, got) = ("names".into(), format!("\"{}\" twice", names[j]));
            return Err(HostError::Invalid { what, got, expected: "distinct names".into() }.into());
        }
        Ok((names, labels))
    }

    /// What `go_on` says, unless the flag is up.
    pub fn unless_cancelled(&self, go_on: ControlFlow<()>) -> ControlFlow<()> {
        if self.is_cancelled() { ControlFlow::Break(()) } else { go_on }
    }

    /// Whether the flag is up.
    pub fn is_cancelled(&self) -> bool {
        self.cancel.as_ref().is_some_and(|flag| flag.load(Ordering::Relaxed))
    }
}

/// Opens a device and compares its passes with the definition, unless that was done before.
pub(crate) fn open(device: &DeviceChoice) -> Result<Engine, Error> {
    let engine = Engine::new(&EngineSettings { device: device.clone(), ..EngineSettings::default() })?;
    engine.ensure_tested()?;
    Ok(engine)
}

/// The methods that all builders have.
macro_rules! option_methods {
    () => {
        /// Changes how the flow is built and trained.
        #[must_use]
        pub fn fit(mut self, change: impl FnOnce(&mut lwflow_host::fit::FitSettings)) -> Self {
            change(&mut self.options.fit);
            self
        }

        /// The seed that everything random follows from: the same device and seed give the same bits.
        #[must_use]
        pub fn seed(mut self, seed: u64) -> Self {
            self.options.seed = seed;
            self
        }

        /// Names of the parameters, `[D]`; `theta0`, `theta1`, ... without.
        #[must_use]
        pub fn names<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
            self.options.names = Some(names.into_iter().map(Into::into).collect());
            self
        }

        /// LaTeX labels of the parameters, `[D]`, without dollar signs; the names without.
        #[must_use]
        pub fn labels<S: Into<String>>(mut self, labels: impl IntoIterator<Item = S>) -> Self {
            self.options.labels = Some(labels.into_iter().map(Into::into).collect());
            self
        }

        /// The device to open; it is tested before its first use.
        #[must_use]
        pub fn device(mut self, device: lwflow_engine::DeviceChoice) -> Self {
            self.options.device = crate::options::Device::Choice(device);
            self
        }

        /// An engine that is open, for instance one on the caller's own wgpu device
        /// ([`Engine::from_wgpu`](crate::Engine::from_wgpu)). It is not tested:
        /// [`Engine::ensure_tested`](crate::Engine::ensure_tested) does that.
        #[must_use]
        pub fn engine(mut self, engine: &lwflow_engine::Engine) -> Self {
            self.options.device = crate::options::Device::Open(Box::new(engine.clone()));
            self
        }

        /// A flag that stops the fit once it is true; the outcome is what there is by then.
        #[must_use]
        pub fn cancel(mut self, flag: std::sync::Arc<std::sync::atomic::AtomicBool>) -> Self {
            self.options.cancel = Some(flag);
            self
        }
    };
}
pub(crate) use option_methods;
