//! Pairs: what the log weights are for each kind of file, and when an evidence is offered.

use approx::assert_relative_eq;

use super::super::{Evidence, FileError, SampleTable, WeightKind, WeightedPairs, read_pairs, read_theta};
use super::{all, folder, named, npz, put, write};

const THETA: [f64; 6] = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0];

fn read_npz(arrays: &[(&str, &[u64], &[f64])]) -> Result<WeightedPairs, FileError> {
    let folder = folder();
    read_pairs(&put(&folder, "pairs.npz", npz(arrays)), &all(), None)
}

#[test]
fn prior_draws_weigh_by_the_likelihood_and_give_an_evidence() {
    let log_l = [-1.0, f64::NEG_INFINITY, -3.0];
    let pairs = read_npz(&[("theta", &[3, 2], &THETA), ("log_likelihood", &[3], &log_l)]).unwrap();
    assert_eq!(pairs.kind, WeightKind::PriorDraws);
    assert_eq!(pairs.log_weights, log_l);
    assert_eq!(pairs.names, ["x0", "x1"]);
    assert!(
        pairs.notes.iter().any(|n| n.contains("draws are taken to come from the prior")),
        "{:?}",
        pairs.notes
    );
    let z = ((-1.0_f64).exp() + (-3.0_f64).exp()) / 3.0;
    let w = [(-1.0_f64).exp() / (3.0 * z), 0.0, (-3.0_f64).exp() / (3.0 * z)];
    let ess = 1.0 / (w[0] * w[0] + w[2] * w[2]);
    let log_z = pairs.log_z().unwrap();
    assert_relative_eq!(pairs.ess(), ess, epsilon = 1e-12);
    assert_relative_eq!(log_z.log_z, z.ln(), epsilon = 1e-12);
    assert_relative_eq!(log_z.sd, ((3.0 / ess - 1.0) / 3.0).sqrt(), epsilon = 1e-12);
    assert_relative_eq!(pairs.weights()[0], w[0], epsilon = 1e-12);
    assert_eq!(pairs.weights()[1], 0.0);
}

#[test]
fn proposal_draws_need_a_prior_from_the_file_or_the_caller() {
    let folder = folder();
    let log_l: &[f64] = &[-1.0, -2.0, -3.0];
    let log_r: &[f64] = &[0.5, 0.25, 0.125];
    let arrays =
        [("theta", &[3, 2][..], &THETA[..]), ("log_likelihood", &[3], log_l), ("log_proposal", &[3], log_r)];
    let path = put(&folder, "pairs.npz", npz(&arrays));
    let error = read_pairs(&path, &all(), None).unwrap_err();
    assert!(matches!(&error, FileError::Missing { wanted, .. } if wanted.contains("log_prior")), "{error}");
    assert!(!error.to_string().contains("did you mean"), "{error}");

    let prior = |theta: &[f64]| -theta[0] - 10.0 * theta[1];
    let pairs = read_pairs(&path, &all(), Some(&prior)).unwrap();
    assert_eq!(pairs.kind, WeightKind::ProposalDraws);
    for (i, lw) in pairs.log_weights.iter().enumerate() {
        let theta = &THETA[2 * i..2 * i + 2];
        assert_relative_eq!(*lw, log_l[i] - theta[0] - 10.0 * theta[1] - log_r[i], epsilon = 1e-12);
    }
    assert_eq!(pairs.log_proposal.as_deref(), Some(log_r));

    // The file's own prior goes first.
    let mut arrays = arrays.to_vec();
    arrays.push(("log_prior", &[3], &[-7.0, f64::NEG_INFINITY, -7.0]));
    let path = put(&folder, "pairs.npz", npz(&arrays));
    let pairs = read_pairs(&path, &all(), Some(&prior)).unwrap();
    assert_relative_eq!(pairs.log_weights[2], -3.0 - 7.0 - 0.125, epsilon = 1e-12);
    assert_eq!(pairs.log_weights[1], f64::NEG_INFINITY);
    assert!(pairs.log_z().is_some());
}

#[test]
fn a_prior_that_returns_nan_is_named_with_its_row() {
    let folder = folder();
    let v: &[f64] = &[0.0, 0.0, 0.0];
    let arrays = [("theta", &[3, 2][..], &THETA[..]), ("log_likelihood", &[3], v), ("log_proposal", &[3], v)];
    let path = put(&folder, "pairs.npz", npz(&arrays));
    let prior = |theta: &[f64]| if theta[0] > 3.0 { f64::NAN } else { 0.0 };
    let text = read_pairs(&path, &all(), Some(&prior)).unwrap_err().to_string();
    assert!(text.contains("row 2") && text.contains("given prior") && text.contains("[4, 5]"), "{text}");
}

