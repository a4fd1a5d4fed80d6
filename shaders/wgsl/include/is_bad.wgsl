// NaN and infinities are told by their bits: a shader compiler may assume that there are none.
fn is_bad(value: f32) -> bool {
    return (bitcast<u32>(value) & 0x7f800000u) == 0x7f800000u;
}
