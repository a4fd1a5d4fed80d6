//! Each wrong file is refused with an error of its own that names the place.

use std::sync::Arc;

use parquet::data_type::{Int32Type, Int64Type};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use super::super::{FileError, SampleTable, read_pairs, read_samples, read_theta, write_samples};
use super::{all, folder, named, npy, npy_array, npz, put, zip_of};

type Arrays<'a> = &'a [(&'a str, &'a [u64], &'a [f64])];

fn refuse_npz(arrays: Arrays<'_>) -> FileError {
    let folder = folder();
    read_pairs(&put(&folder, "pairs.npz", npz(arrays)), &all(), None).unwrap_err()
}

fn refuse_csv(text: &str) -> FileError {
    let folder = folder();
    read_pairs(&put(&folder, "pairs.csv", text), &all(), None).unwrap_err()
}

/// Wants every word in the text of the error.
fn has(error: &FileError, words: &[&str]) {
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "`{word}` is missing in: {text}");
    }
}

#[test]
fn a_bad_number_names_file_row_line_field_and_theta() {
    let error = refuse_csv("a,b,log_likelihood\n1,2,-1\n\n\"3\",4,nan\n");
    has(&error, &["pairs.csv", "row 1", "(line 4)", "`log_likelihood`", "NaN", "[3, 4]"]);
    assert!(
        matches!(&error, FileError::BadValue { at, theta, .. } if at.line == Some(4) && *theta == [3.0, 4.0])
    );
    has(&refuse_csv("a,log_likelihood\r\n1,0\r\n\r\n2,nan\r\n"), &["row 1", "(line 4)"]);
    has(&refuse_csv("a,weight\r\n\r\n1,2\r\n3\r\n"), &["line 4", "1 columns"]);
    has(&refuse_csv("a,weight\n1,2\n\n3,z"), &["row 1", "(line 4)", "`z`"]);
    has(&refuse_csv("a,log_likelihood\n1,inf\n"), &["row 0", "inf", "finite number or -inf"]);
    has(&refuse_csv("a,b,log_likelihood\n1,-inf,0\n"), &["row 0", "(line 2)", "theta[1] (b)"]);
    has(&refuse_csv("a,log_likelihood,context_z\n1,0,nan\n"), &["context[0] (context_z)"]);
    has(&refuse_csv("a,weight\n1,1\n2,-0.5\n"), &["row 1", "-0.5", ">= 0"]);
    has(&refuse_csv("a,log_likelihood,log_proposal,log_prior\n1,0,-inf,0\n"), &["`log_proposal`", "-inf"]);
    has(&refuse_csv("a,log_likelihood\n1,0\n1e999,0\n"), &["row 1", "theta[0] (a)", "inf"]);

    let theta = [0.0, 1.0, f64::NAN, 3.0];
    has(
        &refuse_npz(&[("theta", &[2, 2], &theta), ("weight", &[2], &[1.0, 1.0])]),
        &["row 1", "theta[0] (x0)"],
    );
    let lw = [0.0, f64::INFINITY];
    has(
        &refuse_npz(&[("theta", &[2, 1], &[5.0, 6.0]), ("log_weight", &[2], &lw)]),
        &["row 1", "log_weight", "[6]"],
    );
}

#[test]
fn overflow_of_the_sum_is_refused() {
    let error = refuse_csv("a,log_likelihood,log_prior,log_proposal\n1,1e308,1e308,-1e308\n");
    has(&error, &["row 0", "log_likelihood + log_prior - log_proposal"]);
}

#[test]
fn all_zero_weights_are_refused() {
    for text in ["a,weight\n1,0\n2,0\n", "a,log_likelihood\n1,-inf\n2,-inf\n", "a,log_weight\n1,-inf\n"] {
        let error = refuse_csv(text);
        assert!(matches!(error, FileError::AllWeightsZero { .. }), "{error}");
    }
}

