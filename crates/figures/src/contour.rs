//! Contour lines of a grid by marching squares (Lorensen and Cline 1987, in two dimensions), joined into connected lines.

use std::collections::HashMap;

/// An edge between two neighbouring cell centres: the lower left one, and whether the edge goes up.
type Edge = (usize, usize, bool);

/// Lines on which `values`, `(n_y, n_x)` from the bottom at cell centres, cross the level, as shares of the grid.
pub(super) fn contours(values: &[f64], (n_x, n_y): (usize, usize), level: f64) -> Vec<Vec<(f64, f64)>> {
    let mut points: HashMap<Edge, (f64, f64)> = HashMap::new();
    let mut neighbours: HashMap<Edge, Vec<Edge>> = HashMap::new();
    let mut order: Vec<Edge> = Vec::new();
    let at = |i: usize, j: usize| values[j * n_x + i];
    for j in 0..n_y.saturating_sub(1) {
        for i in 0..n_x.saturating_sub(1) {
            // Corners counter-clockwise from the lower left, and the edge that follows each.
            let corners = [(i, j), (i + 1, j), (i + 1, j + 1), (i, j + 1)];
            let edges: [Edge; 4] = [(i, j, false), (i + 1, j, true), (i, j + 1, false), (i, j, true)];
            let high = corners.map(|(a, b)| at(a, b) >= level);
            let mut crossed: Vec<Edge> = Vec::with_capacity(4);
            for (k, &edge) in edges.iter().enumerate() {
                if high[k] != high[(k + 1) % 4] {
                    crossed.push(edge);
                    points.entry(edge).or_insert_with(|| {
                        order.push(edge);
                        crossing(edge, at, level, (n_x, n_y))
                    });
                }
            }
            // At a saddle the mean decides which corners are connected.
            let mean = corners.iter().map(|&(a, b)| at(a, b)).sum::<f64>() / 4.0;
            if crossed.len() == 4 && (mean >= level) != high[0] {
                crossed.rotate_left(1);
            }
            for pair in crossed.chunks_exact(2) {
                neighbours.entry(pair[0]).or_default().push(pair[1]);
                neighbours.entry(pair[1]).or_default().push(pair[0]);
            }
        }
    }
    join(&order, &points, &neighbours)
}

fn crossing(
    (i, j, up): Edge,
    at: impl Fn(usize, usize) -> f64,
    level: f64,
    (n_x, n_y): (usize, usize),
) -> (f64, f64) {
    let (from, to) = (at(i, j), if up { at(i, j + 1) } else { at(i + 1, j) });
    let t = ((level - from) / (to - from)).clamp(0.0, 1.0);
    let t = if t.is_nan() { 0.5 } else { t };
    let (x, y) = if up { (i as f64, j as f64 + t) } else { (i as f64 + t, j as f64) };
    ((x + 0.5) / n_x as f64, (y + 0.5) / n_y as f64)
}

/// Walks from every open end, then around every loop.
fn join(
    order: &[Edge],
    points: &HashMap<Edge, (f64, f64)>,
    neighbours: &HashMap<Edge, Vec<Edge>>,
) -> Vec<Vec<(f64, f64)>> {
    let degree = |edge: &Edge| neighbours.get(edge).map_or(0, Vec::len);
    let mut left: HashMap<Edge, bool> = order.iter().map(|&edge| (edge, true)).collect();
    let mut lines = Vec::new();
    for open in [true, false] {
        for &start in order.iter().filter(|edge| !open || degree(edge) == 1) {
            if !left.get(&start).copied().unwrap_or(false) {
                continue;
            }
            let mut line = Vec::new();
            let mut next = Some(start);
            while let Some(edge) = next {
                left.insert(edge, false);
                line.extend(points.get(&edge).copied());
                let free = |e: &&Edge| left.get(*e).copied().unwrap_or(false);
                next = neighbours.get(&edge).and_then(|n| n.iter().find(free)).copied();
            }
            if !open && line.len() > 2 {
                line.extend(line.first().copied());
            }
            lines.push(line);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disc_has_one_closed_line() {
        let n = 64;
        let cone = |index: usize| {
            let (x, y) = ((index % n) as f64 + 0.5, (index / n) as f64 + 0.5);
            -(x / n as f64 - 0.5).hypot(y / n as f64 - 0.5)
        };
        let values: Vec<f64> = (0..n * n).map(cone).collect();
        let lines = contours(&values, (n, n), -0.3);
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].first(), lines[0].last());
        for &(x, y) in &lines[0] {
            assert!(((x - 0.5).hypot(y - 0.5) - 0.3).abs() < 1e-3);
        }
    }

    #[test]
    fn a_ramp_has_one_open_line() {
        let values: Vec<f64> = (0..100).map(|index| f64::from(index % 10)).collect();
        let lines = contours(&values, (10, 10), 4.5);
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].len(), 10);
        assert!(lines[0].iter().all(|(x, _)| (x - 0.5).abs() < 1e-12));
    }

    #[test]
    fn a_saddle_has_two_lines() {
        for (values, level) in [([1.0, 0.0, 0.0, 1.0], 0.4), ([1.0, 0.0, 0.0, 1.0], 0.6)] {
            assert_eq!(contours(&values, (2, 2), level).len(), 2);
        }
    }

    #[test]
    fn flat_tiny_and_undefined_grids_have_none() {
        assert!(contours(&[1.0; 9], (3, 3), 1.0).is_empty());
        assert!(contours(&[1.0], (1, 1), 0.5).is_empty());
        assert!(contours(&[f64::NAN; 16], (4, 4), 0.5).is_empty());
    }
}
