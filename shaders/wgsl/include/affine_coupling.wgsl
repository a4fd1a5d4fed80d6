// What the three coupling kernels share. output rows 0..n_b hold s_raw, rows n_b..2 n_b hold t.
{% include "include/batch.wgsl" %}
{% include "include/safe_math.wgsl" %}
struct Shape {
    n_identity: u32,
    n_transformed: u32, // n_b
    s_max: f32,
    inv_s_max: f32,
}
@group(0) @binding(1) var<uniform> shape: Shape;
@group(0) @binding(2) var<storage, read> index: array<u32>;  // coordinates of A, then of B
