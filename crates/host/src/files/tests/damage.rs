//! Truncated, overwritten and random bytes: an error or checked numbers, never a panic.

use parquet::basic::Compression;
use proptest::prelude::*;

use super::super::parquet_file::ParquetOut;
use super::super::{FileError, SampleTable, WeightedPairs, read_pairs, read_samples};
use super::{all, folder, npz, put, write};

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

pub(super) fn check_pairs(pairs: &WeightedPairs) {
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
pub(super) enum Damage {
    Cut(prop::sample::Index),
    Flip(Vec<(prop::sample::Index, u8)>),
    Overwrite(prop::sample::Index, Vec<u8>),
    Drop(prop::sample::Index, usize),
}

pub(super) fn damage() -> impl Strategy<Value = Damage> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        index().prop_map(Damage::Cut),
        proptest::collection::vec((index(), 0_u8..8), 1..8).prop_map(Damage::Flip),
        (index(), proptest::collection::vec(any::<u8>(), 1..24)).prop_map(|(i, v)| Damage::Overwrite(i, v)),
        (index(), 1_usize..32).prop_map(|(i, n)| Damage::Drop(i, n)),
    ]
}

pub(super) fn apply(mut bytes: Vec<u8>, damage: &Damage) -> Vec<u8> {
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

/// A table of columns a, b and log_weight, whatever the numbers.
fn table_of(extension: &str, values: &[f64]) -> Vec<u8> {
    let n = values.len() / 3;
    let column = |j: usize| -> Vec<f64> { values.chunks_exact(3).map(|row| row[j]).collect() };
    match extension {
        "npz" => {
            let theta: Vec<f64> = values.chunks_exact(3).flat_map(|row| [row[0], row[1]]).collect();
            npz(&[("theta", &[n as u64, 2], &theta), ("log_weight", &[n as u64], &column(2))])
        }
        "csv" => {
            let rows = values.chunks_exact(3).map(|row| format!("{},{},{}\n", row[0], row[1], row[2]));
            ["a,b,log_weight\n".to_owned()].into_iter().chain(rows).collect::<String>().into_bytes()
        }
        _ => {
            let names = ["a", "b", "log_weight"].map(str::to_owned);
            let mut bytes = Vec::new();
            let mut out = ParquetOut::new(&mut bytes, &names, None, Compression::SNAPPY).unwrap();
            out.rows(n, |row, column| values[3 * row + column]).unwrap();
            out.finish().unwrap();
            bytes
        }
    }
}

const FORMATS: [&str; 3] = ["npz", "csv", "parquet"];

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
    fn numbers_of_any_kind(values in proptest::collection::vec(any::<u64>().prop_map(f64::from_bits), 3..30)) {
        for extension in FORMATS {
            survive(extension, &table_of(extension, &values));
        }
    }

    #[test]
    fn a_number_that_is_none_is_refused_with_its_row(
        n in 1_usize..20,
        at in any::<prop::sample::Index>(),
        bad in prop::sample::select(vec![f64::NAN, -f64::NAN, f64::INFINITY, f64::NEG_INFINITY]),
    ) {
        let mut values: Vec<f64> = (0..3 * n).map(|i| 0.5 * i as f64).collect();
        let at = at.index(3 * n);
        values[at] = bad;
        let folder = folder();
        for extension in FORMATS {
            let path = put(&folder, &format!("bad.{extension}"), table_of(extension, &values));
            match read_pairs(&path, &all(), None) {
                // A log weight of -inf is legal beside another.
                Ok(pairs) => {
                    prop_assert!(at % 3 == 2 && bad == f64::NEG_INFINITY && n > 1, "{}", extension);
                    check_pairs(&pairs);
                }
                Err(FileError::BadValue { at: place, .. }) => prop_assert_eq!(place.row, at / 3, "{}", extension),
                Err(error) => {
                    let alone = at % 3 == 2 && bad == f64::NEG_INFINITY && n == 1;
                    prop_assert!(alone && matches!(error, FileError::AllWeightsZero { .. }), "{error}");
                }
            }
        }
    }
}

/// Cut text may be a whole table of fewer rows, or end in a number without its end; no row before that is read as another.
#[test]
fn a_truncated_csv_is_refused_or_read_up_to_its_end() {
    let bytes = valid("csv");
    let folder = folder();
    let whole = read_pairs(&put(&folder, "whole.csv", &bytes), &all(), None).unwrap();
    for length in 0..bytes.len() {
        let path = put(&folder, "cut.csv", &bytes[..length]);
        let Ok(pairs) = read_pairs(&path, &all(), None) else { continue };
        check_pairs(&pairs);
        let same = 2 * (pairs.n - 1);
        assert!(pairs.n <= whole.n && pairs.theta[..same] == whole.theta[..same], "cut to {length}");
    }
}

#[test]
fn empty_tables_are_refused() {
    let folder = folder();
    for extension in FORMATS {
        for bytes in [Vec::new(), table_of(extension, &[])] {
            let path = put(&folder, &format!("empty.{extension}"), bytes);
            let error = read_pairs(&path, &all(), None).unwrap_err();
            assert!(matches!(error, FileError::Empty { .. }), "{extension}: {error}");
        }
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
