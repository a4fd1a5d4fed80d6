//! The corner plot of the report page: several clouds of points over each other, the prior on the diagonal, true values as
//! crossing lines. Densities, contour levels and axes are those of the PNG corner plot.

use super::chart::{
    Area, Drawing, Key, LABEL_TEXT, TICK_TEXT, drawing, failed, legend, marked, stroke, text, units,
};
use super::ink::Ink;
use crate::figures::axis::{Span, Ticks, ticks, with_note};
use crate::figures::contour::contours;
use crate::figures::density::{Cloud, Density1, Density2, LEVELS, Walls, common_ess, density_1, density_2};
use crate::figures::geometry::simplified;
use crate::figures::{FigureAxis, FigureError, MAX_CORNER_PARAMETERS};
use lwflow_host::prior::Marginal;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

const GAP: f64 = 8.0;
const LEFT: f64 = 70.0;
const BOTTOM: f64 = 52.0;
const MARGIN: f64 = 10.0;
/// Dots of all panels together: more would make the page slow.
const N_DOTS: usize = 6000;
/// Share of the weight beyond each end of an axis.
const CUT: f64 = 5e-4;
/// By how much of a panel's side a contour may be off.
const TOLERANCE: f64 = 8e-4;

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

type Coordinates = Cartesian2d<RangedCoordf64, RangedCoordf64>;
type Plot<'a> = DrawingArea<SVGBackend<'a>, Coordinates>;

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
    let key_height = 20.0 * entries.len() as f64 + 6.0;
    // The empty corner holds the legend where it is large enough.
    let in_corner = n > 2 || (n == 2 && key_height < side);
    let top = if in_corner { MARGIN } else { MARGIN + key_height };
    let (width, height) = (LEFT + extent + MARGIN + 6.0, top + extent + BOTTOM);
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
        let x = if in_corner { LEFT + side + 3.0 * GAP } else { LEFT };
        legend(root, (x, MARGIN - 4.0), &entries)
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

/// Data coordinates on the whole of an area.
fn plot<'a>(area: &Area<'a>, x: Span, y: Span) -> Plot<'a> {
    let (width, height) = area.dim_in_pixel();
    let (left, top) = area.get_base_pixel();
    let ends = (left..left + width as i32, top..top + height as i32);
    area.apply_coord_spec(Cartesian2d::new(x.low..x.high, y.low..y.high, ends))
}

