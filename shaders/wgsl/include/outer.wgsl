// The outermost bijection of each parameter in 32 bits, four samples at once; model/src/bijection.rs has the formulas. Host
// and device number the kinds of edges alike: see gpu/flow/on_device.rs.
struct Outer {
    lower: f32,     // bounds; 0 where there is none
    upper: f32,
    least: f32,     // the least and the largest f32 strictly inside
    largest: f32,
    cut: f32,       // of a circle
    has_cut: f32,   // 1: there is one
    sharpness: f32,
    kind: f32,
    location: f32,  // y = location + scale x
    scale: f32,
    log_scale: f32,
    padding: f32,
}
struct Mapped {
    value: vec4<f32>,
    log_det: vec4<f32>, // log |d theta / d y|
}
const UNBOUNDED = 0u;
const LOWER_SOFT = 1u;
const LOWER_HARD = 2u;
const UPPER_SOFT = 3u;
const UPPER_HARD = 4u;
const SOFT_SOFT = 5u;
const HARD_HARD = 6u;
const HARD_SOFT = 7u; // lower, upper
const SOFT_HARD = 8u;

// log(1 + t), t > -1: a series where 1 + t would round t away.
fn log_1p(t: vec4<f32>) -> vec4<f32> {
    let series = t * (1.0 - t * (0.5 - t * (1.0 / 3.0 - t * (0.25 - t * (0.2 - t / 6.0)))));
    return select(log(1.0 + t), series, abs(t) < vec4<f32>(0.1));
}
// 1 - exp(-t), t >= 0.
fn one_minus_exp(t: vec4<f32>) -> vec4<f32> {
    let series = t * (1.0 - t * (0.5 - t * (1.0 / 6.0 - t * (1.0 / 24.0 - t / 120.0))));
    return select(1.0 - safe_exp(-t), series, t < vec4<f32>(0.1));
}
fn softplus(t: vec4<f32>) -> vec4<f32> {
    return max(t, vec4<f32>(0.0)) + log_1p(safe_exp(-abs(t)));
}
fn log_sigmoid(t: vec4<f32>) -> vec4<f32> {
    return -softplus(-t);
}
// log(1 - exp(-t)), t > 0.
fn log_1m_exp(t: vec4<f32>) -> vec4<f32> {
    return select(log_1p(-safe_exp(-t)), log(one_minus_exp(t)), t < vec4<f32>(0.69314718));
}
// A distance from the lower bound, or from the upper one.
struct Sided {
    distance: vec4<f32>,
    from_lower: vec4<bool>,
    log_det: vec4<f32>,
}
fn hard_soft(c: f32, w: f32, y: vec4<f32>) -> Sided {
    let b = c * safe_exp(y);
    let bb = vec4<f32>(c * w);
    let total = softplus(bb);
    let sigmoid = safe_exp(log_sigmoid(bb));
    let remaining = safe_exp(log_sigmoid(-bb)) + sigmoid * safe_exp(-b);
    let log_det = log(w) - log(total) + log_sigmoid(bb) - b - log(remaining) + log(c) + y;
    let q = select(-log(remaining), -log_1p(-sigmoid * one_minus_exp(b)), b < vec4<f32>(1.0));
    let from_lower = q < 0.5 * total;
    return Sided(w * select(softplus(bb - b), q, from_lower) / total, from_lower, log_det);
}
fn hard_soft_inverse(c: f32, from_lower: vec4<f32>, from_upper: vec4<f32>) -> vec4<f32> {
    let w = from_lower + from_upper;
    let bb = c * w;
    let total = softplus(bb);
    let q = total * from_lower / w;
    let s = total * from_upper / w;
    let b = select(bb - (s + log_1m_exp(s)), -log_1p(-one_minus_exp(q) / safe_exp(log_sigmoid(bb))), q < vec4<f32>(1.0));
    return log(b / c);
}
fn two_sided(o: Outer, kind: u32, y: vec4<f32>) -> Sided {
    let w = o.upper - o.lower;
    let c = o.sharpness;
    if kind == SOFT_SOFT {
        let t = c * (y - o.lower);
        let a = vec4<f32>(c * w);
        let from_lower = t < 0.5 * a;
        let s = select(a - t, t, from_lower);
        let near = -log_1p(-safe_exp(log_sigmoid(s)) * one_minus_exp(a));
        let distance = select(near, softplus(s) - softplus(s - a), s > vec4<f32>(1.0));
        return Sided(distance / c, from_lower, log_sigmoid(t) + log_sigmoid(a - t) + log_1m_exp(a));
    }
    if kind == HARD_HARD {
        let log_det = log(w) + log_sigmoid(y) + log_sigmoid(-y);
        return Sided(w * safe_exp(log_sigmoid(-abs(y))), y < vec4<f32>(0.0), log_det);
    }
    let flipped = kind == SOFT_HARD;
    let sided = hard_soft(c, w, select(y, -y, flipped));
    return Sided(sided.distance, sided.from_lower != vec4<bool>(flipped), sided.log_det);
}
// Real line to support.
fn from_real(o: Outer, y: vec4<f32>) -> Mapped {
    let kind = u32(o.kind);
    let c = o.sharpness;
    var x = y;
    var log_det = vec4<f32>(0.0);
    if kind == LOWER_SOFT {
        x = o.lower + softplus(c * (y - o.lower)) / c;
        log_det = log_sigmoid(c * (y - o.lower));
    } else if kind == LOWER_HARD {
        x = o.lower + safe_exp(y);
        log_det = y;
    } else if kind == UPPER_SOFT {
        x = o.upper - softplus(c * (o.upper - y)) / c;
        log_det = log_sigmoid(c * (o.upper - y));
    } else if kind == UPPER_HARD {
        x = o.upper - safe_exp(-y);
        log_det = -y;
    } else if kind >= SOFT_SOFT {
        let sided = two_sided(o, kind, y);
        log_det = sided.log_det;
        if o.has_cut > 0.5 {
            let above = o.cut + sided.distance;
            let below = o.cut - sided.distance;
            let rolled = select(above, o.lower + (above - o.upper), above >= vec4<f32>(o.upper));
            let back = select(below, o.upper - (o.lower - below), below <= vec4<f32>(o.lower));
            x = select(back, rolled, sided.from_lower);
        } else {
            x = select(o.upper - sided.distance, o.lower + sided.distance, sided.from_lower);
        }
    }
    return Mapped(clamp(x, vec4<f32>(o.least), vec4<f32>(o.largest)), log_det);
}
// Support to real line, for x strictly inside.
fn to_real(o: Outer, x: vec4<f32>) -> Mapped {
    let kind = u32(o.kind);
    let c = o.sharpness;
    var y = x;
    if kind == LOWER_SOFT {
        y = x + log_1m_exp(c * (x - o.lower)) / c;
    } else if kind == LOWER_HARD {
        y = log(x - o.lower);
    } else if kind == UPPER_SOFT {
        y = x - log_1m_exp(c * (o.upper - x)) / c;
    } else if kind == UPPER_HARD {
        y = -log(o.upper - x);
    } else if kind >= SOFT_SOFT {
        var a = x - o.lower;
        var b = o.upper - x;
        if o.has_cut > 0.5 {
            let least = vec4<f32>(1.1920929e-7 * (o.upper - o.lower));
            let above = x >= vec4<f32>(o.cut);
            let from_cut = max(abs(x - o.cut), least);
            let across = select((o.upper - o.cut) + (x - o.lower), (o.upper - x) + (o.cut - o.lower), above);
            a = select(across, from_cut, above);
            b = select(from_cut, across, above);
        }
        if kind == SOFT_SOFT {
            y = o.lower + a + (log_1m_exp(c * a) - log_1m_exp(c * b)) / c;
        } else if kind == HARD_HARD {
            y = log(a) - log(b);
        } else if kind == HARD_SOFT {
            y = hard_soft_inverse(c, a, b);
        } else {
            y = -hard_soft_inverse(c, b, a);
        }
    }
    return Mapped(y, from_real(o, y).log_det);
}
