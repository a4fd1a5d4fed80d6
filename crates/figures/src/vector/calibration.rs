//! The panels of a calibration for the page.

use super::chart::{
    AxisSpec, Drawing, LABEL_TEXT, drawing, failed, line, marked, panel, stroke, text, units,
};
use super::ink::Ink;
use crate::FigureError;
use crate::calibration::{CalibrationPanel, grid};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

const WIDTH: f64 = 430.0;
const HEIGHT: f64 = 280.0;
/// Room for the labels of y.
const LEFT: f64 = 66.0;
/// Room for the title.
const TOP: f64 = 22.0;

/// Draws panels in rows of `columns`.
///
/// # Errors
/// [`FigureError::Draw`], or [`FigureError::Shape`] without a panel.
pub fn calibration_panels(panels: &[CalibrationPanel], columns: usize) -> Result<Drawing, FigureError> {
    let (columns, rows) = grid(panels.len(), columns)?;
    drawing(WIDTH * columns as f64, HEIGHT * rows as f64, |root| {
        for (k, one) in panels.iter().enumerate() {
            let corner = (units(WIDTH * (k % columns) as f64), units(HEIGHT * (k / columns) as f64));
            let area = root.clone().shrink(corner, (units(WIDTH), units(HEIGHT)));
            let style = text(LABEL_TEXT, Ink::TEXT, (HPos::Center, VPos::Top));
            let middle = (units(0.5 * (WIDTH + LEFT)), units(4.0));
            area.draw(&Text::new(marked(&one.title), middle, style)).map_err(failed)?;
            let below = area.shrink((0, units(TOP)), (units(WIDTH), units(HEIGHT - TOP)));
            let x = AxisSpec::linear(one.x, one.x_span(), 6);
            let y = AxisSpec::linear(one.y, one.span(), 5);
            let mut chart = panel(&below, &x, &y, LEFT)?;
            let upper = one.band.iter().map(|b| (b[0], b[2]));
            let lower = one.band.iter().rev().map(|b| (b[0], b[1]));
            let band: Vec<(f64, f64)> = upper.chain(lower).collect();
            if band.len() > 2 {
                let fill = Ink::FAINT.rgb().mix(0.25).filled();
                chart.draw_series(std::iter::once(Polygon::new(band, fill))).map_err(failed)?;
            }
            for [from, to, height] in &one.bars {
                let base = y.span.low.max(0.0);
                let outline = [(*from, base), (*from, *height), (*to, *height), (*to, base)];
                line(&mut chart, (&x, &y), &outline, stroke(Ink::BLUE, 1.6))?;
            }
            line(&mut chart, (&x, &y), &one.expected, stroke(Ink::TRUTH, 1.2))?;
            line(&mut chart, (&x, &y), &one.curve, stroke(Ink::VERMILION, 1.8))?;
        }
        Ok(())
    })
}
