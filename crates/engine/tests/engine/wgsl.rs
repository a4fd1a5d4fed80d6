//! Small WGSL programs, each against hand-written Rust in f64: the f64 evaluator to 1e-12, the f32 evaluator and the
//! adapter to f32 rounding. Invariant: every construct that the evaluator knows is in some row.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::time::Duration;

use crate::common::{BOUND, Random, engines};
use lwflow_engine::{WgslProgram, WgslSource};

const MINUTE: Duration = Duration::from_secs(60);

fn source(text: &str, dim: usize) -> WgslSource {
    WgslSource { file: "user.wgsl".into(), text: text.into(), dim, ..Default::default() }
}

type Exact = fn(&[f64]) -> f64;

/// Compares everywhere. `magnitude` bounds the sum of the magnitudes that cancel in the result.
fn compare(name: &str, source: &WgslSource, scale: f64, magnitude: f64, exact: impl Fn(&[f64]) -> f64) {
    let program = WgslProgram::new(source).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(program.no_audit(), None, "{name}");
    // One block, a partial one, several tasks.
    for n in [1, 127, 1100] {
        let theta = Random::new(n as u64).values(n * source.dim, scale);
        let wide: Vec<f64> = theta.iter().map(|v| f64::from(*v)).collect();
        let expected: Vec<f64> = wide.chunks_exact(source.dim).map(&exact).collect();
        let (audit, _) = program.audit(&wide, MINUTE).unwrap().unwrap();
        for (i, (a, e)) in audit.iter().zip(&expected).enumerate() {
            let limit = 1e-12 * magnitude.max(e.abs()).max(1.0);
            assert!((a - e).abs() <= limit || a == e, "{name} in f64, row {i}: {a}, expected {e}");
        }
        for engine in engines() {
            let (got, _) = engine.likelihood(&program).unwrap().evaluate(&theta).unwrap();
            let magnitudes: Vec<f64> = expected.iter().map(|e| e.abs().max(magnitude)).collect();
            let worst =
                crate::common::error(&format!("{name} on {}", engine.info()), &got, &expected, &magnitudes);
            println!("{name} on {}: {worst:.1} units", engine.info().kind);
            assert!(worst <= BOUND, "{name} on {}: {worst} units", engine.info());
        }
    }
}

