//! Truncated, overwritten and random bytes: an error or checked numbers, never a panic.

use proptest::prelude::*;

use super::super::{ChainSettings, SampleTable, WeightedPairs, read_chains, read_pairs, read_samples};
use super::{all, folder, put, write};

/// The bytes of a small valid file of the given extension.
fn valid(extension: &str) -> Vec<u8> {
    let folder = folder();
    let names = vec!["a".to_owned(), "b".to_owned()];
    let theta = (0..40).map(|i| f64::from(i) * 0.37 - 3.0).collect();
    let mut table = SampleTable::new(names, theta).unwrap();
    table.log_likelihood = Some((0..20).map(|i| -f64::from(i)).collect());
    let path = folder.path().join(format!("valid.{extension}"));
    write(&path, &table).unwrap();
    std::fs::read(path).unwrap()
}

fn check_pairs(pairs: &WeightedPairs) {
    assert_eq!(pairs.theta.len(), pairs.n * pairs.dim);
    assert_eq!(pairs.log_weights.len(), pairs.n);
    assert!(pairs.theta.iter().all(|v| v.is_finite()));
    assert!(pairs.log_weights.iter().all(|v| v.is_finite() || *v == f64::NEG_INFINITY));
    assert!(pairs.log_weights.iter().any(|v| v.is_finite()));
}

/// Reads the bytes by every reader of the extension.
fn survive(extension: &str, bytes: &[u8]) {
    let folder = folder();
    let path = put(&folder, &format!("damaged.{extension}"), bytes);
    if let Ok(pairs) = read_pairs(&path, &all(), None) {
        check_pairs(&pairs);
    }
    if let Ok(table) = read_samples(&path, &all()) {
        assert_eq!(table.theta.len(), table.n * table.dim);
        assert!(table.theta.iter().all(|v| v.is_finite()));
    }
}

#[derive(Debug, Clone)]
enum Damage {
    Cut(prop::sample::Index),
    Flip(Vec<(prop::sample::Index, u8)>),
    Overwrite(prop::sample::Index, Vec<u8>),
    Drop(prop::sample::Index, usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        index().prop_map(Damage::Cut),
        proptest::collection::vec((index(), 0_u8..8), 1..8).prop_map(Damage::Flip),
        (index(), proptest::collection::vec(any::<u8>(), 1..24)).prop_map(|(i, v)| Damage::Overwrite(i, v)),
        (index(), 1_usize..32).prop_map(|(i, n)| Damage::Drop(i, n)),
    ]
}

fn apply(mut bytes: Vec<u8>, damage: &Damage) -> Vec<u8> {
    let n = bytes.len();
    match damage {
        Damage::Cut(at) => bytes.truncate(at.index(n)),
        Damage::Flip(flips) => flips.iter().for_each(|(at, bit)| bytes[at.index(n)] ^= 1 << bit),
        Damage::Overwrite(at, with) => {
            let start = at.index(n);
            bytes.iter_mut().skip(start).zip(with).for_each(|(b, w)| *b = *w);
        }
        Damage::Drop(at, count) => {
            let start = at.index(n);
            bytes.drain(start..n.min(start + count));
        }
    }
    bytes
}

const CHAIN: &str = "2 1.5 0.1 0.2\n1 1.25 0.3 0.4\n5 2.5e0 -0.5 0.6\n1 inf 0.7 0.8\n";
const DEAD: &str = "0.1 0.2 -10.0 -inf\n0.3 0.4 -9 -1e30\n0.5 0.6 -8.5 -10.0\n0.7 0.8 -7 -9\n";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn damaged_npz(damage in damage()) {
        survive("npz", &apply(valid("npz"), &damage));
    }

    #[test]
    fn damaged_csv(damage in damage()) {
        survive("csv", &apply(valid("csv"), &damage));
    }

    #[test]
    fn damaged_parquet(damage in damage()) {
        survive("parquet", &apply(valid("parquet"), &damage));
    }

    #[test]
    fn random_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        for extension in ["npz", "csv", "parquet"] {
            survive(extension, &bytes);
        }
        // The same behind the right beginnings and ends.
        survive("npz", &[b"PK\x03\x04", &bytes[..], b"PK\x05\x06", &[0; 18]].concat());
        survive("parquet", &[b"PAR1", &bytes[..], &(bytes.len() as u32).to_le_bytes(), b"PAR1"].concat());
        survive("csv", &[b"a,log_likelihood\n", &bytes[..]].concat());
    }

    #[test]
    fn damaged_chains(damage in damage(), burn_in in 0.0_f64..1.0) {
        let folder = folder();
        put(&folder, "mc_1.txt", apply(CHAIN.into(), &damage));
        put(&folder, "ns_dead-birth.txt", apply(DEAD.into(), &damage));
        put(&folder, "ns_phys_live-birth.txt", "0.2 0.3 -5 -8.5\n");
        if let Ok(read) = read_chains(&folder.path().join("mc"), &ChainSettings { parameters: None, burn_in }) {
            check_pairs(&read.pairs);
        }
        if let Ok(read) = read_chains(&folder.path().join("ns"), &ChainSettings::default()) {
            check_pairs(&read.pairs);
            let log_z = read.pairs.log_z().unwrap();
            prop_assert!(log_z.log_z.is_finite() && log_z.sd.is_finite());
        }
    }

    #[test]
    fn numbers_of_any_kind_in_a_csv(values in proptest::collection::vec(any::<u64>().prop_map(f64::from_bits), 3..30)) {
        let rows: Vec<String> = values.chunks_exact(3).map(|r| format!("{},{},{}", r[0], r[1], r[2])).collect();
        survive("csv", format!("a,b,log_weight\n{}\n", rows.join("\n")).as_bytes());
    }
}

#[test]
fn every_truncation_of_every_format_is_refused() {
    for extension in ["npz", "parquet"] {
        let bytes = valid(extension);
        let folder = folder();
        for length in (0..bytes.len()).step_by(7).chain([bytes.len() - 1]) {
            let path = put(&folder, &format!("cut.{extension}"), &bytes[..length]);
            assert!(
                read_pairs(&path, &all(), None).is_err(),
                "{extension} cut to {length} of {} bytes",
                bytes.len()
            );
        }
    }
}

#[test]
fn no_single_flipped_bit_of_npz_data_goes_unnoticed() {
    let bytes = valid("npz");
    let clean = bytes.windows(8).position(|w| w == (-3.0_f64).to_le_bytes()).unwrap();
    let folder = folder();
    for bit in 0..64 {
        let mut flipped = bytes.clone();
        flipped[clean + bit / 8] ^= 1 << (bit % 8);
        let path = put(&folder, "flipped.npz", &flipped);
        assert!(read_pairs(&path, &all(), None).is_err(), "bit {bit}");
    }
}
