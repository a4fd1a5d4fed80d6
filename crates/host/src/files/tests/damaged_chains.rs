//! Damaged files of every family of chains: an error or checked numbers, never a panic; what is no number, or not finite, is
//! refused with its place.

use proptest::prelude::*;

use super::super::{ChainSamples, ChainSettings, FileError, chain_format, read_chains};
use super::damage::{apply, check_pairs, damage};
use super::{folder, put};

/// A small valid run: its root and its files, the data first.
struct Family {
    root: &'static str,
    /// Name, text, and whether it is a table of numbers with so many checked columns.
    files: &'static [(&'static str, &'static str, Option<usize>)],
}

const NAMES: &str = "x \\alpha\ny* \\beta # derived\n";

static FAMILIES: [Family; 5] = [
    Family {
        root: "mc",
        files: &[
            ("mc_1.txt", "2 1.5 0.1 0.2\n1 1.25 0.3 0.4\n5 2.5e0 -0.5 0.6\n1 inf 0.7 0.8\n", Some(3)),
            ("mc_2.txt", "# weight minuslogpost x y\n2 1.5 0.1 0.2\n1 1.25 0.3 0.4\n", Some(3)),
            ("mc.paramnames", NAMES, None),
        ],
    },
    Family {
        root: "ns",
        files: &[
            (
                "ns_dead-birth.txt",
                "0.1 0.2 -10.0 -inf\n0.3 0.4 -9 -1e30\n0.5 0.6 -8.5 -10.0\n0.7 0.8 -7 -9\n",
                Some(4),
            ),
            ("ns_phys_live-birth.txt", "0.2 0.3 -5 -8.5\n0.1 0.3 -6 -7\n", Some(4)),
            ("ns.paramnames", "x \\alpha\ny \\beta\n", None),
        ],
    },
    Family {
        root: "mn-",
        files: &[
            (
                "mn-dead-birth.txt",
                "0.1 0.2 -10 -0.179769313486231571+309 -3 1\n0.3 0.4 -9 -0.1E+309 -3.1 1\n0.5 0.6 -8 -10 -4 2\n",
                Some(4),
            ),
            ("mn-phys_live-birth.txt", "0.2 0.3 -5 -8 1\n0.1 0.3 -6 -9 2\n", Some(4)),
            ("mn-.paramnames", "x \\alpha\ny \\beta\n", None),
            ("mn-stats.dat", "not read\n", None),
        ],
    },
    Family {
        root: "old-",
        files: &[
            ("old-.txt", "0.2 20 0.1 0.2\n 0.5  1E+01 0.3 0.4\n0.3 5 -0.5 0.6\n", Some(4)),
            ("old-.paramnames", "x \\alpha\ny \\beta\n", None),
            ("old-stats.dat", "Nested Sampling Global Log-Evidence : -0.14E+01 +/- 0.36E+00\n", None),
        ],
    },
    Family {
        root: "u",
        files: &[
            (
                "u/chains/weighted_post.txt",
                "weight logl x y\n0.2 -5 0.1 0.2\n0.5 -4.0 0.3 0.4\n0.3 -1e0 -0.5 0.6\n",
                Some(4),
            ),
            (
                "u/info/results.json",
                "{\"logz\": -1.5, \"logzerr\": 0.5, \"paramnames\": [\"x\", \"y\"], \"b\": [NaN, \"NaN \\\"\"]}",
                None,
            ),
        ],
    },
];

impl Family {
    /// A folder with all files.
    fn placed(&'static self) -> Placed {
        let placed = Placed { family: self, folder: folder() };
        for (i, (name, text, _)) in self.files.iter().enumerate() {
            std::fs::create_dir_all(placed.folder.path().join(name).parent().unwrap()).unwrap();
            placed.write(i, text.as_bytes());
        }
        placed
    }

