//! Rectangles of a page and lines cut to them or into dashes, in pixels with the origin at the top left. Lines may hold
//! places that are not finite; nothing that comes out does.

/// A rectangle of the page, `left < right`, `top < bottom`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Frame {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) right: f64,
    pub(super) bottom: f64,
}

impl Frame {
    pub(super) fn new(left: f64, top: f64, width: f64, height: f64) -> Self {
        Self { left, top, right: left + width, bottom: top + height }
    }

    /// The same on whole pixels, so that its outline is sharp.
    pub(super) fn crisp(left: f64, top: f64, width: f64, height: f64) -> Self {
        Self::new(left.floor() + 0.5, top.floor() + 0.5, width.round(), height.round())
    }

    pub(super) fn width(&self) -> f64 {
        self.right - self.left
    }

    pub(super) fn height(&self) -> f64 {
        self.bottom - self.top
    }

    /// Place of the point at the shares `(x, y)` of the frame, y upwards.
    pub(super) fn at(&self, x: f64, y: f64) -> (f64, f64) {
        (self.left + x * self.width(), self.bottom - y * self.height())
    }
}

/// Parts of a line within a frame (Liang and Barsky 1984); points that are not finite interrupt it, and in a frame that is no
/// rectangle there are none.
pub(super) fn clipped(frame: Frame, points: &[(f64, f64)]) -> Vec<Vec<(f64, f64)>> {
    let mut pieces: Vec<Vec<(f64, f64)>> = Vec::new();
    // Also of places that are not numbers.
    let is_rectangle = frame.left < frame.right && frame.top < frame.bottom;
    if !is_rectangle {
        return pieces;
    }
    for pair in points.windows(2) {
        // Far beyond the frame a place loses the digits that matter inside it.
        let near = |(x, y): (f64, f64)| {
            (x.clamp(frame.left - 1e6, frame.right + 1e6), y.clamp(frame.top - 1e6, frame.bottom + 1e6))
        };
        let ((x0, y0), (x1, y1)) = (near(pair[0]), near(pair[1]));
        let (dx, dy) = (x1 - x0, y1 - y0);
        let (mut enter, mut leave) = (0.0_f64, 1.0_f64);
        // For each side: how fast the segment leaves through it, and how far inside it starts.
        let sides =
            [(-dx, x0 - frame.left), (dx, frame.right - x0), (-dy, y0 - frame.top), (dy, frame.bottom - y0)];
        let mut visible = [x0, y0, dx, dy].iter().all(|v| v.is_finite());
        for (speed, room) in sides {
            if speed == 0.0 {
                visible &= room >= 0.0;
            } else if speed < 0.0 {
                enter = enter.max(room / speed);
            } else {
                leave = leave.min(room / speed);
            }
        }
        if !visible || enter > leave {
            continue;
        }
        let (from, to) = ((x0 + enter * dx, y0 + enter * dy), (x0 + leave * dx, y0 + leave * dy));
        match pieces.last_mut() {
            Some(piece) if piece.last() == Some(&from) => piece.push(to),
            _ => pieces.push(vec![from, to]),
        }
    }
    pieces
}

/// A line with fewer points that is nowhere off by more than the tolerance (Ramer 1972, Douglas and Peucker 1973).
pub(super) fn simplified(points: &[(f64, f64)], tolerance: f64) -> Vec<(f64, f64)> {
    if points.len() < 3 {
        return points.to_vec();
    }
    let mut keep = vec![false; points.len()];
    (keep[0], keep[points.len() - 1]) = (true, true);
    let mut parts = vec![(0, points.len() - 1)];
    while let Some((from, to)) = parts.pop() {
        let (a, b) = (points[from], points[to]);
        let (dx, dy) = (b.0 - a.0, b.1 - a.1);
        let length = dx.hypot(dy);
        // Of a loop the ends are the same: then the distance is that from them.
        let off = |p: (f64, f64)| match length > 0.0 {
            true => ((p.0 - a.0) * dy - (p.1 - a.1) * dx).abs() / length,
            false => (p.0 - a.0).hypot(p.1 - a.1),
        };
        let farthest = (from + 1..to).map(|i| (i, off(points[i]))).max_by(|a, b| a.1.total_cmp(&b.1));
        if let Some((i, distance)) = farthest
            && distance > tolerance
        {
            keep[i] = true;
            parts.extend([(from, i), (i, to)]);
        }
    }
    points.iter().zip(keep).filter(|(_, keep)| *keep).map(|(p, _)| *p).collect()
}

