//! What is written reads back bit for bit, and what numpy may write is read.

use parquet::basic::{Compression, GzipLevel, ZstdLevel};
use proptest::prelude::*;

use super::super::npz::NpzFile;
use super::super::parquet_file::ParquetOut;
use super::super::{
    ColumnChoice, FileError, SampleTable, SampleWriter, read_samples, read_theta, write_samples,
};
use super::{all, folder, named, npy_array, put, write, zip_of};

fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// Any finite number, the smallest and largest included.
fn finite() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<u64>().prop_map(f64::from_bits).prop_filter("finite", |v| v.is_finite()),
        -1e3..1e3,
        Just(-0.0)
    ]
}

fn table() -> impl Strategy<Value = SampleTable> {
    (1_usize..12, 1_usize..4, 0_usize..3, any::<[bool; 3]>()).prop_flat_map(|(n, dim, context_dim, has)| {
        let vector = |there: bool| {
            let value = prop_oneof![9 => finite(), 1 => Just(f64::NEG_INFINITY)];
            proptest::collection::vec(value, n).prop_map(move |v| there.then_some(v))
        };
        let matrix = |width: usize| proptest::collection::vec(finite(), n * width);
        (matrix(dim), matrix(context_dim), vector(has[0]), vector(has[1]), vector(has[2])).prop_map(
            move |(theta, context, log_prob, log_weight, log_likelihood)| SampleTable {
                names: (0..dim).map(|i| format!("par{i}, \"μ\"")).collect(),
                theta,
                n,
                dim,
                context,
                context_dim,
                log_prob,
                log_weight,
                log_likelihood,
                ..SampleTable::default()
            },
        )
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn every_format_reads_back_what_was_written(table in table()) {
        let folder = folder();
        for name in ["t.npz", "t.csv", "t.parquet"] {
            let path = folder.path().join(name);
            write(&path, &table).unwrap();
            let back = read_samples(&path, &all()).unwrap();
            prop_assert_eq!(bits(&back.theta), bits(&table.theta), "{}", name);
            prop_assert_eq!(bits(&back.context), bits(&table.context), "{}", name);
            prop_assert_eq!(&back, &table, "{}", name);
        }
    }
}

fn small() -> SampleTable {
    let names = vec!["a".to_owned(), "b".to_owned()];
    let mut table = SampleTable::new(names, vec![0.1, 1e300, -2.5, 3.0]).unwrap();
    table.log_prob = Some(vec![-1.5, f64::NEG_INFINITY]);
    table
}

#[test]
fn a_dash_is_csv_on_the_given_sink() {
    let mut stdout = Vec::new();
    write_samples("-".as_ref(), &small(), &mut stdout).unwrap();
    assert_eq!(String::from_utf8(stdout).unwrap(), "a,b,log_prob\n0.1,1e300,-1.5\n-2.5,3.0,-inf\n");
}

#[test]
fn the_same_table_always_gives_the_same_bytes_and_replaces_the_old_file() {
    let folder = folder();
    for name in ["t.npz", "t.csv", "t.parquet"] {
        let path = put(&folder, name, "an older file that is longer than nothing");
        write(&path, &small()).unwrap();
        let first = std::fs::read(&path).unwrap();
        write(&path, &small()).unwrap();
        assert_eq!(first, std::fs::read(&path).unwrap(), "{name}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3, "temporary files were left behind");
}

#[test]
fn pieces_make_the_same_file_as_the_whole() {
    let folder = folder();
    let whole = small();
    let pieces = [0, 1].map(|row| SampleTable {
        theta: whole.theta[2 * row..][..2].to_vec(),
        log_prob: whole.log_prob.as_ref().map(|v| vec![v[row]]),
        n: 1,
        ..whole.clone()
    });
    for name in ["t.npz", "t.csv", "t.parquet"] {
        let (one, two) = (folder.path().join(name), folder.path().join(format!("pieces_{name}")));
        write(&one, &whole).unwrap();
        let mut stdout = Vec::new();
        let mut writer = SampleWriter::create(&two, &pieces[0], &mut stdout).unwrap();
        for piece in &pieces {
            writer.append(piece).unwrap();
        }
        assert!(!two.exists(), "{name} appeared before it was whole");
        assert_eq!(writer.finish().unwrap(), 2);
        assert_eq!(read_samples(&one, &all()).unwrap(), read_samples(&two, &all()).unwrap(), "{name}");
        // A parquet file keeps its pieces as row groups.
        let same = std::fs::read(&one).unwrap() == std::fs::read(&two).unwrap();
        assert!(same || name == "t.parquet", "{name}");
    }
}

#[test]
fn pieces_that_do_not_fit_are_refused_and_leave_nothing() {
    let folder = folder();
    let path = folder.path().join("t.npz");
    let mut stdout = Vec::new();
    let mut writer = SampleWriter::create(&path, &small(), &mut stdout).unwrap();
    writer.append(&small()).unwrap();
    let other = SampleTable { log_prob: None, ..small() };
    assert!(matches!(writer.append(&other), Err(FileError::BadTable { got: 2, expected: 3, .. })));
    // Rows count on from piece to piece.
    let bad = SampleTable { log_prob: Some(vec![0.0, f64::NAN]), ..small() };
    assert!(matches!(writer.append(&bad), Err(FileError::BadValue { at, .. }) if at.row == 3));
    drop(writer);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn theta_is_read_by_name_whatever_else_the_file_holds() {
    let folder = folder();
    for name in ["t.npz", "t.csv", "t.parquet"] {
        let path = folder.path().join(name);
        write(&path, &small()).unwrap();
        let back = read_theta(&path, &named(&["b", "a"])).unwrap();
        assert_eq!(back.names, ["b", "a"], "{name}");
        assert_eq!(back.theta, [1e300, 0.1, 3.0, -2.5], "{name}");
        assert_eq!(back.log_prob, None);
    }
    let path = put(&folder, "n.csv", "a,log_likelihood\n1,nan\n");
    assert_eq!(read_theta(&path, &all()).unwrap().theta, [1.0]);
    assert!(read_samples(&path, &all()).is_err());
}

#[test]
fn context_columns_may_have_any_name_when_asked_for() {
    let folder = folder();
    let path = put(&folder, "c.csv", "a,mass,b\n1,2,3\n");
    let choice = ColumnChoice { parameters: None, context: Some(vec!["mass".to_owned()]) };
    let table = read_samples(&path, &choice).unwrap();
    assert_eq!(
        (table.names, table.theta, table.context),
        (vec!["a".into(), "b".into()], vec![1.0, 3.0], vec![2.0])
    );
}

#[test]
fn numpy_types_orders_and_packings_are_read() {
    let folder = folder();
    let numbers: [i8; 6] = [1, 2, 3, 4, 5, 6];
    let f64s = |le: bool| -> Vec<u8> {
        numbers
            .iter()
            .flat_map(|v| if le { f64::from(*v).to_le_bytes() } else { f64::from(*v).to_be_bytes() })
            .collect()
    };
    let f32s: Vec<u8> = numbers.iter().flat_map(|v| f32::from(*v).to_be_bytes()).collect();
    let i64s: Vec<u8> = numbers.iter().flat_map(|v| i64::from(*v).to_le_bytes()).collect();
    let u16s: Vec<u8> = numbers.iter().flat_map(|v| u16::try_from(*v).unwrap().to_be_bytes()).collect();
    let i8s: Vec<u8> = numbers.iter().map(|v| v.cast_unsigned()).collect();
    let cases = [
        ("<f8", f64s(true)),
        (">f8", f64s(false)),
        (">f4", f32s),
        ("<i8", i64s),
        (">u2", u16s),
        ("|i1", i8s),
    ];
    for (descr, data) in &cases {
        for fortran in [false, true] {
            for method in [zip::CompressionMethod::Stored, zip::CompressionMethod::Deflated] {
                let member = npy_array(descr, fortran, "(3, 2)", data);
                let path = put(&folder, "a.npz", zip_of(&[("theta.npy", &member)], method));
                let array = NpzFile::open(&path).unwrap().array("theta").unwrap().unwrap();
                let expected =
                    if fortran { [1.0, 4.0, 2.0, 5.0, 3.0, 6.0] } else { [1.0, 2.0, 3.0, 4.0, 5.0, 6.0] };
                assert_eq!(array.data, expected, "{descr}, fortran {fortran}, {method}");
                assert_eq!(array.shape, [3, 2]);
            }
        }
    }
}

#[test]
fn parquet_is_read_in_all_packings_and_across_row_groups() {
    let folder = folder();
    let n = (1 << 20) + 5; // one more row group than the writer fills
    let packings = [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(GzipLevel::try_new(1).unwrap()),
        Compression::ZSTD(ZstdLevel::try_new(1).unwrap()),
    ];
    for packing in packings {
        let path = folder.path().join("t.parquet");
        let file = std::fs::File::create(&path).unwrap();
        let mut out = ParquetOut::new(file, &["a".to_owned()], None, packing).unwrap();
        out.rows(n, |row, _| (row % 1000) as f64).unwrap();
        out.finish().unwrap();
        let table = read_theta(&path, &all()).unwrap();
        assert_eq!(table.n, n, "{packing:?}");
        assert!(table.theta.iter().enumerate().all(|(row, v)| *v == (row % 1000) as f64), "{packing:?}");
    }
}