fn table() -> Vec<(&'static str, &'static str, f64, f64, Exact)> {
    let mut rows: Vec<(&'static str, &'static str, f64, f64, Exact)> = Vec::new();
    rows.push((
        "arithmetic",
        "return theta[0] * 3.0 - theta[1] / (2.5 + theta[2] * theta[2]) + 0.1;",
        2.0,
        10.0,
        |t| t[0] * 3.0 - t[1] / (2.5 + t[2] * t[2]) + 0.1,
    ));
    rows.push((
        "if with else and early return",
        "if theta[0] > 0.5 { return theta[1]; } else if theta[0] < -0.5 { return -theta[2]; }
         var s = theta[0]; if theta[1] > 0.0 { s = s + theta[1]; } else { s -= theta[2]; } return s;",
        1.0,
        3.0,
        |t| match t[0] {
            x if x > 0.5 => t[1],
            x if x < -0.5 => -t[2],
            x if t[1] > 0.0 => x + t[1],
            x => x - t[2],
        },
    ));
    rows.push((
        "loop with break, continue and a bound of theta",
        "var s = 0.0; let n = i32(abs(theta[0]) * 5.0);
         for (var i = 0; i < 20; i++) {
            if i == 3 { continue; }
            if i > n { break; }
            s += theta[1] * f32(i);
         }
         return s;",
        2.0,
        60.0,
        |t| {
            let n = (t[0].abs() as f32 * 5.0) as i32;
            (0..20).take_while(|i| *i == 3 || *i <= n).filter(|i| *i != 3).map(|i| t[1] * f64::from(i)).sum()
        },
    ));
    rows.push((
        "while and loop with break if",
        "var x = abs(theta[0]); var n = 0u; while x < 10.0 { x = x * 1.5 + 0.5; n++; }
         var k = 0; loop { k += 2; continuing { k -= 1; break if k >= i32(n); } }
         return f32(n) + f32(k) * 0.25;",
        2.0,
        20.0,
        |t| {
            let (mut x, mut n) = (t[0].abs(), 0);
            while x < 10.0 {
                x = x * 1.5 + 0.5;
                n += 1;
            }
            f64::from(n) + f64::from(n.max(1)) * 0.25
        },
    ));
    rows.push((
        "switch with shared cases and break",
        "var r = 0.0; switch i32(floor(theta[0])) {
            case -2, 1: { r = theta[1]; }
            case 0: { if theta[1] > 0.0 { break; } r = 2.0 * theta[1]; }
            default: { r = theta[2]; }
         } return r + 1.0;",
        2.0,
        5.0,
        |t| {
            1.0 + match t[0].floor() as i32 {
                -2 | 1 => t[1],
                0 if t[1] > 0.0 => 0.0,
                0 => 2.0 * t[1],
                _ => t[2],
            }
        },
    ));
    rows.push((
        "return from nested loops",
        "for (var i = 0; i < 4; i++) { for (var j = 0; j < 4; j++) {
            if theta[0] * f32(i) + theta[1] * f32(j) > 1.5 { return f32(10 * i + j) + theta[2]; }
            if j > i { break; }
         } } return theta[2];",
        1.0,
        40.0,
        |t| {
            for i in 0..4 {
                for j in 0..4 {
                    // The comparison is made on the same rounded numbers.
                    let x = t[0] as f32 * i as f32 + t[1] as f32 * j as f32;
                    if x > 1.5 {
                        return f64::from(10 * i + j) + t[2];
                    }
                    if j > i {
                        break;
                    }
                }
            }
            t[2]
        },
    ));
    rows.push((
        "arrays with an index of theta",
        "var a = array<f32, 4>(1.0, 2.0, 4.0, 8.0); let k = u32(clamp(theta[0] + 2.0, 0.0, 3.0));
         a[k] = theta[1]; a[(k + 1u) % 4u] += theta[2]; var s = 0.0;
         for (var i = 0u; i < 4u; i++) { s += a[i] * f32(i + 1u); } return s + a[k] + theta[k % 3u];",
        2.0,
        80.0,
        |t| {
            let mut a = [1.0, 2.0, 4.0, 8.0];
            let k = (t[0] as f32 + 2.0).clamp(0.0, 3.0) as usize;
            a[k] = t[1];
            a[(k + 1) % 4] += t[2];
            (0..4).map(|i| a[i] * (i + 1) as f64).sum::<f64>() + a[k] + t[k % 3]
        },
    ));
    rows.push((
        "arrays of arrays and structs",
        "var a: array<array<Pair, 2>, 3>; let k = select(0, 1, theta[0] > 0.0);
         for (var i = 0; i < 3; i++) { for (var j = 0; j < 2; j++) {
            a[i][j] = Pair(theta[i], i + j, vec2(theta[j], 0.5)); } }
         let p = a[k + 1][k]; a[2][k].v.x = 7.0; return p.x + f32(p.n) + p.v.y + a[2][k].v.x + a[2][1 - k].v.x;",
        2.0,
        20.0,
        |t| {
            let k = usize::from(t[0] > 0.0);
            t[k + 1] + (k + 1 + k) as f64 + 0.5 + 7.0 + t[1 - k]
        },
    ));
    rows.push((
        "vectors and swizzles",
        "var v = vec3(theta[0], theta[1], theta[2]); v = v.zxy; v.y *= 2.0; let w = cross(v, vec3(1.0, -2.0, 0.5));
         return dot(w, v.yzx) + length(v) + distance(v, w) + normalize(v + vec3(4.0)).x + w.zz.y;",
        1.0,
        40.0,
        |t| {
            let v = [t[2], 2.0 * t[0], t[1]];
            let b = [1.0, -2.0, 0.5];
            let w = [v[1] * b[2] - v[2] * b[1], v[2] * b[0] - v[0] * b[2], v[0] * b[1] - v[1] * b[0]];
            let length = |x: [f64; 3]| x.iter().map(|c| c * c).sum::<f64>().sqrt();
            let up = [v[0] + 4.0, v[1] + 4.0, v[2] + 4.0];
            w[0] * v[1] + w[1] * v[2] + w[2] * v[0]
                + length(v)
                + length([v[0] - w[0], v[1] - w[1], v[2] - w[2]])
                + up[0] / length(up)
                + w[2]
        },
    ));
    rows.push((
        "matrices",
        "let m = mat2x3<f32>(theta[0], 1.0, 2.0, theta[1], -1.0, 0.5); let v = m * vec2(theta[2], 1.0);
         let q = mat3x3<f32>(v, vec3(1.0, theta[0], 0.0), vec3(0.0, 2.0, theta[1]));
         var c = q * q; return dot(v * m, vec2(1.0, 2.0)) + determinant(q) + c[1][2] + transpose(q)[0].y + c[u32(theta[2] > 0.0)].x;",
        1.0,
        60.0,
        |t| {
            let m = [[t[0], 1.0, 2.0], [t[1], -1.0, 0.5]];
            let v: Vec<f64> = (0..3).map(|r| m[0][r] * t[2] + m[1][r]).collect();
            let q = [[v[0], v[1], v[2]], [1.0, t[0], 0.0], [0.0, 2.0, t[1]]];
            let dot = |c: &[f64; 3]| c.iter().zip(&v).map(|(a, b)| a * b).sum::<f64>();
            let c = |col: usize, row: usize| (0..3).map(|k| q[k][row] * q[col][k]).sum::<f64>();
            let det = q[0][0] * (q[1][1] * q[2][2] - q[2][1] * q[1][2])
                - q[0][1] * (q[1][0] * q[2][2] - q[2][0] * q[1][2])
                + q[0][2] * (q[1][0] * q[2][1] - q[2][0] * q[1][1]);
            dot(&m[0]) + 2.0 * dot(&m[1]) + det + c(1, 2) + q[1][0] + c(usize::from(t[2] > 0.0), 0)
        },
    ));
    rows.push((
        "functions, pointers and private variables",
        "counter = 1.0; var x = theta[0]; bump(&x, theta[1]); bump(&x, theta[2]);
         var a = array<f32, 3>(1.0, 2.0, 3.0); var one = a[1]; bump(&one, theta[0]); a[1] = one; return twice(x) + twice(a[1]) * counter + twice(1.0);",
        1.0,
        60.0,
        |t| {
            let x = t[0] + 3.0 * t[1] + 3.0 * t[2];
            let a = 2.0 + 3.0 * t[0];
            2.0 * x + 2.0 * a * 4.0 + 2.0
        },
    ));
    rows.push((
        "a call under a mask keeps other lanes",
        "var s = 0.0; if theta[0] > 0.0 { s = early(theta[1]); } else { s = early(theta[2]) + 1.0; } return s + early(theta[0]);",
        1.0,
        10.0,
        |t| {
            let early = |x: f64| if x < 0.0 { -x } else { x * x };
            (if t[0] > 0.0 { early(t[1]) } else { early(t[2]) + 1.0 }) + early(t[0])
        },
    ));
    rows.push((
        "a value keeps what it was when its variable changes",
        "var x = theta[0]; let old = x; x = theta[1]; let mid = x; if theta[2] > 0.0 { x = 5.0; }
         var v = vec2(theta[0], theta[1]); v = v.yx; let p = v; v.x = 9.0; return old + 2.0 * mid + 4.0 * x + 8.0 * p.x + p.y + v.x;",
        1.0,
        60.0,
        |t| t[0] + 2.0 * t[1] + 4.0 * (if t[2] > 0.0 { 5.0 } else { t[1] }) + 8.0 * t[1] + t[0] + 9.0,
    ));
    rows.push((
        "built-in functions of one number",
        "let x = theta[0]; let y = abs(theta[1]) + 0.1;
         return exp(x) + exp2(x) + log(y) + log2(y) + sqrt(y) + inverseSqrt(y) + sin(x) + cos(x) + tan(0.5 * x)
            + asin(0.4 * x) + acos(0.4 * x) + atan(x) + sinh(x) + cosh(x) + tanh(x) + sign(x) + floor(x) + ceil(x)
            + round(x) + trunc(x) + fract(x) + degrees(x) * 0.01 + radians(x) + saturate(x);",
        2.0,
        300.0,
        |t| {
            let (x, y) = (t[0], t[1].abs() + 0.1);
            let sign = if x > 0.0 { 1.0 } else { -1.0 };
            x.exp() + x.exp2() + y.ln() + y.log2() + y.sqrt() + 1.0 / y.sqrt() + x.sin() + x.cos()
                + (0.5 * x).tan()
                + (0.4 * x).asin()
                + (0.4 * x).acos()
                + x.atan() + x.sinh() + x.cosh() + x.tanh() + sign + x.floor() + x.ceil()
                + x.round_ties_even() + x.trunc() + (x - x.floor())
                + x.to_degrees() * 0.01
                + x.to_radians()
                + x.clamp(0.0, 1.0)
        },
    ));
    rows.push((
        "built-in functions of more numbers",
        "let x = theta[0]; let y = abs(theta[1]) + 0.5; let z = theta[2];
         return pow(y, z) + atan2(x, y) + min(x, z) + max(x, z) + clamp(x, -1.0, 1.0) + mix(x, y, 0.25) + step(0.0, x)
            + smoothstep(-1.0, 1.0, x) + fma(x, y, z) + x % 0.75 + select(x, z, y > 1.0) + ldexp(x, 2)
            + reflect(vec2(x, z), vec2(0.6, 0.8)).y + select(vec2(1.0), vec2(x), vec2<bool>(true, false)).x;",
        2.0,
        100.0,
        |t| {
            let (x, y, z) = (t[0], t[1].abs() + 0.5, t[2]);
            let s = ((x + 1.0) / 2.0).clamp(0.0, 1.0);
            y.powf(z) + x.atan2(y) + x.min(z) + x.max(z) + x.clamp(-1.0, 1.0) + 0.75 * x + 0.25 * y
                + f64::from(u8::from(x >= 0.0))
                + s * s * (3.0 - 2.0 * s)
                + x * y + z
                + x % 0.75
                + (if y > 1.0 { z } else { x })
                + 4.0 * x
                + (z - 2.0 * (0.6 * x + 0.8 * z) * 0.8)
                + x
        },
    ));
    rows.push((
        "modf and frexp",
        "let m = modf(theta[0]); let f = frexp(theta[1] + 3.0); return m.fract + 2.0 * m.whole + f.fract + f32(f.exp);",
        2.0,
        20.0,
        |t| {
            let e = (t[1] + 3.0).log2().floor() + 1.0;
            t[0].fract() + 2.0 * t[0].trunc() + (t[1] + 3.0) / e.exp2() + e
        },
    ));
    rows.push((
        "integers and bits",
        "let i = i32(theta[0] * 10.0); let u = u32(i + 100); var b = i < 0 || u > 105u; b = b && !(i == -3);
         let w = ((u << 3u) ^ (u >> 1u)) & 0xffu; let d = i / 3 + i % 3 + (i >> 1u) + abs(i) + min(i, 2) + max(i, -2);
         return f32(w) + f32(d) + f32(b) + f32(countOneBits(u) + firstLeadingBit(u) + countTrailingZeros(u)) + f32(~i) + f32(-i | 1);",
        2.0,
        400.0,
        |t| {
            let i = (t[0] as f32 * 10.0) as i32;
            let u = (i + 100) as u32;
            let b = (i < 0 || u > 105) && i != -3;
            let w = ((u << 3) ^ (u >> 1)) & 0xff;
            let d = i / 3 + i % 3 + (i >> 1) + i.abs() + i.min(2) + i.max(-2);
            f64::from(w) + f64::from(d) + f64::from(u8::from(b))
                + f64::from(u.count_ones() + (31 - u.leading_zeros()) + u.trailing_zeros())
                + f64::from(!i)
                + f64::from(-i | 1)
        },
    ));
    rows.push((
        "constants keep their digits",
        "const third = 1.0 / 3.0; const many = 3.14159265358979323846; const ten: f32 = 10; const more = ten * third / 4;
         let alone = third; let both = 0.1 * 3.0; let root = sqrt(2.0 * PI) + log(2.0) - exp(-0.5) + atan(ten) + length(vec2(3.0, 4.0));
         return theta[0] * third + many * 1e-3 + PI + 1e0f + ten / 3 + more + alone + both + root;",
        1.0,
        20.0,
        |t| {
            let pi = std::f64::consts::PI;
            t[0] / 3.0 + pi * 1.001 + 1.0 + 10.0 / 3.0 + 10.0 / 12.0 + 1.0 / 3.0 + 0.1 * 3.0 + (2.0 * pi).sqrt() + 2f64.ln() - (-0.5f64).exp() + 10f64.atan() + 5.0
        },
    ));
    rows.push((
        "the likelihood's own functions",
        "let x = theta[0]; let y = abs(theta[1]) + 0.5;
         return normal_log_pdf(x, theta[2], y) + log_add(x, theta[2]) + log_sum_exp3(vec3(x, y, theta[2]))
            + log_sum_exp4(vec4(x, y, theta[2], -1.0)) + log_sum_exp2(vec2(x, minus_infinity()))
            + student_t_log_pdf(x, 3.0, 0.0, y) + poisson_log_pmf(4.0, y) + square(x) + safe_exp(x) + safe_log(y) + safe_tanh(x)
            + select(0.0, 1.0, is_finite(x));",
        2.0,
        60.0,
        |t| {
            let (x, y, z) = (t[0], t[1].abs() + 0.5, t[2]);
            let half_log_tau = 0.5 * (2.0 * std::f64::consts::PI).ln();
            let sum = |v: &[f64]| v.iter().map(|a| a.exp()).sum::<f64>().ln();
            let u = (x - z) / y;
            let student = libm::lgamma(2.0) - libm::lgamma(1.5)
                - 0.5 * (3.0 * std::f64::consts::PI).ln() - y.ln()
                - 2.0 * (1.0 + (x / y).powi(2) / 3.0).ln();
            -0.5 * u * u - half_log_tau - y.ln() + sum(&[x, z]) + sum(&[x, y, z]) + sum(&[x, y, z, -1.0]) + x
                + student
                + 4.0 * y.ln() - y - 24f64.ln()
                + x * x + x.exp() + y.ln() + x.tanh() + 1.0
        },
    ));
    rows.push(("lgamma", "return lgamma(abs(theta[0]) * 20.0 + 0.05);", 1.0, 10.0, |t| {
        libm::lgamma(t[0].abs() * 20.0 + 0.05)
    }));
    rows.push(("erf", "return erf(theta[0]);", 4.0, 0.0, |t| libm::erf(t[0])));
    rows.push(("erfc", "return erfc(theta[0]);", 1.5, 0.0, |t| libm::erfc(t[0])));
    rows.push((
        "far tails",
        "return log_erfc(theta[0] * 20.0) + normal_log_cdf(-30.0 + theta[1]);",
        1.0,
        1.0,
        |t| {
            let tail = |x: f64| {
                if x < 5.0 {
                    return libm::erfc(x).ln();
                }
                // The asymptotic series at its smallest term is good to 1e-11 here; the fraction is what is tested.
                let fraction = (1..=200).rev().fold(x, |tail, k| x + 0.5 * f64::from(k) / tail);
                -x * x - (fraction * std::f64::consts::PI.sqrt()).ln()
            };
            tail(t[0] * 20.0) + tail((30.0 - t[1]) / 2f64.sqrt()) - 2f64.ln()
        },
    ));
    rows
}

const PREFIX: &str = "struct Pair { x: f32, n: i32, v: vec2<f32> }
var<private> counter: f32 = 2.0;
fn twice(x: f32) -> f32 { return 2.0 * x; }
fn early(x: f32) -> f32 { if x < 0.0 { return -x; } return x * x; }
fn bump(p: ptr<function, f32>, by: f32) { let was = *p; *p = was + by; *p += twice(by); counter += 1.0; }
fn log_likelihood(theta: array<f32, D>) -> f32 {\n";

#[test]
fn small_programs_agree_with_rust() {
    for (name, body, scale, magnitude, exact) in table() {
        println!("{name}");
        compare(name, &source(&format!("{PREFIX}{body}\n}}"), 3), scale, magnitude, exact);
    }
}
