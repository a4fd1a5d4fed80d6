// exp and tanh of data with clamped arguments: WGSL leaves overflow and large tanh arguments to the device.
fn safe_exp(x: vec4<f32>) -> vec4<f32> {
    return exp(clamp(x, vec4<f32>(-87.0), vec4<f32>(88.0)));
}
// tanh(10) is 1 in f32.
fn safe_tanh(x: vec4<f32>) -> vec4<f32> {
    return tanh(clamp(x, vec4<f32>(-10.0), vec4<f32>(10.0)));
}
