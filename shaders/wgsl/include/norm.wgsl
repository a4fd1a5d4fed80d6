// Sums of squares that neither overflow nor underflow (as LAPACK's slassq): .x the largest magnitude, .y the sum of
// squares over it, .z the number of values that are not finite, .w a plain sum.
fn combine(a: vec4<f32>, b: vec4<f32>) -> vec4<f32> {
    let scale = max(a.x, b.x);
    // Below the least normal number there is nothing to divide by.
    let inverse = select(1.0 / scale, 0.0, scale < 1.2e-38);
    // A ratio of one must be exactly that, or every sum on the way shrinks by a rounding.
    let ra = select(a.x * inverse, 1.0, a.x == scale);
    let rb = select(b.x * inverse, 1.0, b.x == scale);
    return vec4<f32>(scale, a.y * ra * ra + b.y * rb * rb, a.z + b.z, a.w + b.w);
}
