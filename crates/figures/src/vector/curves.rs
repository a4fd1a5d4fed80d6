//! Curves over the course of a fit: losses and learning rate against the points visited, and the path of rounds.

use super::chart::{
    AxisSpec, Drawing, Key, Panel, SCALE, drawing, failed, legend, line, panel, stroke, text, units,
};
use super::ink::Ink;
use crate::FigureError;
use crate::axis::Span;
use crate::loss::loss_span;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

const WIDTH: f64 = 860.0;
/// Room for the labels of y.
const LEFT: f64 = 74.0;

/// The training of one flow.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TrainingCurve {
    /// The round, of a run of rounds.
    pub round: Option<usize>,
    /// Points visited, training loss, validation loss (nats) and learning rate of each row; a loss may be NaN.
    pub rows: Vec<[f64; 4]>,
}

/// Losses and, below them, learning rates, of one training after the other.
///
/// # Errors
/// [`FigureError::Draw`].
pub fn training_curves(curves: &[TrainingCurve]) -> Result<Drawing, FigureError> {
    let mut starts = Vec::new();
    let mut end = 0.0;
    for curve in curves {
        starts.push(end);
        end += curve.rows.last().map_or(0.0, |row| row[0]);
    }
    let along = |k: usize| {
        let rows = curves.iter().zip(&starts);
        rows.map(move |(curve, start)| {
            curve.rows.iter().map(|row| (start + row[0], row[k])).collect::<Vec<_>>()
        })
        .collect::<Vec<_>>()
    };
    let (training, validation, rates) = (along(1), along(2), along(3));
    let x = AxisSpec::linear("training points visited", Span::around(0.0, end), 8);
    let y = AxisSpec::linear("loss (nats)", loss_span(&training.concat(), &validation.concat()), 6);
    let rate: Vec<f64> = rates.iter().flatten().map(|p| p.1).filter(|r| *r > 0.0).collect();
    let (low, high) = rate.iter().fold((f64::INFINITY, 0.0_f64), |(a, b), r| (a.min(*r), b.max(*r)));
    // A cosine ends at nearly zero: three decades say all.
    let low = if low.is_finite() { low.max(1e-3 * high).log10() } else { -4.0 };
    let high = if high > 0.0 { high.log10() } else { -3.0 };
    let z = AxisSpec::decades("learning rate", low, high);
    drawing(WIDTH, 540.0, |root| {
        let key = root.clone().shrink((0, 0), (units(WIDTH), units(28.0)));
        let above = root.clone().shrink((0, units(28.0)), (units(WIDTH), units(322.0)));
        let below = root.clone().shrink((0, units(350.0)), (units(WIDTH), units(190.0)));
        let entries = [("training", Ink::BLUE), ("validation", Ink::VERMILION)];
        for (k, (name, ink)) in entries.into_iter().enumerate() {
            legend(&key, (LEFT + 150.0 * k as f64, 4.0), &[(Key::Line(ink), name.to_owned())])?;
        }
        let mut losses = panel(&above, &x, &y, LEFT)?;
        borders(&mut losses, &y, curves, &starts)?;
        for (curves, ink, width) in [(&training, Ink::BLUE, 1.3), (&validation, Ink::VERMILION, 1.8)] {
            for curve in curves {
                line(&mut losses, (&x, &y), curve, stroke(ink, width))?;
                if let [(at, loss)] = curve[..]
                    && loss.is_finite()
                {
                    let dot = Circle::new((at, loss), units(2.5), ink.rgb().filled());
                    losses.draw_series(std::iter::once(dot)).map_err(failed)?;
                }
            }
        }
        let mut steps = panel(&below, &x, &z, LEFT)?;
        borders(&mut steps, &z, &[], &starts)?;
        for curve in &rates {
            let logs: Vec<(f64, f64)> = curve.iter().map(|(at, rate)| (*at, rate.log10())).collect();
            line(&mut steps, (&x, &z), &logs, stroke(Ink::BLUE, 1.6))?;
        }
        Ok(())
    })
}

/// Where one training ends and the next begins, with the numbers of the rounds as far as there is room.
fn borders(
    chart: &mut Panel<'_, '_>,
    y: &AxisSpec,
    curves: &[TrainingCurve],
    starts: &[f64],
) -> Result<(), FigureError> {
    for start in starts.iter().skip(1) {
        let ends = vec![(*start, y.span.low), (*start, y.span.high)];
        chart
            .draw_series(std::iter::once(PathElement::new(ends, stroke(Ink::PRIOR, 1.0))))
            .map_err(failed)?;
    }
    let every = curves.len().div_ceil(14).max(1);
    for (curve, start) in curves.iter().zip(starts).step_by(every) {
        let Some(round) = curve.round else { continue };
        let place = (*start, y.span.high);
        let note = EmptyElement::at(place)
            + Text::new(
                format!("round {round}"),
                (units(4.0), units(5.0)),
                text(10.5, Ink::FAINT, (HPos::Left, VPos::Top)),
            );
        chart.draw_series(std::iter::once(note)).map_err(failed)?;
    }
    Ok(())
}

