// What every likelihood may use besides WGSL itself; see docs/wgsl-likelihood.md.
const PI = 3.14159265358979323846;
const LN_2 = 0.69314718055994530942;
const LOG_2_PI = 1.83787706640934548356;

fn square(x: f32) -> f32 {
    return x * x;
}
// log(e^v[0] + e^v[1] + ...), also for -inf.
fn log_sum_exp2(v: vec2<f32>) -> f32 {
    return log_add(v.x, v.y);
}
fn log_sum_exp3(v: vec3<f32>) -> f32 {
    let high = max(max(v.x, v.y), v.z);
    if !is_finite(high) {
        return high;
    }
    return high + safe_log(safe_exp(v.x - high) + safe_exp(v.y - high) + safe_exp(v.z - high));
}
fn log_sum_exp4(v: vec4<f32>) -> f32 {
    return log_add(log_add(v.x, v.y), log_add(v.z, v.w));
}
fn normal_log_pdf(x: f32, mean: f32, sd: f32) -> f32 {
    let z = (x - mean) / sd;
    return -0.5 * (z * z + LOG_2_PI) - safe_log(sd);
}
fn student_t_log_pdf(x: f32, degrees: f32, location: f32, scale: f32) -> f32 {
    let z = (x - location) / scale;
    let norm = lgamma(0.5 * (degrees + 1.0)) - lgamma(0.5 * degrees) - 0.5 * safe_log(degrees * PI);
    return norm - safe_log(scale) - 0.5 * (degrees + 1.0) * safe_log(1.0 + z * z / degrees);
}
fn poisson_log_pmf(k: f32, rate: f32) -> f32 {
    return k * safe_log(rate) - rate - lgamma(k + 1.0);
}
// log of the standard normal's distribution function, exact to rounding far into the lower tail.
fn normal_log_cdf(z: f32) -> f32 {
    return log_erfc(-0.70710678118654752440 * z) - LN_2;
}
