// The packed mixture, per component of `stride4` vec4s: log_norm (in .x of the first vec4), means (D, padded to 4), then
// A_k = L_k^-1 in blocks of four rows. Full: block b holds its columns m = 0 .. min(4b + 4, D), each a vec4 of rows
// A[4b .. 4b + 4][m] (zero above the diagonal and past the end). Diagonal: one vec4 of 1 / sigma per block.
struct Shape {
    dim: u32,
    n_components: u32,
    n_blocks: u32,       // ceil(D / 4)
    stride4: u32,        // vec4s per component
    mean_offset4: u32,   // vec4s
    inverse_offset4: u32, // vec4s
    flow4: u32,          // vec4s from one flow's mixture to the next's
}
@group(0) @binding(1) var<uniform> shape: Shape;
// First vec4 of full block b: the blocks before it hold 4 + 8 + .. + 4 b columns.
fn block_start(b: u32) -> u32 {
{% if full %}
    return 2u * b * (b + 1u);
{% else %}
    return b;
{% endif %}
}
