//! An input that is several files, each after a line that names it.

use std::fs;
use std::path::Path;

/// Begins the line of a name.
const MARK: u8 = b'>';

/// Writes the files of `bytes` that have one of `names` into `folder`; a line with another name belongs to the file before it.
pub fn write(folder: &Path, names: &[&str], bytes: &[u8]) {
    let mut name = None;
    let mut contents: Vec<u8> = Vec::new();
    let write = |name: Option<&str>, contents: &mut Vec<u8>| {
        if let Some(name) = name {
            fs::write(folder.join(name), &contents).unwrap();
        }
        contents.clear();
    };
    for line in bytes.split_inclusive(|b| *b == b'\n') {
        let named = line.strip_prefix(&[MARK]).map(<[u8]>::trim_ascii);
        match named.and_then(|named| names.iter().find(|name| name.as_bytes() == named)) {
            Some(next) => {
                write(name, &mut contents);
                name = Some(next);
            }
            None => contents.extend(line),
        }
    }
    write(name, &mut contents);
}
