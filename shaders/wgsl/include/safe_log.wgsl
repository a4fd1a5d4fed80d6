// Logarithms to 3 ulp on every device, where WGSL allows an absolute error of 2^-21 near 1.
// ln x of positive normal x = m 2^n, m in [1 / sqrt 2, sqrt 2): the coefficients of the cores' ln.
fn safe_log(x: vec4<f32>) -> vec4<f32> {
    let bits = bitcast<vec4<u32>>(x);
    let up = (bits & vec4<u32>(0x007fffffu)) > vec4<u32>(0x003504f3u);
    let exponent = select(vec4<u32>(0x3f800000u), vec4<u32>(0x3f000000u), up);
    let f = bitcast<vec4<f32>>((bits & vec4<u32>(0x007fffffu)) | exponent) - 1.0;
    let n = vec4<f32>(vec4<i32>(bits >> vec4<u32>(23u)) - vec4<i32>(127)) + select(vec4<f32>(0.0), vec4<f32>(1.0), up);
    let high = (((-0.079027440 * f + 0.12622319) * f - 0.12998183) * f + 0.14214496) * f - 0.16641282;
    let p = ((high * f + 0.20001045) * f - 0.25000307) * f + 0.33333330;
    let square = f * f;
    let tail = square * f * p - 0.5 * square;
    return n * 0.69335940 + (f + (tail - n * 2.1219444e-4));
}
// ln(1 + e) of e in [0, 1], relative to itself: 2 atanh(t) with t = e / (2 + e).
fn log_1p(e: vec4<f32>) -> vec4<f32> {
    let t = e / (2.0 + e);
    let y = t * t;
    let p = ((0.13425750 * y + 0.14118309) * y + 0.20003781) * y + 0.33333319;
    return 2.0 * (t + t * (y * p));
}
