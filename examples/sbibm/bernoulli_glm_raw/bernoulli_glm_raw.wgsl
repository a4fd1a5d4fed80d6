// bernoulli_glm_raw of sbibm (Lueckmann et al. 2021, T.6): a neuron spikes in bin t with probability
// logistic(offset + sum_l filter_l I_(t - l)), l = 0..8; I is a fixed stimulus of white noise. x is the spikes themselves,
// 0 or 1. Data: one row of a hundred.
//
// Prior of the paper: offset N(0, 2), filter N(0, (F^T F)^-1) with F = D D + diag(sqrt(i / 9)), D the first differences.
// theta here is eta, standard normal in ten dimensions: offset = sqrt(2) eta_0 and F filter = eta_1..9, solved forwards.

// The stimulus: numpy.random.RandomState(42).randn(100) in f32, as in the package sbibm (MIT).
const STIMULUS = array<f32, 100>(
    0.496714145, -0.138264298, 0.647688568, 1.5230298, -0.234153375, -0.234136954, 1.57921278, 0.767434716,
    -0.469474375, 0.542560041, -0.463417679, -0.465729743, 0.241962269, -1.91328025, -1.72491789, -0.562287509,
    -1.01283109, 0.31424734, -0.908024073, -1.41230369, 1.46564877, -0.2257763, 0.0675282031, -1.42474818,
    -0.544382751, 0.11092259, -1.15099359, 0.37569803, -0.600638688, -0.291693747, -0.601706624, 1.85227823,
    -0.013497225, -1.05771089, 0.822544932, -1.22084367, 0.208863601, -1.95967007, -1.32818604, 0.196861237,
    0.738466561, 0.171368286, -0.115648285, -0.301103681, -1.47852194, -0.719844222, -0.460638762, 1.05712223,
    0.343618304, -1.76304018, 0.324083984, -0.385082275, -0.676922023, 0.611676276, 1.03099954, 0.931280136,
    -0.839217544, -0.309212387, 0.331263423, 0.975545108, -0.479174227, -0.185658976, -1.10633492, -1.19620657,
    0.812525809, 1.35624003, -0.0720101222, 1.00353289, 0.361636013, -0.645119727, 0.361395597, 1.53803658,
    -0.0358260386, 1.56464362, -2.61974502, 0.821902514, 0.0870470703, -0.299007356, 0.0917607769, -1.98756886,
    -0.21967189, 0.357112557, 1.47789407, -0.518270195, -0.808493614, -0.501757026, 0.915402114, 0.328751117,
    -0.529760182, 0.513267457, 0.0970775485, 0.968644977, -0.70205307, -0.32766214, -0.392108142, -1.46351492,
    0.296120286, 0.261055261, 0.00511345686, -0.234587133,
);

// Offset and filter.
fn derived(theta: array<f32, 10>) -> array<f32, 10> {
    var b: array<f32, 10>;
    b[0] = 1.4142135624 * theta[0];
    var last = 0.0;
    var before = 0.0;
    for (var i = 0u; i < 9u; i++) {
        let next = (theta[i + 1u] + 2.0 * last - before) / (1.0 + sqrt(f32(i) / 9.0));
        b[i + 1u] = next;
        before = last;
        last = next;
    }
    return b;
}

// Log odds of a spike in bin t.
fn log_odds(b: array<f32, 10>, t: u32) -> f32 {
    var total = b[0];
    for (var l = 0u; l < 9u && l <= t; l++) {
        total += b[l + 1u] * STIMULUS[t - l];
    }
    return total;
}

fn log_likelihood(theta: array<f32, D>) -> f32 {
    let b = derived(theta);
    var total = 0.0;
    for (var t = 0u; t < 100u; t++) {
        let psi = log_odds(b, t);
        total += data(0u, t) * psi - max(psi, 0.0) - log(1.0 + safe_exp(-abs(psi)));
    }
    return total;
}

fn simulate(theta: array<f32, D>, stream: ptr<function, Random>) -> array<f32, 100> {
    let b = derived(theta);
    var x: array<f32, 100>;
    for (var t = 0u; t < 100u; t++) {
        x[t] = select(0.0, 1.0, uniform01(stream) * (1.0 + safe_exp(-log_odds(b, t))) < 1.0);
    }
    return x;
}
