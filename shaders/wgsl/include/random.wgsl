// Random numbers for simulators (docs/simulators.md). Number k of simulation i is a hash of seed, i and k, so that nothing
// is shared between simulations. No bits of floats are looked at: the cores have f32 as f64 for a likelihood's audit.
{% include "include/random_bits.wgsl" %}
struct Random {
    key: vec4<u32>,
    drawn: u32,   // numbers drawn so far
    invalid: u32, // 1: a function below was handed an argument that it has no meaning for
}
fn lwflow_bits(stream: ptr<function, Random>) -> u32 {
    let at = (*stream).drawn;
    (*stream).drawn = at + 1u;
    return lwflow_pcg4d((*stream).key + vec4<u32>(0u, at, 0u, 0u)).w;
}
// Strictly between 0 and 1, on a grid of 2^-23. (A function `uniform` would hide the address space of that name.)
fn uniform01(stream: ptr<function, Random>) -> f32 {
    return (f32(lwflow_bits(stream) >> 9u) + 0.5) * 1.1920929e-7;
}
// Standard normal.
fn normal(stream: ptr<function, Random>) -> f32 {
    return lwflow_normal_of(lwflow_bits(stream));
}
// Of rate 1.
fn exponential(stream: ptr<function, Random>) -> f32 {
    let u = (f32(lwflow_bits(stream)) + 0.5) * 2.3283064e-10;
    return -safe_log(min(u, 0.99999994));
}
// Of scale 1, by Marsaglia and Tsang 2000, "A simple method for generating gamma variables". With e = c x its test is
// log u < d (3 (log(1 + e) - e + e^2 / 2) - e^3), here without the cancellation that f32 does not survive. Below shape 1
// a gamma number of shape + 1 times u^(1 / shape) (section 6 there).
fn gamma(shape: f32, stream: ptr<function, Random>) -> f32 {
    if shape > 0.0 && shape < 1.0e30 {
        let is_small = shape < 1.0;
        let d = select(shape, shape + 1.0, is_small) - 0.33333333;
        let c = 0.33333333 / sqrt(d);
        for (var turn = 0u; turn < 100u; turn = turn + 1u) {
            let e = c * normal(stream);
            let root = 1.0 + e;
            let log_u = -exponential(stream);
            // 3 (log(1 + e) - e + e^2 / 2 - e^3 / 3) by its series, to rounding for |e| < 1/4.
            let series = (((((0.25 * e - 0.27272727) * e + 0.3) * e - 0.33333333) * e + 0.375) * e - 0.42857143) * e + 0.5;
            let near = -((0.75 - 0.6 * e) + series * e * e) * (e * e) * (e * e);
            let far = 3.0 * (safe_log(max(root, 1.0e-30)) - e + 0.5 * e * e) - e * e * e;
            if root > 0.0 && log_u < d * select(far, near, abs(e) < 0.25) {
                let value = d * root * root * root;
                if is_small {
                    return value * safe_exp(-exponential(stream) / shape);
                }
                return value;
            }
        }
    }
    (*stream).invalid = 1u;
    return 0.0;
}
// Student's t: a normal number over the root of a chi squared one.
fn student_t(degrees: f32, stream: ptr<function, Random>) -> f32 {
    let half = 0.5 * degrees;
    let chi = gamma(half, stream);
    return normal(stream) * sqrt(half / chi);
}
// atanh(v) / v - 1, to rounding for |v| <= 1/3.
fn lwflow_atanh_rest(v: f32) -> f32 {
    let w = v * v;
    let high = 0.076923077 + w * (0.066666667 + w * 0.058823529);
    return w * (0.33333333 + w * (0.2 + w * (0.14285714 + w * (0.11111111 + w * (0.090909091 + w * high)))));
}
// k log(k / mean) + mean - k, which is small where k is near the mean, by log(k / mean) = 2 atanh(v) (Loader 2000, "Fast and
// accurate computation of binomial probabilities").
fn lwflow_deviance(k: f32, mean: f32) -> f32 {
    let v = (k - mean) / (k + mean);
    let near = v * ((k - mean) + 2.0 * k * lwflow_atanh_rest(v));
    let far = k * safe_log(max(k, 0.5) / mean) + mean - k;
    return select(select(far, near, abs(v) < 0.333), mean, k < 0.5);
}
// log k! - (k log k - k): Stirling's formula with the continued fraction of Stieltjes (DLMF 5.10.1).
fn lwflow_stirling(k: f32) -> f32 {
    let x = max(k, 0.5);
    let rest = 0.083333333 / (x + 0.033333333 / (x + 0.25238095 / (x + 0.52560647 / x)));
    return select(0.5 * safe_log(6.2831853 * x) + rest, 0.0, k < 0.5);
}
// Of a mean below 16 by inversion, of a larger one by the transformed rejection of Hormann 1993 ("The transformed rejection
// method for generating Poisson random variables", PTRS).
fn poisson(rate: f32, stream: ptr<function, Random>) -> u32 {
    if rate >= 0.0 && rate < 16.0 {
        var rest = uniform01(stream);
        var mass = safe_exp(-rate);
        var k = 0u;
        while rest > mass && k < 200u {
            rest -= mass;
            k = k + 1u;
            mass *= rate / f32(k);
        }
        return k;
    }
    if rate >= 16.0 && rate <= 1.0e9 {
        let b = 0.931 + 2.53 * sqrt(rate);
        let a = 0.02483 * b - 0.059;
        let inverse_alpha = 1.1239 + 1.1328 / (b - 3.4);
        let squeeze = 0.9277 - 3.6224 / (b - 2.0);
        for (var turn = 0u; turn < 100u; turn = turn + 1u) {
            let u = uniform01(stream) - 0.5;
            let v = uniform01(stream);
            let s = 0.5 - abs(u);
            let k = floor((2.0 * a / s + b) * u + rate + 0.43);
            let log_mass = -lwflow_deviance(k, rate) - lwflow_stirling(k);
            let height = safe_log(v * inverse_alpha / (a / (s * s) + b));
            if k >= 0.0 && ((s >= 0.07 && v <= squeeze) || height <= log_mass) {
                return u32(k);
            }
        }
    }
    (*stream).invalid = 1u;
    return 0u;
}
// log of the mass at k over the factors that all k share.
fn lwflow_binomial_log(k: f32, n: f32, p: f32) -> f32 {
    let l = n - k;
    return -lwflow_deviance(k, n * p) - lwflow_deviance(l, n * (1.0 - p)) - lwflow_stirling(k) - lwflow_stirling(l);
}
// For p <= 1/2. Of a mean below 16 by inversion, of a larger one by the transformed rejection of Hormann 1993 ("The generation
// of binomial random variates", BTRS).
fn lwflow_binomial(n: u32, p: f32, stream: ptr<function, Random>) -> u32 {
    let m = f32(n);
    let q = 1.0 - p;
    if m * p < 16.0 {
        // (1 - p)^n, also where p is lost beside 1.
        let v = p / (2.0 - p);
        var mass = safe_exp(-2.0 * m * v * (1.0 + lwflow_atanh_rest(v)));
        var rest = uniform01(stream);
        var k = 0u;
        while rest > mass && k < min(n, 200u) {
            rest -= mass;
            k = k + 1u;
            mass *= p / q * (f32(n - k) + 1.0) / f32(k);
        }
        return k;
    }
    let spread = sqrt(m * p * q);
    let b = 1.15 + 2.53 * spread;
    let a = 0.0248 * b + 0.01 * p - 0.0873;
    let alpha = (2.83 + 5.1 / b) * spread;
    let squeeze = 0.92 - 4.2 / b;
    let highest = lwflow_binomial_log(floor((m + 1.0) * p), m, p);
    for (var turn = 0u; turn < 100u; turn = turn + 1u) {
        let u = uniform01(stream) - 0.5;
        let v = uniform01(stream);
        let s = 0.5 - abs(u);
        let k = floor((2.0 * a / s + b) * u + m * p + 0.5);
        let height = safe_log(v * alpha / (a / (s * s) + b));
        let is_inside = k >= 0.0 && k <= m;
        if is_inside && ((s >= 0.07 && v <= squeeze) || height <= lwflow_binomial_log(k, m, p) - highest) {
            return u32(k);
        }
    }
    (*stream).invalid = 1u;
    return 0u;
}
fn binomial(n: u32, p: f32, stream: ptr<function, Random>) -> u32 {
    if !(p >= 0.0 && p <= 1.0) {
        (*stream).invalid = 1u;
        return 0u;
    }
    let k = lwflow_binomial(n, min(p, 1.0 - p), stream);
    return select(k, n - k, p > 0.5);
}
