//! The corner plot of the report page: several clouds of points over each other, the prior on the diagonal, true values as
//! crossing lines. Densities, contour levels and axes are those of the PNG corner plot.

mod panels;

use super::chart::{Drawing, Key, TICK_TEXT, drawing, legend, legend_size, units};
use super::ink::Ink;
use crate::axis::{Span, Ticks, ticks};
use crate::density::{Cloud, Density1, Walls, common_ess, density_1};
use crate::{FigureAxis, FigureError, MAX_CORNER_PARAMETERS};
use lwflow_host::prior::Marginal;
use panels::{diagonal, furniture, pair};

const GAP: f64 = 8.0;
const LEFT: f64 = 70.0;
const BOTTOM: f64 = 52.0;
const MARGIN: f64 = 10.0;
/// Share of the weight beyond each end of an axis.
const CUT: f64 = 5e-4;

/// How a layer is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerStyle {
    /// Filled contours.
    Area,
    /// Contours as lines.
    Lines,
    /// Single points; nothing on the diagonal.
    Dots,
}

/// A cloud of points.
#[derive(Debug, Clone)]
pub struct CornerLayer {
    /// Its name in the legend.
    pub name: String,
    /// Its ink.
    pub ink: Ink,
    /// How it is drawn.
    pub style: LayerStyle,
    /// Values for each axis, `[n]` each; `None` where it does not know the quantity.
    pub columns: Vec<Option<Vec<f64>>>,
    /// Weights, `[n]`, of any sum; equal if absent.
    pub weights: Option<Vec<f64>>,
}

/// An axis with what is known of its quantity before any fit.
#[derive(Debug, Clone)]
pub struct CornerAxis {
    /// Label and bounds.
    pub axis: FigureAxis,
    /// Its prior, where it has one of its own.
    pub prior: Option<Marginal>,
    /// Its true value.
    pub truth: Option<f64>,
}

struct Column<'a> {
    axis: &'a CornerAxis,
    span: Span,
    walls: Walls,
    ticks: Ticks,
}

struct Layer<'a> {
    input: &'a CornerLayer,
    cloud: Cloud,
    /// Column of the cloud for each axis.
    at: Vec<Option<usize>>,
    /// Density of each axis that it knows.
    alone: Vec<Option<Density1>>,
}

/// Draws the first [`MAX_CORNER_PARAMETERS`] axes; later layers lie over earlier ones.
///
/// # Errors
/// [`FigureError::Shape`] if there is no axis or a layer does not fit them; [`FigureError::Draw`].
pub fn corner(axes: &[CornerAxis], layers: &[CornerLayer]) -> Result<Drawing, FigureError> {
    check(axes.len(), layers)?;
    let n = axes.len().min(MAX_CORNER_PARAMETERS);
    let side = match n {
        1 => 420.0,
        2 => 290.0,
        3 => 225.0,
        4 => 185.0,
        5 => 155.0,
        6..=7 => 122.0,
        _ => 96.0,
    };
    let mut layers: Vec<Layer<'_>> = layers.iter().map(|layer| known(layer, n)).collect();
    let columns: Vec<Column<'_>> =
        axes[..n].iter().enumerate().map(|(i, axis)| column(axis, i, &layers, side)).collect();
    let clouds: Vec<&Cloud> = layers.iter().map(|l| &l.cloud).collect();
    let n_effective = common_ess(&clouds);
    for layer in &mut layers {
        layer.alone = (0..n)
            .map(|i| {
                Some(density_1(&layer.cloud, layer.at[i]?, columns[i].span, columns[i].walls, n_effective))
            })
            .collect();
    }
    let entries = entries(&columns, &layers);
    let extent = n as f64 * (side + GAP) - GAP;
    let key = legend_size(&entries);
    // The legend stands in the empty corner, right of the panels of as many rows as it is high, or above if it is too wide.
    let rows = ((key.1 + MARGIN) / (side + GAP)).ceil();
    let beside = LEFT + rows * (side + GAP) + GAP;
    let in_corner = key.0 <= LEFT + extent - beside;
    let top = if in_corner { MARGIN } else { MARGIN + key.1 + 6.0 };
    let width = LEFT + if in_corner { extent } else { extent.max(key.0) } + MARGIN + 6.0;
    let height = top + extent + BOTTOM;
    drawing(width, height, |root| {
        for i in 0..n {
            for j in 0..=i {
                let place = (LEFT + j as f64 * (side + GAP), top + i as f64 * (side + GAP));
                let area = root.clone().shrink((units(place.0), units(place.1)), (units(side), units(side)));
                if i == j {
                    diagonal(&area, &columns[i], &layers, i)?;
                } else {
                    pair(&area, &columns, &layers, (j, i), n_effective, n)?;
                }
                furniture(root, place, side, &columns, (i, j), n)?;
            }
        }
        legend(root, (if in_corner { beside } else { LEFT }, MARGIN - 4.0), &entries)
    })
}

fn check(n_axes: usize, layers: &[CornerLayer]) -> Result<(), FigureError> {
    if n_axes == 0 {
        return Err(FigureError::Shape { what: "axes".into(), got: 0, expected: "at least 1".into() });
    }
    for layer in layers {
        let n = layer.columns.iter().flatten().map(Vec::len).next().unwrap_or(0);
        let lengths = layer.columns.iter().flatten().map(Vec::len).chain(layer.weights.iter().map(Vec::len));
        let wrong = lengths.into_iter().find(|length| *length != n);
        let wrong = wrong.or((layer.columns.len() != n_axes).then_some(layer.columns.len()));
        if let Some(got) = wrong {
            let expected = format!("{n_axes} columns of {n} values, and as many weights");
            return Err(FigureError::Shape { what: format!("layer {}", layer.name), got, expected });
        }
    }
    Ok(())
}

