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

/// Parts of a line within a frame (Liang and Barsky 1984); points that are not finite interrupt it.
pub(super) fn clipped(frame: Frame, points: &[(f64, f64)]) -> Vec<Vec<(f64, f64)>> {
    let mut pieces: Vec<Vec<(f64, f64)>> = Vec::new();
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
        for (piece, wanted) in pieces.iter().flatten().zip(expected.iter().flatten()) {
            assert!((piece.0 - wanted.0).abs() < 1e-9 && (piece.1 - wanted.1).abs() < 1e-9, "{pieces:?}");
        }
    }

    #[test]
    fn dashes_cover_their_share() {
        let parts = dashes(&[(0.0, 0.0), (3.0, 0.0), (10.0, 0.0)], (2.0, 1.0));
        let length: f64 = parts.iter().map(|p| p[p.len() - 1].0 - p[0].0).sum();
        assert_eq!(parts.len(), 4);
        assert!((length - 7.0).abs() < 1e-9, "{length}");
    }
}
