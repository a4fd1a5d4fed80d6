//! TASK.toml: what to fit, how, and what to write. A [`Task`] that was read is complete and makes sense as far as the
//! file alone can tell; everything but the likelihood has a default. All checks of the file are made here.

/// Declares an enum whose values are written as words in the task file.
macro_rules! choice {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $value:ident = $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
        pub enum $name { $($(#[$doc])* #[serde(rename = $word)] $value),+ }

        impl Choice for $name {
            const WORDS: &'static [&'static str] = &[$($word),+];
            const VALUES: &'static [Self] = &[$(Self::$value),+];
        }

        impl $name {
            /// The word in task files.
            pub fn word(self) -> &'static str {
                match self { $(Self::$value => $word),+ }
            }
        }
    };
}

mod asked;
mod context;
mod error;
mod likelihood;
mod needs;
mod parameters;
mod reader;
mod rounds;
mod sections;
mod simulator;
#[cfg(test)]
mod tests;

pub use error::{Place, TaskError};
pub use likelihood::{ChainFormat, Likelihood};
pub use needs::{likelihood_of, prior_of};
pub use parameters::{Edge, ParameterSection};
pub(crate) use sections::MAX_REPLICAS;
pub use simulator::{MAX_SIMULATIONS, Objective, SimulatorSection, SimulatorSource};

use lwflow_host::rounds::RoundsSettings;
use lwflow_model::ContextNetworkSpec;
use reader::{Choice, Document, Section};
use serde::Serialize;
use std::path::{Path, PathBuf};
use toml::de::DeTable;

/// Names of the built-in targets, as errors list them.
pub const TARGET_NAMES: &[&str] = &[
    "gauss1",
    "gauss2",
    "gauss3",
    "gauss3d",
    "two_moons_s",
    "circle8",
    "rings2",
    "rosenbrock10",
    "many_well",
    "many_well_N",
];

const SECTIONS: &[&str] = &[
    "likelihood",
    "simulator",
    "parameters",
    "rounds",
    "flow",
    "context_network",
    "base",
    "training",
    "output",
];
const FLOW_KEYS: &[&str] =
    &["n_layers", "hidden", "activation", "coupling", "s_max", "n_bins", "bound", "mixing"];
const BASE_KEYS: &[&str] = &["kind", "n_components", "max_components", "covariance", "trainable"];
const TRAINING_KEYS: &[&str] = &[
    "batch_size",
    "max_visits",
    "learning_rate",
    "schedule",
    "clip_norm",
    "validation_share",
    "patience",
    "control_variate",
    "averaging",
    "weight_decay",
    "replicas",
];
const OUTPUT_KEYS: &[&str] = &["n_samples", "precision", "figures"];
const KEYS: &[(&str, &[&str])] = &[
    ("likelihood", likelihood::KEYS),
    ("parameters", parameters::KEYS),
    ("rounds", rounds::KEYS),
    ("flow", FLOW_KEYS),
    ("base", BASE_KEYS),
    ("training", TRAINING_KEYS),
    ("output", OUTPUT_KEYS),
    ("simulator", simulator::KEYS),
    ("context_network", context::KEYS),
];
choice!(
    /// Activation of the conditioners.
    Activation {
        /// max(x, 0)
        Relu = "relu",
        /// x / (1 + exp(-x))
        Silu = "silu",
        /// tanh(x)
        Tanh = "tanh",
    }
);
choice!(
    /// How a layer moves its coordinates.
    Coupling {
        /// Scale and shift.
        Affine = "affine",
        /// Rational-quadratic splines.
        Spline = "spline",
    }
);
choice!(
    /// How coordinates mix between layers.
    Mixing {
        /// The two parts take turns.
        Alternate = "alternate",
        /// They take turns, chosen by a fixed random permutation.
        Permute = "permute",
    }
);
choice!(
    /// Kind of the base distribution.
    BaseKind {
        /// N(0, I).
        Gaussian = "gaussian",
        /// Mixture of Gaussians.
        Mixture = "mixture",
    }
);
choice!(
    /// Shape of the covariances of a mixture.
    Covariance {
        /// One Cholesky factor per component.
        Full = "full",
        /// One scale per axis and component.
        Diagonal = "diagonal",
    }
);
choice!(
    /// Course of the learning rate.
    Schedule {
        /// Half a cosine down to zero.
        Cosine = "cosine",
        /// Lowered when the validation loss stalls.
        Plateau = "plateau",
        /// Never changed.
        Constant = "constant",
    }
);
choice!(
    /// Whether the gradient uses the control variate that needs a known proposal density.
    ControlVariate {
        /// Wherever the proposal density is known.
        Auto = "auto",
        /// Always; an error where the proposal density is not known.
        On = "true",
        /// Never.
        Off = "false",
    }
);
choice!(
    /// Precision of the numbers in a model file.
    Precision {
        /// 32-bit floats.
        F32 = "f32",
        /// 16-bit floats.
        F16 = "f16",
    }
);

