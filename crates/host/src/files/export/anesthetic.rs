//! anesthetic's CSV: a header of names, one of labels, and two index columns, row number and weight; with `logL` where it is
//! known, which is the name that anesthetic looks for.

use std::path::Path;

use super::{PosteriorDraws, write_whole};
use crate::files::FileError;

/// Returns the number of rows; those of weight zero are left out.
pub(super) fn write(path: &Path, draws: &PosteriorDraws) -> Result<usize, FileError> {
    let t = &draws.table;
    let vectors = [
        ("logL", r"$\ln\mathcal{L}$", &t.log_likelihood),
        ("log_prior", r"$\ln\pi$", &t.log_prior),
        ("log_prob", r"$\ln q$", &t.log_prob),
    ];
    // nlive would make it a nested sampling run.
    draws.check_names(path, &["logL", "log_prior", "log_prob", "weights", "nlive"], |_| Ok(()))?;
    let vectors: Vec<_> = vectors.iter().filter_map(|(n, l, v)| v.as_ref().map(|v| (*n, *l, v))).collect();
    let weights = draws.weights();
    let rows: Vec<usize> = (0..weights.len()).filter(|row| weights[*row] > 0.0).collect();
    write_whole(path, |out| {
        let mut csv = csv::Writer::from_writer(out);
        let blank = || ["", ""].map(str::to_owned).into_iter();
        let names = draws.names().cloned().chain(vectors.iter().map(|(name, ..)| (*name).to_owned()));
        csv.write_record(blank().chain(names))?;
        // A name that has no label of its own is no mathematics.
        let label = |(name, label): (&String, &String)| {
            if name == label { name.clone() } else { format!("${label}$") }
        };
        let labels = t.names.iter().zip(&draws.labels).map(label);
        let labels = labels.chain(t.derived_names.iter().cloned());
        let labels = labels.chain(vectors.iter().map(|(_, label, _)| (*label).to_owned()));
        csv.write_record(["labels", ""].map(str::to_owned).into_iter().chain(labels))?;
        let n_columns = t.dim + t.derived_names.len() + vectors.len();
        let empty = std::iter::repeat_n(String::new(), n_columns);
        csv.write_record(["", "weights"].map(str::to_owned).into_iter().chain(empty))?;
        for (i, &row) in rows.iter().enumerate() {
            let values = draws.row(row).chain(vectors.iter().map(|(.., v)| v[row]));
            let values = std::iter::once(weights[row]).chain(values).map(|v| format!("{v:?}"));
            csv.write_record(std::iter::once(i.to_string()).chain(values))?;
        }
        csv.flush()
    })?;
    Ok(rows.len())
}