    /// The words of file `i` that are checked numbers, as ranges of bytes.
    fn numbers(&self, i: usize) -> Vec<std::ops::Range<usize>> {
        let (name, text, checked) = self.files[i];
        let Some(checked) = checked else { return Vec::new() };
        let mut found = Vec::new();
        let lines = text.split_inclusive('\n').skip(usize::from(name.ends_with("_post.txt")));
        for line in lines.filter(|line| !line.starts_with('#')) {
            for word in line.split_whitespace().take(checked) {
                // Both are parts of one text.
                let start = word.as_ptr() as usize - text.as_ptr() as usize;
                found.push(start..start + word.len());
            }
        }
        found
    }
}

/// A run on the disk.
struct Placed {
    family: &'static Family,
    folder: tempfile::TempDir,
}

impl Placed {
    fn write(&self, i: usize, text: &[u8]) {
        put(&self.folder, self.family.files[i].0, text);
    }

    fn read(&self, burn_in: f64) -> Result<ChainSamples, FileError> {
        let root = self.folder.path().join(self.family.root);
        read_chains(&root, &ChainSettings { parameters: None, burn_in })
    }

    /// Reads the run with `text` in place of file `damaged`.
    fn read_with(&self, damaged: usize, text: &[u8]) -> Result<ChainSamples, FileError> {
        self.write(damaged, text);
        let read = self.read(0.0);
        self.write(damaged, self.family.files[damaged].1.as_bytes());
        read
    }

    /// With `text` in place of file `damaged`: errors or checked numbers.
    fn survives(&self, damaged: usize, text: &[u8]) {
        self.write(damaged, text);
        for burn_in in if self.family.root == "mc" { &[0.0, 0.6][..] } else { &[0.0] } {
            let Ok(read) = self.read(*burn_in) else { continue };
            check_pairs(&read.pairs);
            assert!(read.report.kish_ess > 0.0 && read.report.kish_ess <= read.pairs.n as f64 + 1e-9);
            if let Some(log_z) = read.pairs.log_z() {
                assert!(log_z.log_z.is_finite() && log_z.sd.is_finite(), "{log_z:?}");
            }
        }
        self.write(damaged, self.family.files[damaged].1.as_bytes());
    }
}

/// A family and one of its files.
fn file() -> impl Strategy<Value = (&'static Family, usize)> {
    let all: Vec<_> = FAMILIES.iter().flat_map(|f| (0..f.files.len()).map(move |i| (f, i))).collect();
    prop::sample::select(all)
}

impl std::fmt::Debug for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.root)
    }
}

/// `text` with other words in place of one of its numbers.
fn replaced(text: &str, at: std::ops::Range<usize>, with: &str) -> Vec<u8> {
    [&text[..at.start], with, &text[at.end..]].concat().into_bytes()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn damage_to_any_file_is_survived((family, i) in file(), damage in damage()) {
        family.placed().survives(i, &apply(family.files[i].1.into(), &damage));
    }

    #[test]
    fn any_bytes_in_any_file_are_survived(
        (family, i) in file(),
        bytes in proptest::collection::vec(any::<u8>(), 0..80),
    ) {
        let placed = family.placed();
        placed.survives(i, &bytes);
        placed.survives(i, &[family.files[i].1.as_bytes(), &bytes].concat());
    }

    #[test]
    fn numbers_of_any_kind_are_survived((family, i) in file(), k in any::<prop::sample::Index>(), bits in any::<u64>()) {
        let numbers = family.numbers(i);
        if !numbers.is_empty() {
            let at = numbers[k.index(numbers.len())].clone();
            family.placed().survives(i, &replaced(family.files[i].1, at, &f64::from_bits(bits).to_string()));
        }
    }
}

#[test]
fn every_family_is_what_it_should_be() {
    for family in &FAMILIES {
        let read = family.placed().read(0.0).unwrap();
        assert!(read.pairs.n >= 3 && read.pairs.names[0] == "x", "{}: {:?}", family.root, read.pairs);
    }
}