/// Everything a task file says. It can be serialised, as a record of what was run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Task {
    /// The task file.
    pub file: PathBuf,
    /// Where the pairs (theta, log likelihood) come from; `None` only where there is a simulator.
    pub likelihood: Option<Likelihood>,
    /// What draws data for given parameters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub simulator: Option<SimulatorSection>,
    /// Parameters in the order of the file (empty: as the source names them).
    pub parameters: Vec<ParameterSection>,
    /// How rounds are run; `None` if the fit is one of points that are there.
    pub rounds: Option<RoundsSettings>,
    /// Layers of the flow.
    pub flow: FlowSection,
    /// Base distribution.
    pub base: BaseSection,
    /// Training.
    pub training: TrainingSection,
    /// What is written.
    pub output: OutputSection,
    /// `flow`, `base` and `training` as they are where the flow has context, which has other defaults.
    #[serde(skip)]
    conditional: (FlowSection, BaseSection, TrainingSection),
}

/// Layers of the flow.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FlowSection {
    /// Number of coupling layers.
    pub n_layers: usize,
    /// Hidden widths of every conditioner.
    pub hidden: Vec<usize>,
    /// Activation of every conditioner; several are tried.
    pub activations: Vec<Activation>,
    /// How a layer moves its coordinates.
    pub coupling: Coupling,
    /// Bound of the log scale of one affine layer.
    pub s_max: f64,
    /// Bins of each spline of a spline layer.
    pub n_bins: usize,
    /// Splines act on [-bound, bound], in standard deviations of the points.
    pub bound: f64,
    /// How coordinates mix between layers.
    pub mixing: Mixing,
    /// What makes features of the context, where the flow has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context_network: Option<ContextNetworkSpec>,
}

impl Default for FlowSection {
    fn default() -> Self {
        Self {
            n_layers: 8,
            hidden: vec![32, 32],
            activations: vec![Activation::Silu],
            coupling: Coupling::Affine,
            s_max: 2.0,
            n_bins: 8,
            bound: 5.0,
            mixing: Mixing::Permute,
            context_network: None,
        }
    }
}

impl FlowSection {
    /// The defaults with context.
    fn conditional() -> Self {
        Self {
            n_layers: 5,
            hidden: vec![50, 50],
            activations: vec![Activation::Tanh, Activation::Relu],
            coupling: Coupling::Spline,
            ..Self::default()
        }
    }

    /// The model's kind of coupling.
    #[must_use]
    pub fn model_coupling(&self) -> lwflow_model::Coupling {
        match self.coupling {
            Coupling::Affine => lwflow_model::Coupling::Affine,
            Coupling::Spline => lwflow_model::Coupling::Spline { n_bins: self.n_bins, bound: self.bound },
        }
    }
}

/// Number of components of a mixture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Components {
    /// So many.
    Fixed(usize),
    /// Chosen from the data, at most so many.
    Auto {
        /// Largest number that is tried.
        max: usize,
    },
    /// Chosen by short trainings of flows with each number, at most so many.
    Trained {
        /// Largest number that is tried.
        max: usize,
    },
}

/// Base distribution.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BaseSection {
    /// Gaussian or mixture.
    pub kind: BaseKind,
    /// Components of a mixture.
    pub components: Components,
    /// Covariances of a mixture.
    pub covariance: Covariance,
    /// Whether weights, means and covariances of a mixture are trained.
    pub trainable: bool,
}

impl Default for BaseSection {
    fn default() -> Self {
        Self {
            kind: BaseKind::Mixture,
            components: Components::Auto { max: 12 },
            covariance: Covariance::Full,
            trainable: true,
        }
    }
}

/// Training.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrainingSection {
    /// Points per step.
    pub batch_size: usize,
    /// Most points visited, repeats counted.
    pub max_visits: usize,
    /// Learning rate at the start.
    pub learning_rate: f64,
    /// Course of the learning rate.
    pub schedule: Schedule,
    /// Largest norm of a gradient; longer ones are shortened to it.
    pub clip_norm: f64,
    /// Share of the points kept for validation.
    pub validation_share: f64,
    /// Checks of the validation loss without a better one before training stops.
    pub patience: usize,
    /// Whether the gradient uses the control variate.
    pub control_variate: ControlVariate,
    /// Share of all steps over which parameters are averaged before they are judged and kept.
    pub averaging: f64,
    /// Decay of the layers' parameters, relative to the learning rate and to one over the root of the number of steps.
    pub weight_decay: f64,
    /// Replicas on bootstrap weights that are trained beside the fit, for its error bars.
    #[serde(skip_serializing_if = "is_zero")]
    pub replicas: usize,
}

fn is_zero(n: &usize) -> bool {
    *n == 0
}

impl Default for TrainingSection {
    fn default() -> Self {
        Self {
            batch_size: 512,
            max_visits: 1_000_000,
            learning_rate: 5e-3,
            schedule: Schedule::Cosine,
            clip_norm: 5.0,
            validation_share: 0.1,
            patience: 0,
            control_variate: ControlVariate::Auto,
            averaging: 0.0,
            weight_decay: 0.0,
            replicas: 0,
        }
    }
}