/// One round on its path.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct RoundPoint {
    /// Its number.
    pub round: f64,
    /// Power of the likelihood.
    pub beta: f64,
    /// Effective size of the round's own draws, at its power.
    pub fresh_ess: f64,
    /// Effective size of all points for the posterior.
    pub posterior_ess: f64,
    /// Evaluations so far.
    pub n_evaluations: f64,
    /// log Z of all points so far.
    pub log_z: f64,
    /// Its standard error; NaN if it is not known.
    pub log_z_sd: f64,
}

/// An estimate of log Z beside the path.
#[derive(Debug, Clone, PartialEq)]
pub struct EvidenceMark {
    /// What it comes from, in a word or two.
    pub name: String,
    /// log Z and its standard error.
    pub log_z: (f64, f64),
}

/// Four panels: beta, effective sizes, log Z with its errors, evaluations, round by round.
///
/// # Errors
/// [`FigureError::Draw`].
pub fn evidence_and_rounds(
    rounds: &[RoundPoint],
    target_ess: Option<f64>,
    evidence: &[EvidenceMark],
) -> Result<Drawing, FigureError> {
    let n = last_round(rounds);
    let x = round_axis(n, 0.0);
    let of = |f: fn(&RoundPoint) -> f64| rounds.iter().map(|r| (r.round, f(r))).collect::<Vec<_>>();
    let (half, height) = (WIDTH / 2.0, 262.0);
    drawing(WIDTH, 2.0 * height + 8.0, |root| {
        let area = |i: i32, j: i32| {
            let place = (i * units(half), j * units(height + 8.0));
            root.clone().shrink(place, (units(half), units(height)))
        };
        let betas = of(|r| r.beta);
        logarithmic(&area(0, 0), &x, "β, power of the likelihood", &[(&betas, Ink::BLUE, "")], None)?;
        let (own, all) = (of(|r| r.fresh_ess), of(|r| r.posterior_ess));
        let sizes = [
            (&own, Ink::BLUE, "the round's own draws, at its β"),
            (&all, Ink::VERMILION, "all points, β = 1"),
        ];
        logarithmic(&area(1, 0), &x, "effective sample size", &sizes, target_ess)?;
        log_z_panel(&area(0, 1), rounds, evidence)?;
        let evaluations = of(|r| r.n_evaluations);
        logarithmic(&area(1, 1), &x, "evaluations so far", &[(&evaluations, Ink::BLUE, "")], None)
    })
}

/// The number of the last round, which a file may say to be none.
fn last_round(rounds: &[RoundPoint]) -> f64 {
    rounds.last().map_or(1.0, |r| r.round).clamp(1.0, 1e6).max(1.0)
}

/// Whole numbers of rounds, with room for `more` at the right.
fn round_axis(n: f64, more: f64) -> AxisSpec {
    let mut x = AxisSpec::linear("round", Span { low: 0.4, high: n + 0.6 + more }, 7);
    let whole: Vec<usize> = (0..x.ticks.values.len())
        .filter(|&k| x.ticks.values[k].fract() == 0.0 && (1.0..=n).contains(&x.ticks.values[k]))
        .collect();
    x.ticks = x.ticks.only(&whole);
    for (value, label) in x.ticks.values.iter().zip(&mut x.ticks.labels) {
        *label = crate::Label::plain(format!("{value}"));
    }
    x
}

/// Points, their ink, and their name in the key, or none.
type Series<'a> = (&'a Vec<(f64, f64)>, Ink, &'a str);

/// Points joined by lines, on an axis of powers of ten; `level` is what is to be reached.
fn logarithmic(
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    x: &AxisSpec,
    label: &str,
    series: &[Series<'_>],
    level: Option<f64>,
) -> Result<(), FigureError> {
    let log = |v: f64| if v > 0.0 { v.log10() } else { f64::NAN };
    let values =
        || series.iter().flat_map(|s| s.0).map(|p| p.1).chain(level).map(log).filter(|v| v.is_finite());
    let (low, high) = values().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)));
    let (low, high) = if low <= high { (low, high) } else { (0.0, 1.0) };
    let mut y = AxisSpec::decades(label, low, high);
    // Room for the key.
    let entries: Vec<(Key, String)> =
        series.iter().filter(|s| !s.2.is_empty()).map(|s| (Key::Line(s.1), s.2.to_owned())).collect();
    let pad = 0.04 * y.span.extent();
    y.span = Span { low: y.span.low - pad, high: y.span.high + pad };
    let key_height = 20.0 * (entries.len() + usize::from(level.is_some() && !entries.is_empty())) as f64;
    let (width, height) = area.dim_in_pixel();
    let below =
        area.clone().shrink((0, units(key_height)), (width as i32, height as i32 - units(key_height)));
    let mut entries = entries;
    if level.is_some() && !entries.is_empty() {
        entries.push((Key::Line(Ink::TRUTH), "asked for by the contract".to_owned()));
    }
    legend(area, (LEFT, 0.0), &entries)?;
    let mut chart = panel(&below, x, &y, LEFT)?;
    if let Some(level) = level {
        line(
            &mut chart,
            (x, &y),
            &[(x.span.low, log(level)), (x.span.high, log(level))],
            stroke(Ink::TRUTH, 1.2),
        )?;
    }
    for (points, ink, _) in series {
        let logs: Vec<(f64, f64)> = points.iter().map(|p| (p.0, log(p.1))).collect();
        line(&mut chart, (x, &y), &logs, stroke(*ink, 1.6))?;
        markers(&mut chart, &logs, *ink)?;
    }
    Ok(())
}

