//! The classifier of the sbibm bench against the one whose recipe it follows, that of scikit-learn.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::path::Path;
use std::process::Command;

use lwflow_benches::sbibm::c2st;
use ndarray::Array2;

#[test]
fn agrees_with_scikit_learn() {
    let Some(python) = std::env::var_os("LWFLOW_READERS_PYTHON") else {
        lwflow_skip::skip("LWFLOW_READERS_PYTHON names no Python with scikit-learn");
        return;
    };
    // Two sets of 400 in two dimensions, standard normal and with its second coordinate bent.
    let script = "import c2st, json, numpy as np\n\
                  x, y = np.random.default_rng(5).normal(size=(2, 400, 2))\n\
                  y[:, 1] += y[:, 0] ** 2 - 1.0\n\
                  x, y = c2st.standardised(x, y)\n\
                  print(json.dumps([x.ravel().tolist(), y.ravel().tolist(), c2st.c2st(x, y, (1,))]))";
    let references = Path::new(env!("CARGO_MANIFEST_DIR")).join("references");
    let output = Command::new(python).args(["-c", script]).current_dir(references).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let [x, y, theirs]: [Vec<f64>; 3] = serde_json::from_slice(&output.stdout).unwrap();
    let array =
        |v: Vec<f64>| Array2::from_shape_vec((400, 2), v.iter().map(|&v| v as f32).collect()).unwrap();
    let (x, y) = (array(x), array(y));
    let [theirs] = theirs[..] else { panic!("one seed, not {}", theirs.len()) };
    // A seed draws other numbers here and there.
    let ours = c2st(x.view(), y.view(), 1);
    println!("scikit-learn {theirs}, ours {ours}");
    assert!(theirs > 0.57, "there is something to tell");
    assert!((ours - theirs).abs() < 0.04);
}