#[test]
fn missing_and_competing_arrays_are_named() {
    let v: &[f64] = &[1.0, 2.0];
    let error = refuse_npz(&[("Theta", &[2, 1], v), ("weight", &[2], v)]);
    has(&error, &["no array or column `theta`", "`Theta`, `weight`", "did you mean `Theta`?"]);
    has(
        &refuse_npz(&[("theta", &[2, 1], v), ("loglikelihood", &[2], v)]),
        &["log_likelihood", "did you mean `loglikelihood`?"],
    );
    let error = refuse_npz(&[("theta", &[2, 1], v), ("log_likelihood", &[2], v), ("weight", &[2], v)]);
    assert!(matches!(error, FileError::Ambiguous { .. }), "{error}");
    has(&error, &["`log_likelihood`, `weight`"]);

    let folder = folder();
    let path = put(&folder, "t.csv", "mass,weight\n1,1\n");
    has(&read_theta(&path, &named(&["maas"])).unwrap_err(), &["`maas`", "did you mean `mass`?"]);
    let path = put(&folder, "w.csv", "weight,log_prob\n1,1\n");
    has(&read_theta(&path, &all()).unwrap_err(), &["could be a parameter"]);
}

#[test]
fn wrong_shapes_and_lengths_are_named() {
    let v: &[f64] = &[1.0, 2.0];
    let shape = |error: &FileError| matches!(error, FileError::WrongShape { .. });
    for arrays in [
        &[("theta", &[2][..], v), ("weight", &[2], v)][..],
        &[("theta", &[1, 2, 1], v), ("weight", &[1], &v[..1])],
        &[("theta", &[2, 0], &[]), ("weight", &[2], v)],
        &[("theta", &[2, 1], v), ("weight", &[1], &v[..1])],
        &[("theta", &[2, 1], v), ("weight", &[2, 1], v)],
        &[("theta", &[2, 1], v), ("weight", &[2], v), ("context", &[2], v)],
        &[("theta", &[2, 1], v), ("weight", &[2], v), ("context", &[1, 2], v)],
    ] {
        let error = refuse_npz(arrays);
        assert!(shape(&error), "{error}");
    }
    has(&refuse_npz(&[("theta", &[2, 1], v), ("weight", &[1], &v[..1])]), &["`weight`", "[1]", "[2]"]);
    let folder = folder();
    let path = put(&folder, "t.npz", npz(&[("theta", &[1, 2], v)]));
    assert!(shape(&read_theta(&path, &named(&["a"])).unwrap_err()));
    let error = refuse_npz(&[("theta", &[0, 2], &[]), ("weight", &[0], &[])]);
    assert!(matches!(error, FileError::Empty { .. }), "{error}");
}

#[test]
fn broken_text_tables_are_refused() {
    assert!(matches!(refuse_csv(""), FileError::Empty { .. }));
    assert!(matches!(refuse_csv("a,weight\n"), FileError::Empty { .. }));
    assert!(matches!(refuse_csv("\n\n"), FileError::Empty { .. }));
    has(&refuse_csv("1,2\n3,4\n"), &["first line holds numbers"]);
    has(&refuse_csv("a,weight\n1,2\n3\n"), &["line 3", "1 columns", "expected 2"]);
    has(&refuse_csv("a,weight\n1,\n"), &["row 0", "(line 2)", "`weight`", "`` is not a number"]);
    has(&refuse_csv("a,weight\n1,2\nx1,2\n"), &["row 1", "`x1` is not a number"]);
    has(&refuse_csv("a,a,weight\n1,2,3\n"), &["`a`", "more than once"]);
    has(&refuse_csv(",a,weight\n0,2,3\n"), &["row index"]);
    let folder = folder();
    let path = put(&folder, "bytes.csv", b"a,weight\n1,\xff\xfe\n");
    assert!(matches!(read_theta(&path, &all()), Err(FileError::Damaged { .. })));
}