#[test]
fn weights_whose_squares_are_no_numbers_have_an_effective_size() {
    let placed = FAMILIES[0].placed();
    let expected = placed.read(0.0).unwrap().report.kish_ess;
    for power in [200, -200] {
        let scaled = |text: &str| {
            let line = |line: &str| {
                if line.starts_with('#') { line.into() } else { line.replacen(' ', &format!("e{power} "), 1) }
            };
            text.lines().map(line).collect::<Vec<String>>().join("\n")
        };
        for i in [0, 1] {
            placed.write(i, scaled(FAMILIES[0].files[i].1).as_bytes());
        }
        let got = placed.read(0.0).unwrap().report.kish_ess;
        assert!((got / expected - 1.0).abs() < 1e-12, "{got} {expected}");
    }
}

#[test]
fn nan_and_words_in_any_number_are_refused_with_their_place() {
    for family in &FAMILIES {
        let placed = family.placed();
        for (i, (name, text, _)) in family.files.iter().enumerate() {
            for at in family.numbers(i) {
                for word in ["nan", "NaN", "x1", "1..2", "--3"] {
                    let error = placed.read_with(i, &replaced(text, at.clone(), word)).unwrap_err();
                    let file = name.rsplit('/').next().unwrap();
                    let said = error.to_string();
                    assert!(said.contains(file) && said.contains("(line "), "{word} in {name}: {said}");
                    let is_nan = word.eq_ignore_ascii_case("nan");
                    let refused = if is_nan {
                        matches!(error, FileError::BadValue { .. })
                    } else {
                        matches!(error, FileError::NotANumber { .. })
                    };
                    assert!(refused, "{word} in {name}: {said}");
                }
            }
        }
    }
}

/// Text that is cut may end with a whole row, or in a number that is one without its end; a file cut anywhere is read up to
/// there or refused, and no row that was whole is read as another.
#[test]
fn every_truncation_of_every_file_is_survived() {
    for family in &FAMILIES {
        let placed = family.placed();
        let whole = placed.read(0.0).unwrap().pairs;
        for (i, (name, text, is_table)) in family.files.iter().enumerate() {
            for length in 0..text.len() {
                let cut = &text.as_bytes()[..length];
                placed.survives(i, cut);
                let Ok(read) = placed.read_with(i, cut) else { continue };
                assert!(read.pairs.n <= whole.n, "{name} cut to {length}");
                if is_table.is_some() && i == 0 {
                    let whole_rows = cut.iter().filter(|b| **b == b'\n').count();
                    let same = (whole_rows.min(read.pairs.n).saturating_sub(1)) * read.pairs.dim;
                    assert_eq!(read.pairs.theta[..same], whole.theta[..same], "{name} cut to {length}");
                }
            }
        }
    }
}

#[test]
fn empty_files_are_refused_by_name() {
    for family in &FAMILIES {
        let placed = family.placed();
        for (i, (name, _, is_table)) in family.files.iter().enumerate() {
            for text in ["", "\n\n", "# a comment\n"] {
                let read = placed.read_with(i, text.as_bytes());
                // A finished run may leave an empty file of live points; versions with birth contours do not need stats.dat.
                let optional =
                    (name.ends_with("phys_live-birth.txt") && text.is_empty()) || *name == "mn-stats.dat";
                if optional {
                    check_pairs(&read.unwrap().pairs);
                    continue;
                }
                let error = read.err().unwrap_or_else(|| panic!("{name} with {text:?} was read"));
                let file = name.rsplit('/').next().unwrap();
                assert!(error.to_string().contains(file), "{name} with {text:?}: {error}");
                if is_table.is_some() && text.is_empty() {
                    assert!(matches!(error, FileError::Empty { .. }), "{name}: {error}");
                }
            }
        }
    }
}

#[test]
fn a_root_of_one_file_alone_is_named_or_read() {
    for family in &FAMILIES {
        for (name, text, _) in family.files {
            let folder = folder();
            std::fs::create_dir_all(folder.path().join(name).parent().unwrap()).unwrap();
            put(&folder, name, text);
            let root = folder.path().join(family.root);
            match read_chains(&root, &ChainSettings::default()) {
                Ok(read) => check_pairs(&read.pairs),
                Err(error) => assert!(error.to_string().contains(family.root), "{name}: {error}"),
            }
            let _ = chain_format(&root);
        }
    }
}
