//! The report page: one HTML file for people, made from the folders of results alone. Nothing in it is computed anew that a
//! fit has written; machine-readable figures stay in the JSON files.
//! Invariant: the page refers to nothing outside itself, and every text that comes from a file is escaped.

mod calibration;
mod folder;
mod panels;
mod tables;
mod truncated;
mod words;

pub use calibration::of_calibration;
pub use folder::read_folder_model;

use crate::exit::{CommandError, Status};
use folder::ResultFolder;
use lwflow_figures::vector::Drawing;
use minijinja::{AutoEscape, Environment, Value, context};
use std::path::Path;
use tables::Table;
use words::Verdict;

/// Name of the page in the folder of results.
pub const PAGE_FILE: &str = "report.html";
/// The pages, and what they share.
const TEMPLATES: [(&str, &str); 4] = [
    ("report.html", include_str!("../assets/report.html")),
    ("calibration.html", include_str!("../assets/calibration.html")),
    ("parts.html", include_str!("../assets/parts.html")),
    ("style.css", include_str!("../assets/style.css")),
];

/// A figure, or why there is none.
#[derive(Debug)]
struct Figure {
    /// Unique on the page.
    id: String,
    title: String,
    /// What it shows, for those who do not see it; and what it says, below it.
    description: String,
    drawing: Option<Drawing>,
    /// Why there is no drawing.
    missing: String,
}

impl From<&Figure> for Value {
    fn from(figure: &Figure) -> Self {
        let drawing = figure.drawing.as_ref().map(|d| {
            let elements = d.elements.as_str();
            context! { width => d.width, height => d.height, elements }
        });
        let Figure { id, title, description, missing, .. } = figure;
        context! { id, title, description, missing, drawing }
    }
}

impl Figure {
    fn new(id: &str, title: &str, drawn: Result<(Drawing, String), String>) -> Self {
        let (drawing, description, missing) = match drawn {
            Ok((drawing, description)) => (Some(drawing), description, String::new()),
            Err(missing) => (None, String::new(), missing),
        };
        Self { id: id.into(), title: title.into(), description, drawing, missing }
    }
}

/// Everything about one folder.
#[derive(Debug)]
struct RunPart {
    /// Tells its figures from those of the others.
    number: usize,
    name: String,
    folder: String,
    verdict: Verdict,
    figures: Vec<Figure>,
    modes: Table,
    error_bars: Option<Table>,
    comparison: Option<Table>,
    truncated: Option<Table>,
    calibration: Option<Value>,
    manifest: Table,
    settings: String,
}

impl From<&RunPart> for Value {
    fn from(run: &RunPart) -> Self {
        let RunPart { number, name, folder, verdict, calibration, settings, .. } = run;
        let figures: Value = run.figures.iter().collect();
        let error_bars = run.error_bars.as_ref().map(Value::from);
        let comparison = run.comparison.as_ref().map(Value::from);
        let truncated = run.truncated.as_ref().map(Value::from);
        let (modes, manifest) = (Value::from(&run.modes), Value::from(&run.manifest));
        context! {
            number, name, folder, verdict, figures, modes, error_bars, comparison, truncated, calibration, manifest,
            settings
        }
    }
}

/// The page of these folders; of several, the corner plot of the first shows all.
///
/// # Errors
/// [`Status::Input`] for a folder that holds no result or a damaged file, naming it.
pub fn of_folders(folders: &[&Path]) -> Result<String, CommandError> {
    let folders: Vec<ResultFolder> =
        folders.iter().map(|folder| ResultFolder::read(folder)).collect::<Result<_, _>>()?;
    let corner = Figure::new("corner", "Corner plot", panels::corner_plot(&folders));
    let runs: Vec<RunPart> = folders.iter().enumerate().map(|(k, folder)| run_part(k, folder)).collect();
    let title = folders.iter().map(|f| f.name.as_str()).collect::<Vec<_>>().join(", ");
    render(&title, &corner, &runs).map_err(page_failed)
}

fn run_part(number: usize, folder: &ResultFolder) -> RunPart {
    let id = |name: &str| format!("{name}-{number}");
    let mut figures = vec![
        Figure::new(&id("weights"), "Weights", panels::weights_panel(folder)),
        Figure::new(&id("density"), "Target against flow", panels::densities(folder)),
    ];
    if folder.is_rounds() {
        figures.push(Figure::new(&id("rounds"), "The path of the rounds", panels::rounds(folder)));
    }
    figures.push(Figure::new(&id("training"), "Training", panels::training(folder)));
    RunPart {
        number,
        name: folder.name.clone(),
        folder: folder.path.display().to_string(),
        verdict: words::verdict(folder),
        figures,
        modes: tables::modes(folder),
        error_bars: tables::error_bars(folder),
        comparison: tables::comparison(folder),
        truncated: truncated::table(folder),
        calibration: calibration::of_run(folder, number),
        manifest: tables::manifest(folder),
        settings: tables::settings(folder),
    }
}

fn page_failed(error: minijinja::Error) -> CommandError {
    CommandError::new(Status::Other, format!("the page cannot be made: {error:#}"))
}

fn environment() -> Result<Environment<'static>, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.set_undefined_behavior(minijinja::UndefinedBehavior::Strict);
    for (name, template) in TEMPLATES {
        environment.add_template(name, template)?;
    }
    Ok(environment)
}

fn render(title: &str, corner: &Figure, runs: &[RunPart]) -> Result<String, minijinja::Error> {
    let version = env!("CARGO_PKG_VERSION");
    let runs: Value = runs.iter().collect();
    environment()?.get_template("report.html")?.render(context! { title, corner, runs, version })
}
