//! The sections of a task file, one function each: defaults filled in, values checked against each other. The keys were
//! checked when the section was opened.

use super::reader::{Bounds, OPEN_SHARE, POSITIVE, SHARE, Section};
use super::{
    BaseKind, BaseSection, Components, ControlVariate, Coupling, FlowSection, OutputSection, TaskError,
    TrainingSection,
};
use lwflow_host::mixture::MAX_COMPONENTS;
use lwflow_model::{BaseSpec, FlowSettings, FlowSpec, ModelError};
use toml::de::DeValue;

pub(super) fn flow(section: &Section<'_>, default: FlowSection) -> Result<FlowSection, TaskError> {
    // A key that only an affine layer has asks for one.
    let implied = if section.get("s_max").is_some() { Coupling::Affine } else { default.coupling };
    let coupling = section.choice("coupling")?.unwrap_or(implied);
    let foreign: &[&str] = match coupling {
        Coupling::Affine => &["n_bins", "bound"],
        Coupling::Spline => &["s_max"],
    };
    if let Some((_, key, _)) = section.entries().into_iter().find(|(_, key, _)| foreign.contains(key)) {
        let reason = match coupling {
            Coupling::Affine => "only coupling = \"spline\" has it",
            Coupling::Spline => "only coupling = \"affine\" has it",
        };
        return Err(section.conflict(key, format!("coupling = \"{}\"", coupling.word()), reason));
    }
    let flow = FlowSection {
        n_layers: section.count("n_layers", 0)?.unwrap_or(default.n_layers),
        hidden: section.counts("hidden")?.unwrap_or(default.hidden),
        activations: section.choice("activation")?.map_or(default.activations, |activation| vec![activation]),
        coupling,
        s_max: section.number("s_max", POSITIVE)?.unwrap_or(default.s_max),
        // One bin would be the identity.
        n_bins: section.count("n_bins", 2)?.unwrap_or(default.n_bins),
        bound: section.number("bound", POSITIVE)?.unwrap_or(default.bound),
        mixing: section.choice("mixing")?.unwrap_or(default.mixing),
        context_network: default.context_network,
    };
    // The model's own limits, said of the key. What the data add (dimension, context) does not enter them.
    let settings = FlowSettings {
        n_layers: flow.n_layers,
        hidden: flow.hidden.clone(),
        s_max: flow.s_max,
        coupling: flow.model_coupling(),
        ..FlowSettings::default()
    };
    match FlowSpec::build(2, 0, &settings, BaseSpec::Gaussian, 0) {
        Err(ModelError::Spec { field, expected, .. }) => {
            Err(section.refuse(field.rsplit('.').next().unwrap_or(&field), expected))
        }
        _ => Ok(flow),
    }
}

/// Most components that flows are trained with to choose among them, if the task does not say.
const TRAINED_COMPONENTS: usize = 8;
/// Most replicas: their parameters and moments lie in memory together.
pub(crate) const MAX_REPLICAS: usize = 256;

pub(super) fn base(section: &Section<'_>, default: BaseSection) -> Result<BaseSection, TaskError> {
    // A key that only a mixture has asks for one.
    let implied = if section.entries().is_empty() { default.kind } else { BaseKind::Mixture };
    let kind = section.choice("kind")?.unwrap_or(implied);
    if kind == BaseKind::Gaussian
        && let Some((_, key, _)) = section.entries().into_iter().find(|(_, key, _)| *key != "kind")
    {
        return Err(section.conflict(key, "kind = \"gaussian\"", "only a mixture has it"));
    }
    let max = section.count("max_components", 1)?;
    let mut trained = false;
    let fixed = match section.get("n_components").map(|v| v.get_ref()) {
        Some(DeValue::String(word)) if word == "auto" => None,
        Some(DeValue::String(word)) if word == "trained" => {
            trained = true;
            None
        }
        Some(DeValue::Integer(_) | DeValue::Float(_)) => section.count("n_components", 1)?,
        Some(_) => {
            return Err(section.refuse_type("n_components", "a whole number, \"auto\" or \"trained\""));
        }
        None => None,
    };
    for (key, n) in [("n_components", fixed), ("max_components", max)] {
        if n.is_some_and(|n| n > MAX_COMPONENTS) {
            return Err(section.refuse(key, format!("at most {MAX_COMPONENTS}")));
        }
    }
    let components = match (fixed, max) {
        (Some(_), Some(_)) => {
            let reason = "it limits n_components = \"auto\" and \"trained\" alone";
            return Err(section.conflict("max_components", "a given number of components", reason));
        }
        (Some(n), None) => Components::Fixed(n),
        (None, max) if trained => Components::Trained { max: max.unwrap_or(TRAINED_COMPONENTS) },
        (None, Some(max)) => Components::Auto { max },
        (None, None) => default.components,
    };
    Ok(BaseSection {
        kind,
        components,
        covariance: section.choice("covariance")?.unwrap_or(default.covariance),
        trainable: section.flag("trainable")?.unwrap_or(default.trainable),
    })
}

pub(super) fn training(
    section: &Section<'_>,
    default: TrainingSection,
) -> Result<TrainingSection, TaskError> {
    let control_variate = match section.get("control_variate").map(|v| v.get_ref()) {
        Some(DeValue::Boolean(true)) => Some(ControlVariate::On),
        Some(DeValue::Boolean(false)) => Some(ControlVariate::Off),
        Some(value) if !value.is_str() => {
            return Err(section.refuse_type("control_variate", "true, false or \"auto\""));
        }
        _ => section.choice("control_variate")?,
    };
    const DECAY: Bounds =
        Bounds { accept: |x| (0.0..=1000.0).contains(&x), expected: "a number from 0 to 1000" };
    let replicas = section.count("replicas", 0)?.unwrap_or(default.replicas);
    if replicas == 1 || replicas > MAX_REPLICAS {
        return Err(
            section.refuse("replicas", format!("0, or 2 to {MAX_REPLICAS}, whose spread is the error"))
        );
    }
    const RATE: Bounds = Bounds { accept: |x| x > 0.0 && x <= 1.0, expected: "a number above 0, at most 1" };
    Ok(TrainingSection {
        batch_size: section.count("batch_size", 1)?.unwrap_or(default.batch_size),
        max_visits: section.count("max_visits", 1)?.unwrap_or(default.max_visits),
        learning_rate: section.number("learning_rate", RATE)?.unwrap_or(default.learning_rate),
        schedule: section.choice("schedule")?.unwrap_or(default.schedule),
        clip_norm: section.number("clip_norm", POSITIVE)?.unwrap_or(default.clip_norm),
        validation_share: section.number("validation_share", OPEN_SHARE)?.unwrap_or(default.validation_share),
        patience: section.count("patience", 1)?.unwrap_or(default.patience),
        control_variate: control_variate.unwrap_or(default.control_variate),
        averaging: section.number("averaging", SHARE)?.unwrap_or(default.averaging),
        weight_decay: section.number("weight_decay", DECAY)?.unwrap_or(default.weight_decay),
        replicas,
    })
}

pub(super) fn output(section: &Section<'_>) -> Result<OutputSection, TaskError> {
    let default = OutputSection::default();
    Ok(OutputSection {
        n_samples: section.count("n_samples", 0)?.unwrap_or(default.n_samples),
        precision: section.choice("precision")?.unwrap_or(default.precision),
        figures: section.flag("figures")?.unwrap_or(default.figures),
    })
}
