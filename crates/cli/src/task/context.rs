//! The section [context_network]: what makes features of the observation. Invariant: it stands only where a fit can have
//! context, and a network that was read fits the simulated values, where they are known.

use super::asked::Asked;
use super::reader::{Choice, Section};
use super::{Activation, Likelihood, TaskError, model_activation};
use lwflow_model::{ContextNetworkSpec, MlpSpec, ModelError, SetSpec};
use serde::Serialize;

pub(super) const KEYS: &[&str] = &["kind", "hidden", "n_features", "activation", "element", "counted", "phi"];
/// Those that only a set has.
const OF_SETS: &[&str] = &["element", "counted", "phi"];

choice!(
    /// Kind of a context network.
    NetworkKind {
        /// An MLP of the context.
        Mlp = "mlp",
        /// A network for sets of observations.
        Set = "set",
    }
);

pub(super) fn context_network(
    root: &Section<'_>,
    section: &Section<'_>,
    asked: Asked<'_>,
) -> Result<Option<ContextNetworkSpec>, TaskError> {
    if root.get("context_network").is_none() {
        return Ok(None);
    }
    if asked.simulator.is_none() && !matches!(asked.likelihood, Some(Likelihood::Pairs { .. })) {
        let reason = "only a simulator, or pairs with context, give observations to make features of";
        return Err(root.conflict("context_network", asked.key(), reason));
    }
    let Some(kind) = section.choice::<NetworkKind>("kind")? else {
        return Err(section.missing("kind", "\"mlp\", or \"set\" for observations in any order"));
    };
    if kind == NetworkKind::Mlp
        && let Some((_, key, _)) = section.entries().into_iter().find(|(_, key, _)| OF_SETS.contains(key))
    {
        return Err(section.conflict(
            key,
            format!("kind = \"{}\"", kind.word()),
            "only kind = \"set\" has it",
        ));
    }
    let hidden = section.counts("hidden")?.unwrap_or_else(|| vec![50, 50]);
    let n_features = section.count("n_features", 1)?.unwrap_or(20);
    let activation = model_activation(section.choice("activation")?.unwrap_or(Activation::Silu));
    let (network, least) = match kind {
        NetworkKind::Mlp => (ContextNetworkSpec::Mlp(MlpSpec { hidden, n_features, activation }), 1),
        NetworkKind::Set => {
            let element = section.count("element", 1)?.unwrap_or(1);
            let counted = section.flag("counted")?.unwrap_or(false);
            let phi = section.counts("phi")?.unwrap_or_else(|| vec![50, 50, 50]);
            let set = SetSpec { element, counted, phi, hidden, n_features, activation };
            let least = element.saturating_add(set.first());
            (ContextNetworkSpec::Set(set), least)
        }
    };
    // How many values pairs have is not known yet.
    match network.validate(asked.simulator.map_or(least, |simulator| simulator.observed.len())) {
        Err(ModelError::Spec { field, expected, .. }) => {
            Err(section.refuse(field.rsplit('.').next().unwrap_or(&field), expected))
        }
        _ => Ok(Some(network)),
    }
}
