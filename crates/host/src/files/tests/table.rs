//! Tables of observed data: every format, and every refusal.

use super::super::parquet_file::ParquetOut;
use super::super::{FileError, NumberTable, read_table};
use super::{folder, npz, put};

fn parquet(names: &[&str], rows: &[&[f64]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
    let mut out =
        ParquetOut::new(&mut bytes, &names, None, parquet::basic::Compression::UNCOMPRESSED).unwrap();
    out.rows(rows.len(), |row, column| rows[row][column]).unwrap();
    out.finish().unwrap();
    bytes
}

#[test]
fn every_format_gives_the_same_table() {
    let folder = folder();
    let values = vec![0.5, 1.0, 1.5, -2.0, 2.5, 3e-7];
    let named = |names: [&str; 2]| NumberTable {
        names: names.map(str::to_owned).to_vec(),
        n_rows: 3,
        n_columns: 2,
        values: values.clone(),
    };
    let csv = put(&folder, "a.csv", "# time, value\n0.5,1\n1.5,-2\n\n2.5,3e-7\n");
    assert_eq!(read_table(&csv).unwrap(), named(["time", "value"]));
    let rows: Vec<&[f64]> = values.chunks(2).collect();
    let columns = put(&folder, "a.parquet", parquet(&["time", "value"], &rows));
    assert_eq!(read_table(&columns).unwrap(), named(["time", "value"]));
    let only = put(&folder, "a.npz", npz(&[("obs", &[3, 2], &values)]));
    assert_eq!(read_table(&only).unwrap(), named(["obs[0]", "obs[1]"]));
    let several = put(&folder, "b.npz", npz(&[("noise", &[1], &[0.1]), ("data", &[6], &values)]));
    let table = read_table(&several).unwrap();
    assert_eq!((table.n_rows, table.n_columns, table.values), (6, 1, values));
    // The index that pandas writes is no column of the table.
    let indexed = put(&folder, "i.parquet", parquet(&["v", "__index_level_0__"], &[&[7.0, 0.0]]));
    assert_eq!(read_table(&indexed).unwrap().values, [7.0]);
}

#[test]
fn what_is_no_table_of_numbers_is_refused_with_its_place() {
    let folder = folder();
    let refused = |name: &str, bytes: &[u8]| {
        let path = put(&folder, name, bytes);
        let text = read_table(&path).unwrap_err().to_string();
        text.replace(folder.path().to_str().unwrap(), "").trim_start_matches(['/', '\\']).to_owned()
    };
    assert_eq!(
        refused("d.csv", b"time,value\n1,2\n\n3,nan\n"),
        "d.csv: row 1 (line 4), field `value`: got NaN, expected a finite number"
    );
    assert_eq!(
        refused("d.csv", b"time,value\n1,2\n3,four\n"),
        "d.csv: row 1 (line 3), field `value`: `four` is not a number"
    );
    assert_eq!(refused("d.csv", b"time,value\n1,2,3\n"), "d.csv: line 2 has 3 columns, expected 2");
    assert!(
        refused("d.csv", b"1,2\n3,4\n").contains("the first line holds numbers, expected the column names")
    );
    assert_eq!(
        refused("d.csv", b"time,time\n1,2\n"),
        "d.csv: bad column name `time`: it occurs more than once"
    );
    assert_eq!(refused("d.csv", b"time,value\n"), "d.csv: the file is empty: it has no rows");
    assert_eq!(refused("d.txt", b"1"), "d.txt: unknown file type `txt`, expected .npz, .csv or .parquet");
    assert_eq!(
        refused("d.npz", &npz(&[("a", &[1], &[1.0]), ("b", &[1], &[1.0])])),
        "d.npz: no array or column `data`, which is read where there is more than one; found `a`, `b`"
    );
    assert_eq!(
        refused("d.npz", &npz(&[("a", &[1, 1, 1], &[1.0])])),
        "d.npz: `a` has shape [1, 1, 1], expected [n] or [n, columns] with columns > 0"
    );
    assert_eq!(
        refused("d.npz", &npz(&[("a", &[2, 1], &[1.0, f64::INFINITY])])),
        "d.npz: row 1, field `a[0]`: got inf, expected a finite number"
    );
    let missing = folder.path().join("no.csv");
    assert!(matches!(read_table(&missing), Err(FileError::Io { action: "open", .. })));
}