#[test]
fn bare_weights_never_give_an_evidence() {
    let pairs = read_npz(&[("theta", &[3, 2], &THETA), ("weight", &[3], &[2.0, 0.0, 1.0])]).unwrap();
    assert_eq!(pairs.kind, WeightKind::Weight);
    assert_eq!(pairs.evidence, Evidence::Unavailable);
    assert_eq!(pairs.log_z(), None);
    assert_eq!(pairs.log_weights, [2.0_f64.ln(), f64::NEG_INFINITY, 0.0]);
    assert!(pairs.notes.iter().any(|n| n.contains("log Z is null")), "{:?}", pairs.notes);
}

#[test]
fn log_weights_give_an_evidence_unless_they_were_normalised() {
    let read = |lw: &[f64]| read_npz(&[("theta", &[3, 2], &THETA), ("log_weight", &[3], lw)]).unwrap();
    let log_z = read(&[-5.0, -6.0, -7.0]).log_z().unwrap();
    let z = ((-5.0_f64).exp() + (-6.0_f64).exp() + (-7.0_f64).exp()) / 3.0;
    assert_relative_eq!(log_z.log_z, z.ln(), epsilon = 1e-12);
    for scaled in [[0.5_f64, 0.25, 0.25], [1.0, 0.25, 0.25], [1.5, 0.75, 0.75]] {
        let pairs = read(&scaled.map(f64::ln));
        assert_eq!(pairs.log_z(), None, "{scaled:?}");
        assert!(pairs.notes.iter().any(|n| n.contains("normalised")), "{:?}", pairs.notes);
    }
}

#[test]
fn context_is_read_and_takes_the_evidence_away() {
    let context = [9.0, 8.0, 7.0];
    let arrays = [
        ("theta", &[3, 2][..], &THETA[..]),
        ("log_likelihood", &[3], &[-1.0; 3]),
        ("context", &[3, 1], &context),
    ];
    let pairs = read_npz(&arrays).unwrap();
    assert_eq!((pairs.context_dim, &pairs.context[..]), (1, &context[..]));
    assert_eq!(pairs.log_z(), None);
}

#[test]
fn columns_of_a_csv_find_their_roles_by_name() {
    let folder = folder();
    let text = "# b , context_10, log_likelihood,a,context_9 \n 1,10,-1 , 2,9\n3,30,-inf,4,27\n";
    let path = put(&folder, "pairs.csv", text);
    let pairs = read_pairs(&path, &all(), None).unwrap();
    assert_eq!(pairs.names, ["b", "a"]);
    assert_eq!(pairs.theta, [1.0, 2.0, 3.0, 4.0]);
    assert_eq!(pairs.context_names, ["context_9", "context_10"]);
    assert_eq!(pairs.context, [9.0, 10.0, 27.0, 30.0]);
    assert_eq!(pairs.log_weights, [-1.0, f64::NEG_INFINITY]);

    let chosen = read_pairs(&path, &named(&["a"]), None).unwrap();
    assert_eq!((chosen.names, chosen.theta), (vec!["a".to_owned()], vec![2.0, 4.0]));
}

#[test]
fn columns_left_out_and_names_taken_in_order_are_said() {
    let folder = folder();
    let said = |path: &std::path::Path, names: &[&str]| {
        read_pairs(path, &named(names), None).unwrap().notes.join("; ")
    };
    let csv = put(&folder, "p.csv", "a,b,context_0,log_likelihood,log_prob\n1,2,3,-1,0\n2,3,4,-2,0\n");
    assert!(said(&csv, &["a"]).contains("not asked for and left out: b;"), "{}", said(&csv, &["a"]));
    assert!(!said(&csv, &["b", "a"]).contains("left out"));
    let arrays = [("theta", &[3, 2][..], &THETA[..]), ("log_likelihood", &[3], &[-1.0, -2.0, -3.0])];
    let npz = put(&folder, "p.npz", npz(&arrays));
    assert!(said(&npz, &["u", "v"]).contains("in order are taken to be u, v"), "{}", said(&npz, &["u", "v"]));
    let named_npz = folder.path().join("n.npz");
    let table = SampleTable::new(vec!["u".into(), "v".into()], vec![1.0, 2.0, 3.0, 4.0]).unwrap();
    write(&named_npz, &table).unwrap();
    let fields = read_theta(&named_npz, &named(&["v"])).unwrap();
    assert_eq!(fields.theta, [2.0, 4.0]);
}