#[test]
fn unknown_and_unreadable_files_are_refused() {
    let folder = folder();
    let path = put(&folder, "pairs.txt", "a\n1\n");
    assert!(matches!(read_theta(&path, &all()), Err(FileError::UnknownExtension { .. })));
    assert!(matches!(read_theta(&folder.path().join("none.npz"), &all()), Err(FileError::Io { .. })));
    let directory = folder.path().join("directory.npz");
    std::fs::create_dir(&directory).unwrap();
    assert!(matches!(read_theta(&directory, &all()), Err(FileError::Io { .. })));
    for name in ["e.npz", "e.csv", "e.parquet"] {
        assert!(
            matches!(read_theta(&put(&folder, name, ""), &all()), Err(FileError::Empty { .. })),
            "{name}"
        );
    }
    for name in ["g.npz", "g.parquet"] {
        let garbage = put(&folder, name, "a,b\n1,2\n");
        assert!(matches!(read_theta(&garbage, &all()), Err(FileError::Damaged { .. })), "{name}");
    }
}

#[test]
fn npy_headers_that_lie_are_refused_before_anything_is_reserved() {
    let folder = folder();
    let stored = zip::CompressionMethod::Stored;
    let data = [0_u8; 64];
    let huge = "(1152921504606846976, 2)";
    let deep = npy(&"(".repeat(15_000), &[]);
    let mut long = b"\x93NUMPY\x02\x00".to_vec();
    long.extend(u32::MAX.to_le_bytes());
    for (what, member) in [
        ("shape larger than the data", npy_array("<f8", false, "(1000000000, 8)", &data)),
        ("product overflows", npy_array("<f8", false, huge, &data)),
        ("product overflows later", npy_array("<f8", false, "(4294967296, 4294967296, 4294967296)", &data)),
        ("negative shape", npy_array("<f8", false, "(-1, 2)", &data)),
        ("data left over", npy_array("<f8", false, "(3, 2)", &data)),
        ("deep nesting", deep),
        ("header length", long),
        ("no magic", b"PK".to_vec()),
    ] {
        let path = put(&folder, "a.npz", zip_of(&[("theta.npy", &member)], stored));
        let error = read_theta(&path, &all()).unwrap_err();
        assert!(matches!(error, FileError::Damaged { .. }), "{what}: {error}");
    }
    for descr in ["|b1", "<c16", "|O", "<U4", "<f2", "<M8[s]"] {
        let size =
            if descr == "<U4" { 16 } else { descr.get(2..3).unwrap_or_default().parse().unwrap_or(0).max(1) };
        let size = if descr == "<c16" { 16 } else { size };
        let member = npy_array(descr, false, "(1, 1)", &vec![0; size]);
        let path = put(&folder, "a.npz", zip_of(&[("theta.npy", &member)], stored));
        let error = read_theta(&path, &all()).unwrap_err();
        assert!(matches!(error, FileError::WrongType { .. }), "{descr}: {error}");
    }
}

