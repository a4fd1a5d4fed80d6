//! The f32 functions against the standard library's in f64.

use super::Real;

#[test]
fn exp_and_ln_hold_two_ulp() {
    let ulp = |x: f64| f64::from(f32::EPSILON) * x.abs().max(f64::from(f32::MIN_POSITIVE));
    let mut worst = [0.0_f64; 3];
    for k in -870_000..880_000 {
        let x = k as f32 * 1e-4;
        let wide = f64::from(x);
        for (w, got, exact) in [
            (0, Real::exp(x), wide.exp()),
            (1, Real::exp2(x), wide.exp2()),
            (2, Real::ln(x.exp2()), f64::from(x.exp2()).ln()),
        ] {
            // The logarithm near 1 is judged by its argument's own spacing.
            worst[w] = worst[w].max((f64::from(got) - exact).abs() / ulp(exact));
        }
    }
    assert!(worst.iter().all(|w| *w < 2.0), "{worst:?}");
}

#[test]
fn special_values() {
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    assert_eq!([Real::exp(inf), Real::exp(-inf), Real::exp(200.0), Real::exp(-200.0)], [inf, 0.0, inf, 0.0]);
    assert_eq!([Real::ln(0.0_f32), Real::ln(inf), Real::ln(-0.0_f32)], [-inf, inf, -inf]);
    assert_eq!(Real::ln(f32::from_bits(1)), f32::from_bits(1).ln());
    assert_eq!([Real::exp2(-inf), Real::exp2(inf), Real::exp2(-149.0_f32)], [0.0, inf, f32::from_bits(1)]);
    for x in [Real::exp(nan), Real::exp2(nan), Real::ln(nan), Real::ln(-1.0_f32), Real::ln(-inf)] {
        assert!(x.is_nan());
    }
    assert!(Real::power(-2.0_f32, 2.0).is_nan() && Real::power(0.0_f64, 0.0).is_nan());
    assert!((Real::log_erfc(10.0_f64) - (-102.879_889_024_844_89)).abs() < 1e-12);
    assert!((Real::log_erfc(6.000_000_1_f64) - libm::erfc(6.000_000_1).ln()).abs() < 1e-13);
}
