// Functions for likelihoods whose exact values the CPU evaluator knows: it replaces them by its own in f32 and f64, so
// that an audit in f64 also measures the error of these. Declared alike in crates/engine/src/wgsl/splice.rs.
fn is_finite(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u;
}
// The value with these bits, out of the compiler's sight: WGSL has no NaN and no infinity in constants.
fn lwflow_from_bits(bits: u32) -> f32 {
    var b = bits;
    return bitcast<f32>(b);
}
fn minus_infinity() -> f32 {
    return lwflow_from_bits(0xff800000u);
}
// e^x to 2 ulp; 0 below -87, clamped above 88. The reduction and polynomial of include/safe_math.wgsl.
fn safe_exp(x: f32) -> f32 {
    let c = clamp(x, -87.0, 88.0);
    let n = floor(c * 1.44269504 + 0.5);
    let r = (c - n * 0.693359375) + n * 2.12194440e-4;
    let low = ((1.9875691500e-4 * r + 1.3981999507e-3) * r + 8.3334519073e-3) * r + 4.1665795894e-2;
    let p = ((low * r + 1.6666665459e-1) * r + 0.5) * (r * r) + r + 1.0;
    let e = p * bitcast<f32>(u32(i32(n) + 127) << 23u);
    let is_nan = (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
    return select(select(e, 0.0, x < -87.0), x, is_nan);
}
fn safe_tanh(x: f32) -> f32 {
    let e = safe_exp(-2.0 * abs(x));
    return sign(x) * (1.0 - e) / (1.0 + e);
}
// Natural logarithm of normal x > 0 to 3 ulp; -inf at 0, NaN below: m in [1 / sqrt 2, sqrt 2), x = m 2^n.
fn safe_log(x: f32) -> f32 {
    let bits = bitcast<u32>(x);
    if (bits & 0x7fffffffu) < 0x00800000u {
        return minus_infinity();
    }
    if bits >= 0x7f800000u {
        return lwflow_from_bits(select(0x7fc00000u, bits, bits == 0x7f800000u));
    }
    let up = (bits & 0x007fffffu) > 0x003504f3u;
    let m = bitcast<f32>((bits & 0x007fffffu) | select(0x3f800000u, 0x3f000000u, up));
    let n = f32(i32(bits >> 23u) - 127) + select(0.0, 1.0, up);
    let f = m - 1.0;
    var p = -0.079027440;
    p = p * f + 0.12622319;
    p = p * f - 0.12998183;
    p = p * f + 0.14214496;
    p = p * f - 0.16641282;
    p = p * f + 0.20001045;
    p = p * f - 0.25000307;
    p = p * f + 0.33333330;
    let square = f * f;
    let tail = square * f * p - 0.5 * square;
    return n * 0.69335940 + (f + (tail - n * 2.1219444e-4));
}
// log(e^a + e^b)
fn log_add(a: f32, b: f32) -> f32 {
    let high = max(a, b);
    if !is_finite(high) {
        return high;
    }
    return high + safe_log(1.0 + safe_exp(min(a, b) - high));
}
// log erfc(x) for x >= 0: -x^2 + log t + P(2 t - 1), t = 1 / (1 + x / 2); P interpolates at Chebyshev nodes to 1e-7.
fn lwflow_log_erfcx(x: f32) -> f32 {
    let t = 1.0 / (1.0 + 0.5 * x);
    let u = 2.0 * t - 1.0;
    var p = 4.657862289e-6;
    p = p * u + 0.000332440702;
    p = p * u - 0.0002194268817;
    p = p * u - 0.002045806027;
    p = p * u + 0.001786496833;
    p = p * u + 0.008701600896;
    p = p * u - 0.009877244398;
    p = p * u - 0.04687426828;
    p = p * u + 0.04734352764;
    p = p * u + 0.67264217;
    p = p * u - 0.6717940841;
    return safe_log(t) + p;
}
fn erfc(x: f32) -> f32 {
    let a = abs(x);
    let e = safe_exp(lwflow_log_erfcx(a) - a * a);
    return select(e, 2.0 - e, x < 0.0);
}
fn log_erfc(x: f32) -> f32 {
    let a = abs(x);
    let l = lwflow_log_erfcx(a) - a * a;
    if x < 0.0 {
        return safe_log(2.0 - safe_exp(l));
    }
    return l;
}
fn erf(x: f32) -> f32 {
    let a = abs(x);
    if a < 0.5 {
        let y = x * x;
        let s = ((((1.0 / 9360.0 * y - 1.0 / 1320.0) * y + 1.0 / 216.0) * y - 1.0 / 42.0) * y + 0.1) * y - 1.0 / 3.0;
        return 1.1283792 * (x + x * y * s);
    }
    return sign(x) * (1.0 - erfc(a));
}
// log Gamma(x) for x > 0, NaN elsewhere: Stirling's series above 8, where x is brought by the recurrence.
fn lgamma(x: f32) -> f32 {
    if !(x > 0.0) {
        return lwflow_from_bits(0x7fc00000u);
    }
    var y = x;
    var product = 1.0;
    for (var i = 0; i < 8 && y < 8.0; i = i + 1) {
        product = product * y;
        y = y + 1.0;
    }
    let r = 1.0 / y;
    let series = r * (0.083333333 - r * r * (0.0027777778 - r * r * 7.9365079e-4));
    return (y - 0.5) * safe_log(y) - y + 0.91893853 + series - safe_log(product);
}
