// Random bits by the hash pcg4d (Jarzynski and Olano 2020); normals by the quantile of Wichura 1988 (AS 241, PPND7) of the
// nearer tail's mass. Without branches, so that the cores' interpreter has it as one run of operations.
fn lwflow_pcg4d(bits: vec4<u32>) -> vec4<u32> {
    var v = bits * 1664525u + vec4<u32>(1013904223u);
    v.x += v.y * v.w;
    v.y += v.z * v.x;
    v.z += v.x * v.y;
    v.w += v.y * v.z;
    v = v ^ (v >> vec4<u32>(16u));
    v.x += v.y * v.w;
    v.y += v.z * v.x;
    v.z += v.x * v.y;
    v.w += v.y * v.z;
    return v;
}
// Mass below or above in (0, 1/2), of 31 bits; the last bit says which.
fn lwflow_normal_of(bits: u32) -> f32 {
    let p = (f32(bits >> 1u) + 0.5) * 2.3283064e-10;
    let q = 0.5 - p;
    let s = 0.180625 - q * q;
    let central = q * (((59.109374720 * s + 159.29113202) * s + 50.434271938) * s + 3.3871327179)
        / (((67.187563600 * s + 78.757757664) * s + 17.895169469) * s + 1.0);
    let r = sqrt(-log(p)) - 1.6; // below 5 - 1.6: p is at least 2^-33
    let tail = (((0.17023821103 * r + 1.3067284816) * r + 2.7568153900) * r + 1.4234372777)
        / ((0.12021132975 * r + 0.73700164250) * r + 1.0);
    let value = select(tail, central, q <= 0.425);
    return select(value, -value, (bits & 1u) == 0u);
}