/// Dots of blue and triangles of every other ink.
fn markers(chart: &mut Panel<'_, '_>, points: &[(f64, f64)], ink: Ink) -> Result<(), FigureError> {
    let finite = points.iter().copied().filter(|p| p.1.is_finite());
    let style = ink.rgb().filled();
    if ink == Ink::BLUE {
        chart.draw_series(finite.map(|p| Circle::new(p, units(3.0), style))).map_err(failed)?;
    } else {
        chart.draw_series(finite.map(|p| TriangleMarker::new(p, units(3.8), style))).map_err(failed)?;
    }
    Ok(())
}

/// log Z of all points after each round, and at the right the estimates that share no draws.
fn log_z_panel(
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    rounds: &[RoundPoint],
    evidence: &[EvidenceMark],
) -> Result<(), FigureError> {
    let n = last_round(rounds);
    // Each estimate takes the room of a label.
    let slot = (0.16 * n).max(0.5);
    let x = round_axis(n, slot * (evidence.len() as f64 + 0.3));
    let error = |sd: f64| if sd.is_finite() { sd } else { 0.0 };
    // The first rounds may be far off, and their errors large: the last half, and the estimates, make the axis.
    let late = rounds.iter().skip(rounds.len() / 2).map(|r| (r.log_z, error(r.log_z_sd)));
    let marks = evidence.iter().map(|e| e.log_z);
    let ends = late.chain(marks).filter(|e| e.0.is_finite());
    let (low, high) = ends.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), (z, sd)| {
        (a.min(z - 2.0 * sd), b.max(z + 2.0 * sd))
    });
    let y = AxisSpec::linear("log Z (nats)", Span::around(low, high).padded(0.12), 5);
    let mut chart = panel(area, &x, &y, LEFT)?;
    let inside = |z: f64| z.clamp(y.span.low, y.span.high);
    let shown = || rounds.iter().filter(|r| (y.span.low..=y.span.high).contains(&r.log_z));
    let path: Vec<(f64, f64)> = rounds.iter().map(|r| (r.round, r.log_z)).collect();
    line(&mut chart, (&x, &y), &path, stroke(Ink::BLUE, 1.4))?;
    let cap = 5 * SCALE;
    for r in shown() {
        let sd = error(r.log_z_sd);
        let bar = ErrorBar::new_vertical(
            r.round,
            inside(r.log_z - sd),
            r.log_z,
            inside(r.log_z + sd),
            stroke(Ink::BLUE, 1.2).filled(),
            cap,
        );
        chart.draw_series(std::iter::once(bar)).map_err(failed)?;
    }
    for (k, mark) in evidence.iter().enumerate() {
        let at = n + 0.6 + slot * (k as f64 + 0.5);
        let (z, sd) = (mark.log_z.0, error(mark.log_z.1));
        let bar = ErrorBar::new_vertical(
            at,
            inside(z - sd),
            z,
            inside(z + sd),
            stroke(Ink::TEXT, 1.4).filled(),
            cap,
        );
        chart.draw_series(std::iter::once(bar)).map_err(failed)?;
        let style = text(10.5, Ink::TEXT, (HPos::Left, VPos::Center)).transform(FontTransform::Rotate270);
        // At the bottom of the panel, beside the bar.
        let place = (at - 0.32 * slot, y.span.low);
        let name = EmptyElement::at(place) + Text::new(mark.name.clone(), (0, -units(6.0)), style);
        chart.draw_series(std::iter::once(name)).map_err(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_run_writes_is_drawn_as_far_as_it_can_be() {
        for odd in [-1e308, 1e308, f64::NAN, f64::INFINITY, 0.0] {
            let point = RoundPoint {
                round: odd,
                beta: odd,
                fresh_ess: odd,
                posterior_ess: odd,
                n_evaluations: odd,
                log_z: odd,
                log_z_sd: odd,
            };
            let mark = EvidenceMark { name: "odd".to_owned(), log_z: (odd, odd) };
            evidence_and_rounds(&[RoundPoint::default(), point], Some(odd), &[mark]).unwrap();
            let curve = TrainingCurve { round: Some(1), rows: vec![[odd; 4], [1.0, odd, 2.0, odd]] };
            training_curves(&[curve.clone(), curve]).unwrap();
        }
    }
}
