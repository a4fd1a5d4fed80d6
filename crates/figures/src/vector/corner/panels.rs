//! The panels of a corner plot: densities, contours and dots in data coordinates, and the furniture around them.

use super::{Column, Layer, LayerStyle};
use crate::FigureError;
use crate::axis::{Span, with_note};
use crate::contour::contours;
use crate::density::{Density2, LEVELS, density_2};
use crate::geometry::simplified;
use crate::vector::chart::{Area, LABEL_TEXT, TICK_TEXT, failed, marked, stroke, text, units};
use crate::vector::ink::Ink;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

/// Dots of all panels together: more would make the page slow.
const N_DOTS: usize = 6000;
/// By how much of a panel's side a contour may be off.
const TOLERANCE: f64 = 8e-4;

type Coordinates = Cartesian2d<RangedCoordf64, RangedCoordf64>;
type Plot<'a> = DrawingArea<SVGBackend<'a>, Coordinates>;

/// Data coordinates on the whole of an area.
fn plot<'a>(area: &Area<'a>, x: Span, y: Span) -> Plot<'a> {
    let (width, height) = area.dim_in_pixel();
    let (left, top) = area.get_base_pixel();
    // Upwards on the page is downwards in its units.
    let ends = (left..left + width as i32, top + height as i32..top);
    area.apply_coord_spec(Cartesian2d::new(x.low..x.high, y.low..y.high, ends))
}

pub(super) fn diagonal(
    area: &Area<'_>,
    column: &Column<'_>,
    layers: &[Layer<'_>],
    i: usize,
) -> Result<(), FigureError> {
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

pub(super) fn pair(
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
            let (radius, opacity) = if n > 4 { (0.8, 0.45) } else { (1.1, 0.7) };
            let dot = |p: (f64, f64)| Circle::new(p, units(radius), ink.rgb().mix(opacity).filled());
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
pub(super) fn furniture(
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
    use crate::density::{Cloud, density_1};
    use crate::vector::corner::tests::ring;

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
}
