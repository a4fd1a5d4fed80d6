//! Colours. Lines and areas take theirs from the palette of Okabe and Ito (2008), which people with any colour vision can
//! tell apart; densities take viridis (Smith and van der Walt 2015), whose lightness rises evenly.

/// Red, green, blue.
pub(super) type Rgb = [u8; 3];

pub(super) const WHITE: Rgb = [255, 255, 255];
pub(super) const INK: Rgb = [30, 30, 30];
pub(super) const FAINT: Rgb = [120, 120, 120];
pub(super) const RULE: Rgb = [228, 228, 228];
/// Where a density is not a number.
pub(super) const NO_VALUE: Rgb = [190, 190, 190];
pub(super) const BLUE: Rgb = [0, 114, 178];
pub(super) const VERMILION: Rgb = [213, 94, 0];
pub(super) const GREEN: Rgb = [0, 158, 115];

const VIRIDIS: [Rgb; 16] = [
    [0x44, 0x01, 0x54],
    [0x48, 0x1a, 0x6c],
    [0x47, 0x2f, 0x7d],
    [0x41, 0x44, 0x87],
    [0x39, 0x56, 0x8c],
    [0x31, 0x68, 0x8e],
    [0x2a, 0x78, 0x8e],
    [0x23, 0x88, 0x8e],
    [0x1f, 0x98, 0x8b],
    [0x22, 0xa8, 0x84],
    [0x35, 0xb7, 0x79],
    [0x54, 0xc5, 0x68],
    [0x7a, 0xd1, 0x51],
    [0xa5, 0xdb, 0x36],
    [0xd2, 0xe2, 0x1b],
    [0xfd, 0xe7, 0x25],
];

/// `share` of `over` laid on `under`.
pub(super) fn mix(under: Rgb, over: Rgb, share: f64) -> Rgb {
    let share = share.clamp(0.0, 1.0);
    let channel = |i: usize| (f64::from(under[i]) * (1.0 - share) + f64::from(over[i]) * share).round() as u8;
    [channel(0), channel(1), channel(2)]
}

/// Viridis at `t` in 0..=1 (clamped; NaN is the lowest).
pub(super) fn viridis(t: f64) -> Rgb {
    let t = if t.is_nan() { 0.0 } else { t.clamp(0.0, 1.0) * (VIRIDIS.len() - 1) as f64 };
    let low = (t as usize).min(VIRIDIS.len() - 2);
    mix(VIRIDIS[low], VIRIDIS[low + 1], t - low as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn viridis_rises_in_lightness() {
        let lightness =
            |c: Rgb| 0.2126 * f64::from(c[0]) + 0.7152 * f64::from(c[1]) + 0.0722 * f64::from(c[2]);
        let values: Vec<f64> = (0..=100).map(|i| lightness(viridis(f64::from(i) / 100.0))).collect();
        assert!(values.windows(2).all(|pair| pair[1] > pair[0] - 1.0), "{values:?}");
        assert_eq!((viridis(-3.0), viridis(7.0)), (VIRIDIS[0], VIRIDIS[15]));
        assert_eq!(viridis(f64::NAN), VIRIDIS[0]);
    }
}