/// A parquet file of one column, the schema as given, written by `write`.
fn parquet_of(
    schema: &str,
    write: impl FnOnce(&mut parquet::file::writer::SerializedColumnWriter<'_>),
) -> Vec<u8> {
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let mut bytes = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut bytes, schema, Arc::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    write(&mut column);
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
    bytes
}

#[test]
fn parquet_nulls_and_columns_that_are_no_numbers_are_refused() {
    let folder = folder();
    let optional = parquet_of("message m { optional int32 a; }", |column| {
        column.typed::<Int32Type>().write_batch(&[7, 8], Some(&[1, 0, 1]), None).unwrap();
    });
    let error = read_theta(&put(&folder, "n.parquet", optional), &all()).unwrap_err();
    has(&error, &["row 1", "`a`", "null"]);

    let complete = parquet_of("message m { optional int64 a; }", |column| {
        column.typed::<Int64Type>().write_batch(&[7, -8], Some(&[1, 1]), None).unwrap();
    });
    assert_eq!(read_theta(&put(&folder, "o.parquet", complete), &all()).unwrap().theta, [7.0, -8.0]);

    let unsigned = parquet_of("message m { required int32 a (INTEGER(32, false)); }", |column| {
        column.typed::<Int32Type>().write_batch(&[-1], None, None).unwrap();
    });
    assert_eq!(read_theta(&put(&folder, "u.parquet", unsigned), &all()).unwrap().theta, [4294967295.0]);

    for schema in [
        "message m { required int32 a (DATE); }",
        "message m { required int32 a (DECIMAL(5, 2)); }",
        "message m { repeated int32 a; }",
    ] {
        let levels: Option<&[i16]> = schema.contains("repeated").then_some(&[1]);
        let zero: Option<&[i16]> = levels.map(|_| &[0_i16][..]);
        let bytes = parquet_of(schema, |column| {
            column.typed::<Int32Type>().write_batch(&[1], levels, zero).unwrap();
        });
        let error = read_theta(&put(&folder, "t.parquet", bytes), &all()).unwrap_err();
        assert!(matches!(error, FileError::WrongType { .. }), "{schema}: {error}");
    }
}

#[test]
fn a_compression_that_is_not_read_is_named_and_not_called_damage() {
    let folder = folder();
    let bytes = parquet_of("message m { required int32 a; }", |column| {
        column.typed::<Int32Type>().write_batch(&[1, 2, 3], None, None).unwrap();
    });
    // In the footer: path_in_schema = ["a"], then the field codec, an i32 as a zigzag varint.
    let before_codec = [0x18, 0x01, b'a', 0x15];
    let at = bytes.windows(5).position(|w| w[..4] == before_codec && w[4] == 0x00).unwrap() + 4;
    for (codec, name) in [(4, "BROTLI"), (5, "LZ4"), (7, "LZ4_RAW")] {
        let mut packed = bytes.clone();
        packed[at] = 2 * codec;
        let error = read_theta(&put(&folder, "t.parquet", packed), &all()).unwrap_err();
        has(&error, &["t.parquet", "`a`", name, "not supported", "zstd"]);
        assert!(!error.to_string().contains("damaged"), "{error}");
    }
}

#[test]
fn a_page_that_claims_too_much_is_refused() {
    let folder = folder();
    let bytes = parquet_of("message m { required int32 a; }", |column| {
        column.typed::<Int32Type>().write_batch(&[1, 2, 3], None, None).unwrap();
    });
    // The first page header follows the magic: 15 <type> 15 <unpacked size>, as zigzag varints. A size of five bytes
    // in place of one shifts what follows, which the check must not live to see.
    assert_eq!((bytes[4], bytes[6]), (0x15, 0x15));
    let mut lying = bytes.clone();
    lying[7..12].copy_from_slice(&[0xfe, 0xff, 0xff, 0xff, 0x0f]);
    let error = read_theta(&put(&folder, "t.parquet", lying), &all()).unwrap_err();
    has(&error, &["claims 2147483647 unpacked bytes"]);
}

#[test]
fn tables_that_could_not_be_read_back_are_not_written() {
    let folder = folder();
    let path = folder.path().join("t.csv");
    let mut sink = Vec::new();
    let mut table = SampleTable::new(vec!["a".to_owned()], vec![1.0, 2.0]).unwrap();
    table.log_prob = Some(vec![0.0]);
    assert!(matches!(
        write_samples(&path, &table, &mut sink),
        Err(FileError::BadTable { got: 1, expected: 2, .. })
    ));
    table.log_prob = Some(vec![0.0, f64::NAN]);
    has(&write_samples(&path, &table, &mut sink).unwrap_err(), &["row 1", "log_prob", "[2]"]);
    table.log_prob = None;
    table.theta[1] = f64::INFINITY;
    has(&write_samples(&path, &table, &mut sink).unwrap_err(), &["row 1", "theta[0]"]);
    assert!(SampleTable::new(vec!["a".to_owned(), "b".to_owned()], vec![1.0; 3]).is_err());
    assert!(!path.exists());
    let table = SampleTable::new(vec!["a".to_owned()], vec![1.0]).unwrap();
    assert!(matches!(
        write_samples(&folder.path().join("no/such/t.csv"), &table, &mut sink),
        Err(FileError::Io { .. })
    ));
    assert!(read_samples(&path, &all()).is_err());
}
