//! Turns a task with a prior and a simulator into what draws pairs (theta, x).
//! Everything that can be wrong with a task is found here, before any simulation.

use crate::exit::CommandError;
use crate::task::{Place, SimulatorSource, Task, TaskError, prior_of};
use crate::wgsl_file::{of, parameters, source};
use lwflow_engine::{Engine, SimulatorProgram};
use lwflow_host::prior::Prior;
use lwflow_host::simulator::{CommandSimulator, Simulator, WgslSimulator};

/// A prior, a simulator and their names.
#[derive(Debug)]
pub struct Simulation {
    /// Names of the parameters, `[D]`.
    pub names: Vec<String>,
    /// LaTeX labels, `[D]`.
    pub labels: Vec<String>,
    /// Names of the simulated values, `[X]`.
    pub observed: Vec<String>,
    /// The prior.
    pub prior: Box<dyn Prior>,
    /// The simulator; all its random numbers follow from the seed.
    pub simulator: Box<dyn Simulator>,
}

/// What `task` asks for. `open` is called for a simulator that runs on a device.
///
/// # Errors
/// [`CommandError`] naming file and key of what is wrong, or what `open` says.
pub fn simulation(
    task: &Task,
    seed: u64,
    open: impl FnOnce() -> Result<Engine, CommandError>,
) -> Result<Simulation, CommandError> {
    let Some(section) = &task.simulator else {
        let expected = "a section [simulator] with a function in WGSL or a command (docs/simulators.md)";
        let place = Place { file: task.file.clone(), line: 1 };
        return Err(TaskError::Missing { place, key: "simulator".into(), expected }.into());
    };
    let (dim, n_observed) = (task.parameters.len(), section.observed.len());
    let simulator: Box<dyn Simulator> = match &section.source {
        SimulatorSource::Wgsl { path, data } => {
            let program = SimulatorProgram::new(&source(task, "simulator", path, data.as_deref())?)?;
            let parameters = parameters(task)?;
            let simulator = WgslSimulator::new(&open()?, &program, &parameters, seed);
            Box::new(simulator.map_err(|e| of(&task.file, e))?)
        }
        SimulatorSource::Command { command, folder, settings } => {
            let simulator = CommandSimulator::start(command, dim, n_observed, folder, settings.clone(), seed);
            Box::new(simulator.map_err(|e| of(&task.file, e))?)
        }
    };
    let label = |p: &crate::task::ParameterSection| p.label.clone().unwrap_or_else(|| p.name.clone());
    Ok(Simulation {
        names: task.parameters.iter().map(|p| p.name.clone()).collect(),
        labels: task.parameters.iter().map(label).collect(),
        observed: section.observed.clone(),
        prior: Box::new(prior_of(task)?),
        simulator,
    })
}
