// slcp_distractors of sbibm (Lueckmann et al. 2021, T.4): the eight numbers of SLCP (examples/slcp) and 92 that do not depend on
// theta, in a fixed order. The others are one draw of a mixture of twenty t distributions with two degrees of freedom and equal
// shares, m + L z / sqrt(w): z normal, w exponential. Data of the likelihood: one row of a hundred; of the simulator: m of every
// component, 20 rows, then L of every component, 92 rows each. log_likelihood leaves out the density of the 92.
const POINTS = 4u;
const NOISE = 92u;
const COMPONENTS = 20u;

// Where number i of (eight, 92) lies in x.
const PLACE = array<u32, 100>(
    22u, 33u, 23u, 67u, 42u, 21u, 16u, 90u, 63u, 3u, 59u, 52u, 12u, 17u, 26u, 96u, 99u, 78u, 72u, 40u,
    15u, 5u, 60u, 93u, 62u, 4u, 6u, 13u, 51u, 28u, 9u, 48u, 65u, 80u, 10u, 46u, 43u, 54u, 34u, 2u,
    19u, 8u, 64u, 25u, 11u, 74u, 84u, 1u, 58u, 47u, 71u, 18u, 37u, 98u, 20u, 88u, 56u, 86u, 94u, 68u,
    57u, 97u, 83u, 39u, 85u, 35u, 53u, 75u, 73u, 92u, 41u, 95u, 29u, 66u, 38u, 24u, 49u, 89u, 81u, 30u,
    91u, 45u, 61u, 36u, 50u, 55u, 87u, 0u, 82u, 14u, 70u, 77u, 76u, 79u, 7u, 69u, 44u, 27u, 32u, 31u,
);

// S as the variance of x_0, the slope of x_1 on x_0, and the variance of x_1 given x_0.
fn spread(theta: array<f32, D>) -> vec3<f32> {
    let s = vec2<f32>(theta[2] * theta[2], theta[3] * theta[3]);
    let rho = safe_tanh(theta[4]);
    // 1 - rho^2 without cancellation
    let e = safe_exp(-2.0 * abs(theta[4]));
    let unexplained = 4.0 * e / ((1.0 + e) * (1.0 + e));
    let variance = s * s + 1e-6;
    let slope = rho * s.x * s.y / variance.x;
    let explained = rho * rho * s.y * s.y;
    // Of x_1 given x_0: variance.y - (rho s.x s.y)^2 / variance.x
    let rest = s.y * s.y * unexplained + 1e-6 + explained * (1e-6 / variance.x);
    return vec3<f32>(variance.x, slope, rest);
}

fn log_likelihood(theta: array<f32, D>) -> f32 {
    let s = spread(theta);
    var total = -f32(POINTS) * (LOG_2_PI + 0.5 * log(s.x) + 0.5 * log(s.z));
    for (var point = 0u; point < POINTS; point++) {
        let x = vec2<f32>(data(0u, PLACE[2u * point]), data(0u, PLACE[2u * point + 1u]));
        let d = x - vec2<f32>(theta[0], theta[1]);
        let conditional = d.y - s.y * d.x;
        total -= 0.5 * (d.x * d.x / s.x + conditional * conditional / s.z);
    }
    return total;
}

fn simulate(theta: array<f32, D>, stream: ptr<function, Random>) -> array<f32, 100> {
    let s = spread(theta);
    var x: array<f32, 100>;
    for (var point = 0u; point < POINTS; point++) {
        let d = sqrt(s.x) * normal(stream);
        x[PLACE[2u * point]] = theta[0] + d;
        x[PLACE[2u * point + 1u]] = theta[1] + s.y * d + sqrt(s.z) * normal(stream);
    }
    let component = min(u32(f32(COMPONENTS) * uniform01(stream)), COMPONENTS - 1u);
    let scale = inverseSqrt(exponential(stream));
    var z: array<f32, 92>;
    for (var i = 0u; i < NOISE; i++) {
        z[i] = scale * normal(stream);
        var value = data(component, i);
        let row = COMPONENTS + NOISE * component + i;
        for (var j = 0u; j <= i; j++) {
            value += data(row, j) * z[j];
        }
        x[PLACE[2u * POINTS + i]] = value;
    }
    return x;
}