#[test]
fn a_context_and_nothing_to_weigh_by_are_joint_draws() {
    let folder = folder();
    let context = [9.0, 8.0, 7.0];
    let joint = |pairs: &WeightedPairs| {
        assert_eq!((pairs.kind, &pairs.log_weights[..]), (WeightKind::JointDraws, &[0.0; 3][..]));
        assert_eq!((pairs.context_dim, &pairs.context[..], pairs.log_z()), (1, &context[..], None));
        let said = pairs.notes.join("; ");
        assert!(said.contains("every pair has weight one") && !said.contains("not read"), "{said}");
    };
    joint(&read_npz(&[("theta", &[3, 2], &THETA), ("context", &[3, 1], &context)]).unwrap());
    joint(&read_npz(&[("theta", &[3, 2], &THETA), ("x", &[3, 1], &context)]).unwrap());
    let table = "a,b,context_0\n0,1,9\n2,3,8\n4,5,7\n";
    joint(&read_pairs(&put(&folder, "pairs.csv", table), &all(), None).unwrap());
    let mut table = SampleTable::new(vec!["a".into(), "b".into()], THETA.to_vec()).unwrap();
    (table.context, table.context_dim) = (context.to_vec(), 1);
    let path = folder.path().join("pairs.parquet");
    write(&path, &table).unwrap();
    joint(&read_pairs(&path, &all(), None).unwrap());
    // In a table x is a parameter; without a context there is something to weigh by.
    for text in ["a,x\n0,1\n", "a,b,log_proposal\n0,1,2\n"] {
        let error = read_pairs(&put(&folder, "pairs.csv", text), &all(), None).unwrap_err().to_string();
        assert!(error.contains("`context_...`"), "{error}");
    }
}

#[test]
fn the_context_of_an_npz_may_be_called_x_and_nothing_is_dropped_in_silence() {
    let context = [9.0, 8.0, 7.0];
    let arrays = [
        ("theta", &[3, 2][..], &THETA[..]),
        ("x", &[3, 1], &context),
        ("log_weight", &[3], &[-1.0, -2.0, -3.0]),
    ];
    let pairs = read_npz(&arrays).unwrap();
    assert_eq!((pairs.kind, &pairs.context[..]), (WeightKind::LogWeight, &context[..]));
    let more = |name: &'static str, shape: &'static [u64]| {
        let mut arrays = arrays.to_vec();
        arrays.push((name, shape, &context));
        read_npz(&arrays)
    };
    let error = more("context", &[3, 1]).unwrap_err().to_string();
    assert!(error.contains("`x`") && error.contains("beside `context`"), "{error}");
    let said = |name| more(name, &[3]).unwrap().notes.join("; ");
    assert!(said("chi2").contains("not read: chi2"), "{}", said("chi2"));
    assert!(said("log_prob").contains("not read: log_prob"));
    // Misspelt weights are not taken for none.
    let theta = ("theta", &[3, 2][..], &THETA[..]);
    for (name, meant) in [("weights", "weights"), ("loglikelihood", "loglikelihood"), ("log_w", "log_w")] {
        let error =
            read_npz(&[theta, ("x", &[3, 1], &context), (name, &[3], &context)]).unwrap_err().to_string();
        assert!(error.contains(&format!("did you mean `{meant}`?")), "{error}");
    }
    let pairs = read_npz(&[theta, ("x", &[3, 1], &context), ("y", &[3], &context)]).unwrap();
    assert_eq!(pairs.kind, WeightKind::JointDraws);
    let error = read_npz(&[theta, ("x", &[3], &context)]).unwrap_err().to_string();
    assert!(error.contains("`x` has shape [3], expected [3, C]"), "{error}");
}

#[test]
fn joint_draws_of_a_proposal_weigh_by_prior_over_proposal() {
    let folder = folder();
    let (context, log_r): ([f64; 3], [f64; 3]) = ([9.0, 8.0, 7.0], [0.5, 0.25, 0.125]);
    let mut arrays =
        vec![("theta", &[3, 2][..], &THETA[..]), ("x", &[3, 1], &context), ("log_proposal", &[3], &log_r)];
    let path = put(&folder, "pairs.npz", npz(&arrays));
    let error = read_pairs(&path, &all(), None).unwrap_err().to_string();
    assert!(error.contains("`log_prior`, which log_proposal needs"), "{error}");
    let prior = |theta: &[f64]| -theta[0];
    let pairs = read_pairs(&path, &all(), Some(&prior)).unwrap();
    assert_eq!(pairs.kind, WeightKind::ProposalDraws);
    for (i, lw) in pairs.log_weights.iter().enumerate() {
        assert_relative_eq!(*lw, -THETA[2 * i] - log_r[i], epsilon = 1e-12);
    }
    assert!(pairs.notes.iter().any(|n| n.contains("prior over proposal")), "{:?}", pairs.notes);
    let log_p = [-1.0, f64::NEG_INFINITY, -2.0];
    arrays.push(("log_prior", &[3], &log_p));
    let pairs = read_npz(&arrays).unwrap();
    assert_eq!(pairs.log_weights, [-1.5, f64::NEG_INFINITY, -2.125]);
    let none = [f64::NEG_INFINITY; 3];
    arrays.pop();
    arrays.push(("log_prior", &[3], &none));
    assert!(read_npz(&arrays).unwrap_err().to_string().contains("log_prior is -inf everywhere"));
}
