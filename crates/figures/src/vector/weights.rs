//! What weights look like: their histogram with the tail that was fitted, and the two densities whose ratio they are.

use super::chart::{AxisSpec, Drawing, Key, drawing, failed, legend, line, panel, stroke, units};
use super::ink::Ink;
use crate::FigureError;
use crate::axis::Span;
use lwflow_host::weights::WeightHistogram;
use plotters::prelude::*;

const WIDTH: f64 = 560.0;
const LEFT: f64 = 66.0;
/// Points of a cloud that are shown at most.
const N_SHOWN: usize = 1200;

/// Nats below the largest log weight at which the axis begins: what is lighter weighs next to nothing.
const SHOWN: f64 = 12.0;

/// Draws of positive weight that [`weight_histogram`] does not show.
pub fn n_too_light(histogram: &WeightHistogram) -> usize {
    let hidden = (0..histogram.counts.len()).take_while(|&k| histogram.edge(k) < histogram.high - SHOWN);
    histogram.n_below + hidden.map(|k| histogram.counts[k]).sum::<usize>()
}

/// Counts of log weights on an axis of powers of ten, and the Pareto tail over them.
///
/// # Errors
/// [`FigureError::Draw`].
pub fn weight_histogram(histogram: &WeightHistogram) -> Result<Drawing, FigureError> {
    let most = histogram.counts.iter().copied().max().unwrap_or(1).max(1) as f64;
    let low = histogram.low.max(histogram.high - SHOWN);
    let span = Span::around(low.min(0.0), histogram.high.max(0.0)).padded(0.03);
    let x = AxisSpec::linear("log weight, relative to the mean weight (nats)", span, 8);
    let mut y = AxisSpec::decades("draws per bin", 0.0, most.log10());
    // A bin of one draw is a bar too.
    y.span.low = -0.3;
    let log = |count: f64| count.log10().max(y.span.low);
    drawing(WIDTH, 400.0, |root| {
        let mut entries = vec![(Key::Area(Ink::BLUE), "draws".to_owned())];
        if let Some(tail) = histogram.tail {
            let name = format!("Pareto tail of the largest {}, shape {:.2}", histogram.n_tail, tail.shape);
            entries.push((Key::Line(Ink::VERMILION), name));
        }
        entries.push((Key::Line(Ink::TRUTH), "the mean weight".to_owned()));
        legend(root, (LEFT, 2.0), &entries)?;
        let top = units(20.0 * entries.len() as f64 + 4.0);
        let area = root.clone().shrink((0, top), (units(WIDTH), units(400.0) - top));
        let mut chart = panel(&area, &x, &y, LEFT)?;
        let fill = Ink::BLUE.rgb().mix(0.35).filled();
        let bins =
            histogram.counts.iter().enumerate().filter(|(k, count)| **count > 0 && histogram.edge(*k) >= low);
        let bars = bins.map(|(k, count)| {
            Rectangle::new(
                [(histogram.edge(k), y.span.low), (histogram.edge(k + 1), log(*count as f64))],
                fill,
            )
        });
        chart.draw_series(bars).map_err(failed)?;
        let steps = (0..histogram.counts.len()).flat_map(|k| {
            let height = log(histogram.counts[k] as f64);
            [(histogram.edge(k), height), (histogram.edge(k + 1), height)]
        });
        line(&mut chart, (&x, &y), &steps.collect::<Vec<_>>(), stroke(Ink::BLUE, 1.1))?;
        let mean = [(0.0, y.span.low), (0.0, y.span.high)];
        line(&mut chart, (&x, &y), &mean, stroke(Ink::TRUTH, 1.2))?;
        if let Some(tail) = histogram.tail {
            // What a bin around each place would hold.
            let width = histogram.edge(1) - histogram.edge(0);
            let curve = (0..200).filter_map(|k| {
                let at = tail.log_cutoff + (span.high - tail.log_cutoff) * f64::from(k) / 199.0;
                let held = histogram.expected(at - 0.5 * width, at + 0.5 * width)?;
                (at - 0.5 * width >= tail.log_cutoff && held > 0.0).then(|| (at, held.log10()))
            });
            line(&mut chart, (&x, &y), &curve.collect::<Vec<_>>(), stroke(Ink::VERMILION, 2.0))?;
        }
        Ok(())
    })
}

/// Points at which two log densities are known.
#[derive(Debug, Clone)]
pub struct DensityCloud {
    /// What they are.
    pub name: String,
    /// log density of the flow and of the target at each, in nats; what is not finite is not shown.
    pub points: Vec<(f64, f64)>,
}

/// The target's log density against the flow's at some points: dots for the first cloud, crosses for the second. On the
/// diagonal both agree.
///
/// # Errors
/// [`FigureError::Draw`].
pub fn density_against(clouds: &[DensityCloud], normalised: bool) -> Result<Drawing, FigureError> {
    let finite = |p: &&(f64, f64)| p.0.is_finite() && p.1.is_finite();
    let thinned = |cloud: &DensityCloud| {
        let points: Vec<(f64, f64)> = cloud.points.iter().filter(finite).copied().collect();
        let every = points.len().div_ceil(N_SHOWN).max(1);
        points.into_iter().step_by(every).collect::<Vec<_>>()
    };
    let shown: Vec<Vec<(f64, f64)>> = clouds.iter().map(thinned).collect();
    // Far outliers would squeeze all else into a corner: the axes hold all but a thousandth on each side.
    let mut values: Vec<f64> = shown.iter().flatten().flat_map(|p| [p.0, p.1]).collect();
    values.sort_by(f64::total_cmp);
    let quantile = |share: f64| values.get((share * values.len().saturating_sub(1) as f64) as usize).copied();
    let ends = (quantile(0.002).unwrap_or(f64::NAN), quantile(1.0).unwrap_or(f64::NAN));
    let span = Span::around(ends.0, ends.1).padded(0.04);
    let x = AxisSpec::linear("log density of the flow (nats)", span, 6);
    let label =
        if normalised { "log density of the target (nats)" } else { "log density of the target + constant" };
    let y = AxisSpec::linear(label, span, 6);
    drawing(WIDTH, 430.0, |root| {
        let inks = [Key::Dots(Ink::BLUE), Key::Crosses(Ink::FAINT)];
        let mut entries: Vec<(Key, String)> =
            clouds.iter().zip(inks).map(|(cloud, key)| (key, cloud.name.clone())).collect();
        entries.push((Key::Line(Ink::TRUTH), "equal densities".to_owned()));
        legend(root, (LEFT, 2.0), &entries)?;
        let top = units(20.0 * entries.len() as f64 + 4.0);
        let area = root.clone().shrink((0, top), (units(WIDTH), units(430.0) - top));
        let mut chart = panel(&area, &x, &y, LEFT)?;
        let inside = |p: &&(f64, f64)| [p.0, p.1].iter().all(|v| (span.low..=span.high).contains(v));
        for (k, points) in shown.iter().enumerate() {
            let points = points.iter().filter(inside).copied();
            if k == 0 {
                let style = Ink::BLUE.rgb().mix(0.55).filled();
                chart.draw_series(points.map(|p| Circle::new(p, units(1.7), style))).map_err(failed)?;
            } else {
                let style = stroke(Ink::FAINT, 0.8);
                chart.draw_series(points.map(|p| Cross::new(p, units(2.0), style))).map_err(failed)?;
            }
        }
        let equal = [(span.low, span.low), (span.high, span.high)];
        line(&mut chart, (&x, &y), &equal, stroke(Ink::TRUTH, 1.2))
    })
}