/// Cuts a line into dashes; `(dash, gap)` in pixels along the line.
pub(super) fn dashes(points: &[(f64, f64)], (dash, gap): (f64, f64)) -> Vec<Vec<(f64, f64)>> {
    let mut parts = Vec::new();
    let Some(&first) = points.first() else { return parts };
    let mut part = vec![first];
    let (mut drawing, mut left) = (true, dash);
    for pair in points.windows(2) {
        let (mut from, to) = (pair[0], pair[1]);
        loop {
            let length = (to.0 - from.0).hypot(to.1 - from.1);
            if length <= left {
                left -= length;
                if drawing {
                    part.push(to);
                }
                break;
            }
            let share = left / length;
            from = (from.0 + share * (to.0 - from.0), from.1 + share * (to.1 - from.1));
            if drawing {
                part.push(from);
                parts.push(std::mem::take(&mut part));
            } else {
                part = vec![from];
            }
            drawing = !drawing;
            left = if drawing { dash } else { gap };
        }
    }
    if drawing && part.len() > 1 {
        parts.push(part);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: Frame = Frame { left: 0.0, top: 0.0, right: 10.0, bottom: 10.0 };

    #[test]
    fn lines_end_at_the_frame() {
        let points = [
            (-5.0, 5.0),
            (5.0, 5.0),
            (5.0, 1e200),
            (7.0, 1e200),
            (7.0, 5.0),
            (f64::NAN, 1.0),
            (1.0, 1.0),
            (2.0, 2.0),
        ];
        let pieces = clipped(FRAME, &points);
        let expected = [
            vec![(0.0, 5.0), (5.0, 5.0), (5.0, 10.0)],
            vec![(7.0, 10.0), (7.0, 5.0)],
            vec![(1.0, 1.0), (2.0, 2.0)],
        ];
        assert_eq!(pieces.len(), 3);
        for right in [FRAME.left, -1e308, f64::NAN] {
            assert!(clipped(Frame { right, ..FRAME }, &points).is_empty());
        }
        for (piece, wanted) in pieces.iter().flatten().zip(expected.iter().flatten()) {
            assert!((piece.0 - wanted.0).abs() < 1e-9 && (piece.1 - wanted.1).abs() < 1e-9, "{pieces:?}");
        }
    }

    #[test]
    fn a_loop_and_a_line_are_simplified_within_the_tolerance() {
        let circle: Vec<(f64, f64)> =
            (0..=720).map(|k| (f64::from(k % 720) / 720.0 * std::f64::consts::TAU).sin_cos()).collect();
        let fewer = simplified(&circle, 1e-3);
        assert!((70..140).contains(&fewer.len()) && fewer.first() == fewer.last(), "{}", fewer.len());
        // The middle of every chord lies as near to the circle as its ends are asked to be.
        for pair in fewer.windows(2) {
            let middle = (0.5 * (pair[0].0 + pair[1].0)).hypot(0.5 * (pair[0].1 + pair[1].1));
            assert!((1.0 - 1.1e-3..=1.0 + 1e-9).contains(&middle), "{middle}");
        }
        let line: Vec<(f64, f64)> = (0..50).map(|k| (f64::from(k), 2.0 * f64::from(k))).collect();
        assert_eq!(simplified(&line, 1e-9), [(0.0, 0.0), (49.0, 98.0)]);
    }

    #[test]
    fn dashes_cover_their_share() {
        let parts = dashes(&[(0.0, 0.0), (3.0, 0.0), (10.0, 0.0)], (2.0, 1.0));
        let length: f64 = parts.iter().map(|p| p[p.len() - 1].0 - p[0].0).sum();
        assert_eq!(parts.len(), 4);
        assert!((length - 7.0).abs() < 1e-9, "{length}");
    }
}