impl TrainingSection {
    /// The defaults with context.
    fn conditional() -> Self {
        Self {
            batch_size: 64,
            max_visits: 3_000_000,
            learning_rate: 3e-3,
            averaging: 0.03,
            weight_decay: 12.0,
            ..Self::default()
        }
    }
}

/// What is written.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OutputSection {
    /// Posterior samples.
    pub n_samples: usize,
    /// Precision of the model file.
    pub precision: Precision,
    /// Whether figures are drawn.
    pub figures: bool,
}

impl Default for OutputSection {
    fn default() -> Self {
        Self { n_samples: 10_000, precision: Precision::F32, figures: true }
    }
}

impl Task {
    /// Reads and checks a task file.
    ///
    /// # Errors
    /// [`TaskError`], naming file, line and key of the first thing that is wrong.
    pub fn read(file: &Path) -> Result<Self, TaskError> {
        let text = std::fs::read_to_string(file)
            .map_err(|source| TaskError::Read { file: file.to_path_buf(), source })?;
        Self::parse(&text, file)
    }

    /// Checks the text of a task file; `file` names it in errors, and its folder resolves relative paths.
    ///
    /// # Errors
    /// [`TaskError`], naming file, line and key of the first thing that is wrong.
    ///
    /// ```
    /// use lwflow_cli::task::{Likelihood, Task};
    /// let task = Task::parse("[likelihood]\npairs = \"pairs.npz\"\n", "runs/a/TASK.toml".as_ref())?;
    /// assert_eq!(task.likelihood, Some(Likelihood::Pairs { path: "runs/a/pairs.npz".into() }));
    /// # Ok::<(), lwflow_cli::task::TaskError>(())
    /// ```
    pub fn parse(text: &str, file: &Path) -> Result<Self, TaskError> {
        let document = Document { file, text, sections: KEYS };
        let table = DeTable::parse(text).map_err(|error| TaskError::Syntax {
            place: document.place(&error.span().unwrap_or(0..0)),
            message: error.message().replace('\n', ", "),
        })?;
        let root = Section::root(&document, table.get_ref(), SECTIONS)?;
        let open = |name, keys| Section::open(&document, name, root.get(name), keys);
        let (flow_section, base_section) = (open("flow", FLOW_KEYS)?, open("base", BASE_KEYS)?);
        let training_section = open("training", TRAINING_KEYS)?;
        let flow = sections::flow(&flow_section, FlowSection::default())?;
        let base = sections::base(&base_section, BaseSection::default())?;
        let training = sections::training(&training_section, TrainingSection::default())?;
        let mut conditional = (
            sections::flow(&flow_section, FlowSection::conditional())?,
            sections::base(
                &base_section,
                BaseSection { kind: BaseKind::Gaussian, ..BaseSection::default() },
            )?,
            sections::training(&training_section, TrainingSection::conditional())?,
        );
        let output = sections::output(&open("output", OUTPUT_KEYS)?)?;
        let source = open("likelihood", likelihood::KEYS)?;
        let likelihood = match (root.get("likelihood"), root.get("simulator")) {
            (None, None) => return Err(root.missing("likelihood", likelihood::SOURCES)),
            (None, Some(_)) => None,
            (Some(_), _) => Some(likelihood::likelihood(&source, file)?),
        };
        let simulator = open("simulator", simulator::KEYS)?;
        let simulator = simulator::simulator(&root, &simulator, likelihood.as_ref(), file)?;
        let asked = asked::Asked { likelihood: likelihood.as_ref(), simulator: simulator.as_ref() };
        let network = open("context_network", context::KEYS)?;
        conditional.0.context_network = context::context_network(&root, &network, asked)?;
        let parameters = parameters::parameters(&document, &root, asked)?;
        let rounds = rounds::rounds(&root, &open("rounds", rounds::KEYS)?, &source, likelihood.as_ref())?;
        let file = file.to_path_buf();
        Ok(Self {
            file,
            likelihood,
            simulator,
            parameters,
            rounds,
            flow,
            base,
            training,
            output,
            conditional,
        })
    }

    /// The context network that a flow with context has.
    pub fn context_network(&self) -> Option<&ContextNetworkSpec> {
        self.conditional.0.context_network.as_ref()
    }

    /// Takes the defaults of flow, base and training for a flow with context, and its network.
    pub fn use_context(&mut self) {
        (self.flow, self.base, self.training) = self.conditional.clone();
    }
}

/// The model's activation of that word.
#[must_use]
pub fn model_activation(activation: Activation) -> lwflow_model::Activation {
    match activation {
        Activation::Relu => lwflow_model::Activation::Relu,
        Activation::Silu => lwflow_model::Activation::Silu,
        Activation::Tanh => lwflow_model::Activation::Tanh,
    }
}
