//! Theta, context and the named vectors of an .npz file. Invariant: an array that could be either of two things is refused.

use std::path::Path;

use super::super::error::FileError;
use super::super::npz::NpzFile;
use super::super::sampler_arrays::SamplerArrays;
use super::{CONTEXT_PREFIX, ColumnChoice, Field, Fields, missing};

/// What the context may be called; simulated data are x to most.
const CONTEXT_ARRAYS: [&str; 2] = ["context", "x"];

impl Fields {
    pub(super) fn read_npz(path: &Path, choice: &ColumnChoice, wanted: &[Field]) -> Result<Self, FileError> {
        let mut file = NpzFile::open(path)?;
        let found = file.names().to_vec();
        let wrong = |field: &str, got: Vec<u64>, expected: String| FileError::WrongShape {
            path: path.into(),
            field: field.to_owned(),
            got,
            expected,
        };
        let sampler = SamplerArrays::of(&found);
        let theta_name = sampler.map_or("theta", |s| s.theta);
        let Some(theta) = file.array(theta_name)? else {
            return Err(missing(path, "`theta`", "theta", found));
        };
        let (n, dim) = match theta.shape[..] {
            [n, dim] if dim > 0 => (n as usize, dim as usize),
            _ => {
                let expected = "[N, D] with D > 0 (one parameter: [N, 1])".to_owned();
                return Err(wrong(theta_name, theta.shape, expected));
            }
        };
        if n == 0 {
            return Err(FileError::Empty { path: path.into(), what: "theta has no rows" });
        }
        let context_array = context_array(path, &found, sampler)?;
        let (mut context, mut context_dim) = (Vec::new(), 0);
        if let Some(name) = context_array
            && let Some(array) = file.array(name)?
        {
            (context, context_dim) = match array.shape[..] {
                [rows, c] if rows as usize == n && c > 0 => (array.data, c as usize),
                _ => {
                    let expected = format!("[{n}, C] with C > 0, the context (one value: [{n}, 1])");
                    return Err(wrong(name, array.shape, expected));
                }
            };
        }
        let mut fields = Self {
            path: path.into(),
            theta: theta.data,
            n,
            dim,
            context,
            context_dim,
            context_array,
            context_names: (0..context_dim).map(|i| format!("{CONTEXT_PREFIX}{i}")).collect(),
            found,
            sampler,
            ..Self::default()
        };
        fields.notes.extend(sampler.map(|s| s.note()));
        for field in wanted {
            let name = fields.array_name(*field);
            let Some(array) = file.array(name)? else { continue };
            if array.shape != [n as u64] {
                let expected = format!("[{n}], one value per row of {theta_name}");
                return Err(wrong(name, array.shape, expected));
            }
            fields.values[*field as usize] = Some(array.data);
        }
        let stored = file.strings("names", dim)?;
        let unnamed = stored.is_none();
        fields.names = stored.unwrap_or_else(|| (0..dim).map(|i| format!("x{i}")).collect());
        match &choice.parameters {
            None => {}
            Some(names) if unnamed => {
                if names.len() != dim {
                    let expected = format!("[{n}, {}], one column per named parameter", names.len());
                    return Err(wrong("theta", vec![n as u64, dim as u64], expected));
                }
                fields.names.clone_from(names);
                let names = names.join(", ");
                fields
                    .notes
                    .push(format!("theta has no names, its columns in order are taken to be {names}"));
            }
            Some(names) => fields.select(names)?,
        }
        Ok(fields)
    }
}

/// The array that holds the context, if any; those of samplers have none.
fn context_array(
    path: &Path,
    found: &[String],
    sampler: Option<SamplerArrays>,
) -> Result<Option<&'static str>, FileError> {
    let mut present = CONTEXT_ARRAYS.into_iter().filter(|name| found.iter().any(|f| f == name));
    match (present.next(), present.next()) {
        (Some(_), Some(twice)) => {
            let reason = "found beside `context`: keep one of them, it is not clear which holds the context";
            Err(FileError::BadName { path: path.into(), name: twice.to_owned(), reason })
        }
        (Some("x"), None) if sampler.is_some() => Ok(None),
        (first, _) => Ok(first),
    }
}
