// theta of draw i of a scan: an Owen-scrambled Sobol point (crates/engine/src/scan/sobol.rs, the same integers), mapped
// through the quantile of each parameter (crates/engine/src/scan/quantiles.rs, the same cubics).
fn lwflow_hash(value: u32) -> u32 {
    var n = value ^ 0xe6fe3bebu;
    n = (n ^ (n >> 16u)) * 0x7feb352du;
    n = (n ^ (n >> 15u)) * 0x846ca68bu;
    return n ^ (n >> 16u);
}
// Of reversed bits.
fn lwflow_owen_scramble(value: u32, scramble: u32) -> u32 {
    var n = value ^ (value * 0x3d20adeau);
    n = (n + scramble) * ((scramble >> 16u) | 1u);
    n = n ^ (n * 0x05526c56u);
    return n ^ (n * 0x53a22864u);
}
fn lwflow_quantile(j: u32, bits: u32) -> f32 {
    let is_upper = bits >> 31u;
    // The mass of the nearer tail is y / 2^33.
    let y = 2u * select(bits, ~bits, is_upper == 1u) + 1u;
    let octave = countLeadingZeros(y);
    let mantissa = y << octave;
    let at = (is_upper * 32u + octave) * 32u + ((mantissa >> 26u) & 31u);
    let t = f32((mantissa >> 2u) & 0x00ffffffu) * 5.9604644775390625e-8;
    let c = lwflow_quantiles[j * {{ n_cubics }}u + at];
    return c.x + t * (c.y + t * (c.z + t * c.w));
}
fn lwflow_draw(i: u32) -> array<f32, {{ dim }}> {
    let seed = lwflow_hash(lwflow_shape.key ^ (lwflow_shape.first_block + i / {{ block }}u));
    let index = lwflow_owen_scramble(reverseBits(i % {{ block }}u), lwflow_hash(seed ^ 0x79c68e4au));
    var theta: array<f32, {{ dim }}>;
    for (var j = 0u; j < {{ dim }}u; j = j + 1u) {
        var sobol = 0u;
        for (var k = 0u; k < 16u; k = k + 1u) {
            sobol = sobol ^ select(0u, lwflow_directions[j * 16u + k], ((index >> (16u + k)) & 1u) == 1u);
        }
        let scramble = lwflow_hash((seed * 0x9c8f2d3bu) ^ lwflow_hash(j));
        theta[j] = lwflow_quantile(j, reverseBits(lwflow_owen_scramble(sobol, scramble)));
    }
    return theta;
}