fn diagonal(area: &Area<'_>, column: &Column<'_>, layers: &[Layer<'_>], i: usize) -> Result<(), FigureError> {
    let shown = || layers.iter().filter(|l| l.input.style != LayerStyle::Dots && !l.cloud.is_empty());
    let densities = || shown().filter_map(|layer| Some((layer, layer.alone[i].as_ref()?)));
    let peak = densities().flat_map(|(_, d)| &d.values).copied().fold(0.0, f64::max);
    let span = column.span;
    if peak <= 0.0 {
        return Ok(());
    }
    let plot = plot(area, span, Span { low: 0.0, high: peak / 0.93 });
    for (layer, density) in densities() {
        let n = density.values.len() as f64;
        let at = |k: usize| span.low + span.extent() * (k as f64 + 0.5) / n;
        let curve: Vec<(f64, f64)> = density.values.iter().enumerate().map(|(k, v)| (at(k), *v)).collect();
        let curve = thin_curve(&curve, span, peak);
        let ink = layer.input.ink;
        if layer.input.style == LayerStyle::Area {
            let mut area = curve.clone();
            area.extend([(span.high, 0.0), (span.low, 0.0)]);
            plot.draw(&Polygon::new(area, ink.rgb().mix(0.3).filled())).map_err(failed)?;
        }
        plot.draw(&PathElement::new(curve, stroke(ink, 1.5))).map_err(failed)?;
    }
    if let Some(prior) = column.axis.prior {
        let curve = (0..=100).map(|k| {
            let x = span.low + span.extent() * f64::from(k) / 100.0;
            (x, prior.log_density(x).exp())
        });
        let curve: Vec<(f64, f64)> =
            curve.filter(|p| p.1.is_finite()).map(|(x, p)| (x, p.min(peak / 0.93))).collect();
        plot.draw(&PathElement::new(thin_curve(&curve, span, peak), stroke(Ink::PRIOR, 1.5)))
            .map_err(failed)?;
    }
    if let Some(x) = column.axis.truth {
        let ends = vec![(x, 0.0), (x, peak / 0.93)];
        plot.draw(&PathElement::new(ends, stroke(Ink::TEXT, 1.0))).map_err(failed)?;
    }
    Ok(())
}

/// A curve without the points that a straight line would hit anyway.
fn thin_curve(curve: &[(f64, f64)], span: Span, peak: f64) -> Vec<(f64, f64)> {
    let shares: Vec<(f64, f64)> = curve.iter().map(|(x, y)| (span.share(*x), y / peak)).collect();
    let back = simplified(&shares, TOLERANCE).into_iter();
    back.map(|(x, y)| (span.low + x * span.extent(), y * peak)).collect()
}

fn pair(
    area: &Area<'_>,
    columns: &[Column<'_>],
    layers: &[Layer<'_>],
    (x, y): (usize, usize),
    n_effective: f64,
    n: usize,
) -> Result<(), FigureError> {
    let spans = (columns[x].span, columns[y].span);
    let plot = plot(area, spans.0, spans.1);
    for layer in layers.iter().filter(|l| !l.cloud.is_empty()) {
        let (Some(cx), Some(cy)) = (layer.at[x], layer.at[y]) else { continue };
        let ink = layer.input.ink;
        if layer.input.style == LayerStyle::Dots {
            let each = (N_DOTS / (n * (n - 1) / 2)).min(700);
            let every = layer.cloud.weights.len().div_ceil(each).max(1);
            let dot = |p: (f64, f64)| Circle::new(p, units(1.1), ink.rgb().mix(0.8).filled());
            let both = layer.cloud.columns[cx].iter().copied().zip(layer.cloud.columns[cy].iter().copied());
            for p in both.step_by(every) {
                if (0.0..=1.0).contains(&spans.0.share(p.0)) && (0.0..=1.0).contains(&spans.1.share(p.1)) {
                    plot.draw(&dot(p)).map_err(failed)?;
                }
            }
            continue;
        }
        let (Some(alone_x), Some(alone_y)) = (&layer.alone[x], &layer.alone[y]) else { continue };
        let walls = (columns[x].walls, columns[y].walls);
        let density = density_2(&layer.cloud, (cx, cy), spans, walls, (alone_x, alone_y), n_effective);
        let at =
            |(u, v): (f64, f64)| (spans.0.low + u * spans.0.extent(), spans.1.low + v * spans.1.extent());
        // The outer area first, the inner one over it.
        for share in LEVELS.iter().rev() {
            let level = density.level(*share);
            if layer.input.style == LayerStyle::Area {
                let region: Vec<(f64, f64)> = region(&density, level).into_iter().map(at).collect();
                plot.draw(&Polygon::new(region, ink.rgb().mix(0.3).filled())).map_err(failed)?;
            }
            for line in contours(&density.values, (density.n, density.n), level) {
                let points: Vec<(f64, f64)> = simplified(&line, TOLERANCE).into_iter().map(at).collect();
                plot.draw(&PathElement::new(points, stroke(ink, 1.3))).map_err(failed)?;
            }
        }
    }
    truth_lines(&plot, columns, (x, y))
}

/// Everything above a level as one polygon: its loops one after the other, joined by ways that are gone both there and
/// back. The page fills polygons by the rule of even and odd, so that these enclose nothing and holes stay open.
fn region(density: &Density2, level: f64) -> Vec<(f64, f64)> {
    let n = density.n;
    let wide = n + 2;
    // A rim of zeros closes every line.
    let mut padded = vec![0.0; wide * wide];
    for j in 0..n {
        padded[(j + 1) * wide + 1..][..n].copy_from_slice(&density.values[j * n..][..n]);
    }
    let share = |s: f64| ((s * wide as f64 - 1.0) / n as f64).clamp(0.0, 1.0);
    let mut polygon = Vec::new();
    let mut first = None;
    for line in contours(&padded, (wide, wide), level) {
        let line: Vec<(f64, f64)> = line.into_iter().map(|(u, v)| (share(u), share(v))).collect();
        polygon.extend(simplified(&line, TOLERANCE));
        polygon.push(*first.get_or_insert(line[0]));
    }
    polygon
}

fn truth_lines(plot: &Plot<'_>, columns: &[Column<'_>], (x, y): (usize, usize)) -> Result<(), FigureError> {
    let truth = (columns[x].axis.truth, columns[y].axis.truth);
    let (sx, sy) = (columns[x].span, columns[y].span);
    let mut lines = Vec::new();
    lines.extend(truth.0.map(|x| vec![(x, sy.low), (x, sy.high)]));
    lines.extend(truth.1.map(|y| vec![(sx.low, y), (sx.high, y)]));
    for ends in lines {
        plot.draw(&PathElement::new(ends, stroke(Ink::TEXT, 0.8))).map_err(failed)?;
    }
    if let (Some(x), Some(y)) = truth {
        let half = units(2.6);
        let square = [(-half, -half), (half, half)];
        let mark = EmptyElement::at((x, y)) + Rectangle::new(square, Ink::TEXT.rgb().filled());
        plot.draw(&mark).map_err(failed)?;
    }
    Ok(())
}

/// Frame, ticks and labels of a panel.
fn furniture(
    root: &Area<'_>,
    (left, top): (f64, f64),
    side: f64,
    columns: &[Column<'_>],
    (i, j): (usize, usize),
    n: usize,
) -> Result<(), FigureError> {
    let line = |points: &[(f64, f64)]| {
        let points: Vec<(i32, i32)> = points.iter().map(|(x, y)| (units(*x), units(*y))).collect();
        root.draw(&PathElement::new(points, stroke(Ink::TEXT, 1.0))).map_err(failed)
    };
    let (right, bottom) = (left + side, top + side);
    line(&[(left, top), (right, top), (right, bottom), (left, bottom), (left, top)])?;
    let say = |words: &str, (x, y): (f64, f64), style: TextStyle<'_>| {
        root.draw(&Text::new(words.to_owned(), (units(x), units(y)), style)).map_err(failed)
    };
    let (x, y) = (&columns[j], &columns[i]);
    let below = (HPos::Center, VPos::Top);
    for (value, label) in x.ticks.values.iter().zip(&x.ticks.labels) {
        let at = left + x.span.share(*value) * side;
        line(&[(at, bottom), (at, bottom + 4.0)])?;
        if i == n - 1 {
            say(&marked(label), (at, bottom + 8.0), text(TICK_TEXT, Ink::TEXT, below))?;
        }
    }
    if i == n - 1 {
        let label = marked(&with_note(&x.axis.axis.label, &x.ticks));
        say(&label, (left + 0.5 * side, bottom + 26.0), text(LABEL_TEXT, Ink::TEXT, below))?;
    }
    let upright = || text(LABEL_TEXT, Ink::TEXT, below).transform(FontTransform::Rotate270);
    if i != j {
        for (value, label) in y.ticks.values.iter().zip(&y.ticks.labels) {
            let at = bottom - y.span.share(*value) * side;
            line(&[(left - 4.0, at), (left, at)])?;
            if j == 0 {
                let style = text(TICK_TEXT, Ink::TEXT, (HPos::Right, VPos::Center));
                say(&marked(label), (left - 8.0, at), style)?;
            }
        }
        if j == 0 {
            let label = marked(&with_note(&y.axis.axis.label, &y.ticks));
            say(&label, (6.0, top + 0.5 * side), upright())?;
        }
    } else if n == 1 {
        say("density", (left - 34.0, top + 0.5 * side), upright())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Label;

    fn axis(label: &str) -> CornerAxis {
        CornerAxis { axis: FigureAxis::new(Label::latex(label)), prior: None, truth: None }
    }

    fn ring(n: usize) -> Vec<Option<Vec<f64>>> {
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
    fn a_ring_keeps_its_hole() {
        let cloud = |columns: &[Option<Vec<f64>>]| {
            let (x, y) = (columns[0].as_ref().unwrap(), columns[1].as_ref().unwrap());
            let rows: Vec<f64> = x.iter().zip(y).flat_map(|(x, y)| [*x, *y]).collect();
            Cloud::new(&rows, 2, 2, None)
        };
        let cloud = cloud(&ring(20_000));
        let span = Span { low: -1.6, high: 1.6 };
        let alone = density_1(&cloud, 0, span, (false, false), cloud.ess());
        let walls = ((false, false), (false, false));
        let density = density_2(&cloud, (0, 1), (span, span), walls, (&alone, &alone), cloud.ess());
        let polygon = region(&density, density.level(LEVELS[1]));
        // Even-odd rule: crossings of a ray to the right.
        let inside = |u: f64, v: f64| {
            let ends = polygon.iter().zip(polygon.iter().cycle().skip(1));
            let crossed = ends
                .filter(|(a, b)| (a.1 > v) != (b.1 > v) && u < a.0 + (v - a.1) / (b.1 - a.1) * (b.0 - a.0));
            crossed.count() % 2 == 1
        };
        assert!(!inside(0.5, 0.5013) && inside(span.share(1.0), 0.5013) && inside(0.5013, span.share(-1.0)));
        assert!(!inside(0.02, 0.0313) && polygon.len() < 400, "{}", polygon.len());
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