/// The cloud of those of the first `n` columns that a layer knows.
fn known(input: &CornerLayer, n: usize) -> Layer<'_> {
    let mut at = Vec::with_capacity(n);
    let mut columns: Vec<&Vec<f64>> = Vec::new();
    for column in &input.columns[..n] {
        at.push(column.as_ref().map(|_| columns.len()));
        columns.extend(column);
    }
    let n_rows = columns.first().map_or(0, |c| c.len());
    let rows: Vec<f64> = (0..n_rows).flat_map(|i| columns.iter().map(move |c| c[i])).collect();
    let cloud = Cloud::new(&rows, columns.len(), columns.len(), input.weights.as_deref());
    Layer { input, cloud, at, alone: Vec::new() }
}

fn column<'a>(axis: &'a CornerAxis, i: usize, layers: &[Layer<'_>], side: f64) -> Column<'a> {
    let ranges = layers.iter().filter_map(|layer| layer.cloud.range(layer.at[i]?, CUT));
    let ends = ranges.chain(axis.truth.map(|x| (x, x))).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
    let (low, high) = ends.unwrap_or((f64::NAN, f64::NAN));
    let span = Span::around(low, high).padded(0.06).within(&axis.axis);
    let walls = (axis.axis.lower == Some(span.low), axis.axis.upper == Some(span.high));
    // Two or more ticks clear of the corners, where they would meet those of the neighbours.
    let inner = |n: usize| {
        let all = ticks(span, n);
        let keep: Vec<usize> =
            (0..all.values.len()).filter(|&k| (0.09..0.91).contains(&span.share(all.values[k]))).collect();
        all.only(&keep)
    };
    let fits = |t: &Ticks| {
        let longest = t.labels.iter().map(|l| l.to_string().chars().count()).max().unwrap_or(0) as f64;
        let spacing = t.values.windows(2).map(|p| (p[1] - p[0]) / span.extent() * side).next();
        spacing.is_some_and(|s| s > longest * 0.65 * TICK_TEXT + 5.0)
    };
    let wanted = if side > 200.0 { 5 } else { 3 };
    let ticks = (2..=wanted + 2).rev().map(inner).find(|t| t.values.len() <= wanted && fits(t));
    Column { axis, span, walls, ticks: ticks.unwrap_or_else(|| inner(2)) }
}

fn entries(columns: &[Column<'_>], layers: &[Layer<'_>]) -> Vec<(Key, String)> {
    let mut entries: Vec<(Key, String)> = layers
        .iter()
        .map(|layer| {
            let key = match layer.input.style {
                LayerStyle::Area => Key::Area(layer.input.ink),
                LayerStyle::Lines => Key::Line(layer.input.ink),
                LayerStyle::Dots => Key::Dots(layer.input.ink),
            };
            (key, layer.input.name.clone())
        })
        .collect();
    if columns.iter().any(|c| c.axis.prior.is_some()) {
        entries.push((Key::Line(Ink::PRIOR), "prior (on the diagonal)".to_owned()));
    }
    if columns.iter().any(|c| c.axis.truth.is_some()) {
        entries.push((Key::Line(Ink::TEXT), "true values".to_owned()));
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Label;

    fn axis(label: &str) -> CornerAxis {
        CornerAxis { axis: FigureAxis::new(Label::latex(label)), prior: None, truth: None }
    }

    /// Points that fill a ring evenly.
    pub(super) fn ring(n: usize) -> Vec<Option<Vec<f64>>> {
        // Radii from 0.8 to 1.2 on a spiral that fills the ring evenly.
        let at = |i: usize| {
            let radius = 0.8 + 0.4 * (i as f64 * 0.618_033_988_749_895).fract();
            (radius, i as f64 / n as f64 * std::f64::consts::TAU * 37.0)
        };
        let x = (0..n).map(|i| at(i).0 * at(i).1.cos()).collect();
        let y = (0..n).map(|i| at(i).0 * at(i).1.sin()).collect();
        vec![Some(x), Some(y)]
    }

    #[test]
    fn layers_with_less_knowledge_and_marks_are_drawn() {
        let columns = ring(3000);
        let layer = |name: &str, ink, style| CornerLayer {
            name: name.into(),
            ink,
            style,
            columns: columns.clone(),
            weights: None,
        };
        let mut less = layer("<b>less</b>", Ink::PURPLE, LayerStyle::Lines);
        less.columns[1] = None;
        let layers =
            [layer("flow", Ink::BLUE, LayerStyle::Area), layer("draws", Ink::GREEN, LayerStyle::Dots), less];
        let mut axes = [axis(r"\theta_1"), axis("b")];
        axes[0].truth = Some(0.25);
        axes[1].prior = Some(Marginal::Normal { mean: 0.0, sd: 1.0 });
        let svg = corner(&axes, &layers).unwrap().elements;
        for part in ["θ<tspan", "var(--blue)", "<circle", "&lt;b&gt;less", "true values", "prior (on the"] {
            assert!(svg.contains(part), "no {part}");
        }
        assert!(svg.len() < 150_000, "{}", svg.len());
        let message = corner(&axes[..1], &layers).unwrap_err().to_string();
        assert!(message.contains("layer flow"), "{message}");
        // Nothing to show is no error.
        let none = CornerLayer { columns: vec![Some(Vec::new()), None], ..layers[0].clone() };
        assert!(corner(&axes, &[none]).unwrap().elements.contains("<polyline"));
    }
}
