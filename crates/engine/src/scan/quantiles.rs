//! Quantiles of any marginal prior as a table of cubics that a device evaluates in 32 bits: 32 pieces for each factor of two
//! in the nearer tail's mass, down to 2^-33. Invariant: a table is made only if it keeps to the exact quantile within
//! [`ERROR`] of a piece and the rounding of f32, so what a device draws is what the quantile says.

/// Factors of two in the mass of a tail.
const OCTAVES: u32 = 32;
/// Pieces of an octave.
const PIECES: u32 = 32;
/// Cubics of a table: of the lower tail, then of the upper one.
pub(crate) const N_CUBICS: usize = 2 * (OCTAVES * PIECES) as usize;
/// Largest error, as a share of the piece it is in: of the mass beyond a draw it is 32 times less.
const ERROR: f64 = 1e-3;
/// Roundings of the largest magnitude in a piece that may add to it.
const ROUNDINGS: f64 = 4.0;

/// The quantile of one parameter, less an offset.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantileTable {
    /// `[N_CUBICS]`: c0 + t (c1 + t (c2 + t c3)), t from 0 to 1 from the tail inwards.
    pub(crate) cubics: Vec<[f32; 4]>,
}

/// The cubic that 32 random bits fall into, and where.
pub(super) fn place(bits: u32) -> (usize, f32) {
    let is_upper = bits >> 31;
    let nearer = if is_upper == 1 { !bits } else { bits };
    // The nearer tail's mass is y / 2^33; y is odd, so it always has a leading one.
    let y = 2 * nearer + 1;
    let octave = y.leading_zeros();
    let mantissa = y << octave;
    let piece = (mantissa >> 26) & (PIECES - 1);
    let cubic = (is_upper * OCTAVES + octave) * PIECES + piece;
    // 24 bits: exact in f32.
    (cubic as usize, ((mantissa >> 2) & 0x00ff_ffff) as f32 / 16_777_216.0)
}

impl QuantileTable {
    /// The table of `quantile`, an increasing function on (0, 1), less `offset`; `None` if f32 cannot hold it or cubics cannot
    /// follow it, which happens only to densities with a pole or a tail far steeper than priors have.
    #[must_use]
    pub fn new(offset: f64, quantile: impl Fn(f64) -> f64) -> Option<Self> {
        let mut cubics = Vec::with_capacity(N_CUBICS);
        for cubic in 0..N_CUBICS as u32 {
            let (is_upper, octave, piece) =
                (cubic / (OCTAVES * PIECES) == 1, cubic / PIECES % OCTAVES, cubic % PIECES);
            let unit = f64::from(2 + octave).exp2().recip();
            let exact = |t: f64| {
                let mass = unit * (1.0 + (f64::from(piece) + t) / f64::from(PIECES));
                quantile(if is_upper { 1.0 - mass } else { mass }) - offset
            };
            cubics.push(fitted(exact)?);
        }
        Some(Self { cubics })
    }

    /// The quantile at (bits + 1/2) / 2^32, less the offset, as the cores evaluate it.
    #[must_use]
    pub fn at(&self, bits: u32) -> f32 {
        let (cubic, t) = place(bits);
        let [c0, c1, c2, c3] = self.cubics[cubic];
        c0 + t * (c1 + t * (c2 + t * c3))
    }
}

/// The cubic through 0, 1/4, 3/4 and 1, if it is right between them too.
fn fitted(exact: impl Fn(f64) -> f64) -> Option<[f32; 4]> {
    let (start, end) = (exact(0.0), exact(1.0));
    let [a, b, c] = [exact(0.25) - start, exact(0.75) - start, end - start];
    let cubic = [
        start,
        8.0 * a - 8.0 / 3.0 * b + c,
        (-56.0 * a + 40.0 * b - 16.0 * c) / 3.0,
        (32.0 * (a - b) + 16.0 * c) / 3.0,
    ]
    .map(|v| v as f32);
    let [c0, c1, c2, c3] = cubic.map(f64::from);
    let slack = ERROR * c.abs()
        + ROUNDINGS * f64::from(f32::EPSILON) * start.abs().max(end.abs())
        + f64::from(f32::MIN_POSITIVE);
    let is_right = |t: f64| (c0 + t * (c1 + t * (c2 + t * c3)) - exact(t)).abs() <= slack;
    let holds = cubic.iter().all(|v| v.is_finite()) && [0.125, 0.5, 0.875, 1.0].into_iter().all(is_right);
    holds.then_some(cubic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_tile_the_unit_interval() {
        let mass = |bits: u32| {
            let (cubic, t) = place(bits);
            let octave = (cubic as u32 / PIECES) % OCTAVES;
            let inside = (f64::from(cubic as u32 % PIECES) + f64::from(t)) / f64::from(PIECES);
            f64::from(2 + octave).exp2().recip() * (1.0 + inside)
        };
        for bits in (0..2000).chain((0..31).flat_map(|k| [(1 << k) - 1, 1 << k, (1 << k) + 77])) {
            let exact = (f64::from(bits) + 0.5) / 4_294_967_296.0;
            let nearer = exact.min(1.0 - exact);
            assert!((mass(bits) / nearer - 1.0).abs() <= 2e-9, "{bits:x}: {}, {nearer}", mass(bits));
            assert_eq!(place(!bits).1, place(bits).1);
            assert_eq!(place(!bits).0.abs_diff(place(bits).0), N_CUBICS / 2);
        }
    }

    #[test]
    fn what_cubics_cannot_follow_has_no_table() {
        assert!(QuantileTable::new(0.0, |u| u.powf(-40.0)).is_none());
        assert!(QuantileTable::new(0.0, |u| if u < 0.3 { 0.0 } else { 1.0 }).is_none());
        assert!(QuantileTable::new(0.0, |u| 1e30 * (u - 0.5) * 1e30).is_none());
        let steps = QuantileTable::new(0.0, |u| (u * 40.0).floor());
        assert!(steps.is_none());
    }

    #[test]
    fn a_table_keeps_to_its_quantile_at_every_u() {
        let table = QuantileTable::new(3.0, |u| 5.0 - (-u).ln_1p()).unwrap();
        for k in 0..32 {
            for low in [0, 1, 0x55, 0xfff] {
                let bits = (1u32 << k).wrapping_add(low);
                for bits in [bits, !bits] {
                    let u = (f64::from(bits) + 0.5) / 4_294_967_296.0;
                    let error = f64::from(table.at(bits)) - (2.0 - (-u).ln_1p());
                    assert!(error.abs() < 3e-7 * (2.0 - (-u).ln_1p()), "{u}: {error}");
                }
            }
        }
    }
}
