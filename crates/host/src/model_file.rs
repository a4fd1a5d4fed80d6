//! The model file: a safetensors container with one tensor per parameter block and one JSON header entry that holds
//! everything else. It is written atomically, and reading one can neither run code nor allocate more than its size.
//! The format is described in docs/model-format.md.

use crate::files::{LogZ, WholeFile};
use crate::novelty::Novelty;
use crate::posterior::Posterior;
use half::f16;
use lwflow_model::{Flow, FlowSpec, LayerSpec, OuterTransform, ParamLayout};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The newest version; files of versions 1 to this one are read, and the oldest that can say everything is written.
pub const FORMAT_VERSION: u32 = 4;
const ENTRY: &str = "lwflow";

/// Number type of the tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 32-bit floats.
    #[default]
    F32,
    /// 16-bit floats: half the size, parameters rounded to 11 bits.
    F16,
}

/// Why a model file could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelFileError {
    /// The operating system refused.
    #[error("{}: cannot {action} the model file: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// "read" or "write".
        action: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is no model file, or a damaged one.
    #[error("{}: not a usable model file: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file was written by a newer program.
    #[error("{}: model format version {got}, this program reads 1 to {FORMAT_VERSION}; use a newer lwflow", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        got: u32,
    },
    /// A parameter is too large for the number type asked for.
    #[error("{}: tensor {tensor} holds {value}, which 16-bit floats cannot; write f32", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The value.
        value: f32,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format_version: u32,
    spec: FlowSpec,
    names: Vec<String>,
    labels: Vec<String>,
    outer: OuterTransform,
    context_location: Vec<f64>,
    context_scale: Vec<f64>,
    seed: u64,
    /// Since version 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    evidence: Option<LogZ>,
    /// Since version 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    novelty: Option<Novelty>,
}

/// Only the version, read first, so that a newer header is named as such and not as damaged.
#[derive(Deserialize)]
struct Version {
    format_version: u32,
}

/// Writes `posterior` to `path` atomically: the file is complete under its name or not there at all.
///
/// # Errors
/// [`ModelFileError::Io`], or [`ModelFileError::TooLarge`] with [`Precision::F16`].
pub fn write_model(path: &Path, posterior: &Posterior, precision: Precision) -> Result<(), ModelFileError> {
    let bytes = model_bytes(path, posterior, precision)?;
    let io = |source| ModelFileError::Io { path: path.to_owned(), action: "write", source };
    write_atomically(path, &bytes).map_err(io)
}

/// The bytes of a model file; `path` is only named in errors.
///
/// # Errors
/// [`ModelFileError::TooLarge`] with [`Precision::F16`].
pub(crate) fn model_bytes(
    path: &Path,
    posterior: &Posterior,
    precision: Precision,
) -> Result<Vec<u8>, ModelFileError> {
    let damaged = |reason: String| ModelFileError::Damaged { path: path.to_owned(), reason };
    let header = Header {
        format_version: least_version(posterior),
        spec: posterior.spec().clone(),
        names: posterior.names.clone(),
        labels: posterior.labels.clone(),
        outer: posterior.outer.clone(),
        context_location: posterior.context_location.clone(),
        context_scale: posterior.context_scale.clone(),
        seed: posterior.seed,
        evidence: posterior.evidence,
        novelty: posterior.novelty.clone(),
    };
    let json = serde_json::to_string(&header).map_err(|e| damaged(e.to_string()))?;
    let mut tensors: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
    for block in &posterior.flow.layout().blocks {
        let values = &posterior.flow.params()[block.range()];
        let bytes = match precision {
            Precision::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Precision::F16 => {
                if let Some(&value) = values.iter().find(|v| !f16::from_f32(**v).is_finite()) {
                    return Err(ModelFileError::TooLarge {
                        path: path.to_owned(),
                        tensor: block.name.clone(),
                        value,
                    });
                }
                values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect()
            }
        };
        tensors.push((block.name.clone(), block.shape.clone(), bytes));
    }
    let dtype = match precision {
        Precision::F32 => Dtype::F32,
        Precision::F16 => Dtype::F16,
    };
    let views = tensors
        .iter()
        .map(|(name, shape, bytes)| Ok((name.as_str(), TensorView::new(dtype, shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
        .map_err(|e| damaged(e.to_string()))?;
    let metadata = HashMap::from([(ENTRY.to_owned(), json)]);
    safetensors::serialize(views, Some(metadata)).map_err(|e| damaged(e.to_string()))
}

/// The oldest version that can say everything about the model, so that older programs read what they understand.
fn least_version(posterior: &Posterior) -> u32 {
    let is_spline = |layer: &LayerSpec| match layer {
        LayerSpec::AffineCoupling(_) => false,
        LayerSpec::SplineCoupling(_) => true,
    };
    if posterior.spec().context_network.is_some() {
        4
    } else if posterior.novelty.is_some() || posterior.spec().layers.iter().any(is_spline) {
        3
    } else if posterior.evidence.is_some() {
        2
    } else {
        1
    }
}

/// Writes a file so that a crash leaves either the old content or the new one.
///
/// # Errors
/// What the operating system says.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let file = WholeFile::create(path)?;
    file.handle()?.write_all(bytes)?;
    file.finish()
}

/// Reads a model file.
///
/// # Errors
/// [`ModelFileError`] naming the file and what is wrong with it.
pub fn read_model(path: &Path) -> Result<Posterior, ModelFileError> {
    let bytes = std::fs::read(path).map_err(|source| ModelFileError::Io {
        path: path.to_owned(),
        action: "read",
        source,
    })?;
    parse_model(path, &bytes)
}

/// Reads a model file from memory; `path` is only named in errors.
///
/// # Errors
/// [`ModelFileError`] naming the file and what is wrong with it.
pub fn parse_model(path: &Path, bytes: &[u8]) -> Result<Posterior, ModelFileError> {
    let damaged = |reason: String| ModelFileError::Damaged { path: path.to_owned(), reason };
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|e| damaged(e.to_string()))?;
    let json = metadata
        .metadata()
        .as_ref()
        .and_then(|m| m.get(ENTRY))
        .ok_or_else(|| damaged(format!("it has no header entry \"{ENTRY}\"")))?;
    let version: Version = serde_json::from_str(json).map_err(|e| damaged(format!("header: {e}")))?;
    if version.format_version == 0 || version.format_version > FORMAT_VERSION {
        return Err(ModelFileError::Version { path: path.to_owned(), got: version.format_version });
    }
    let header: Header = serde_json::from_str(json).map_err(|e| damaged(format!("header: {e}")))?;
    let (d, c) = (header.spec.dim, header.spec.context_dim);
    header.spec.validate().map_err(|e| damaged(e.to_string()))?;
    header.outer.validate(d).map_err(|e| damaged(e.to_string()))?;
    for (field, got, expected) in [
        ("names", header.names.len(), d),
        ("labels", header.labels.len(), d),
        ("context_location", header.context_location.len(), c),
        ("context_scale", header.context_scale.len(), c),
    ] {
        if got != expected {
            return Err(damaged(format!("header: {field} has {got} values, expected {expected}")));
        }
    }
    if !header.context_location.iter().all(|x| x.is_finite())
        || !header.context_scale.iter().all(|x| x.is_finite() && *x > 0.0)
    {
        return Err(damaged(
            "header: context_location and context_scale must be finite, the scales positive".into(),
        ));
    }
    if header.evidence.is_some_and(|e| !(e.log_z.is_finite() && e.sd.is_finite() && e.sd >= 0.0)) {
        return Err(damaged("header: evidence must be finite, its standard error not negative".into()));
    }
    if let Some(novelty) = &header.novelty {
        novelty.validate(Novelty::width(&header.spec)).map_err(|e| damaged(format!("header: {e}")))?;
    }
    let layout = ParamLayout::new(&header.spec);
    let tensors = SafeTensors::deserialize(bytes).map_err(|e| damaged(e.to_string()))?;
    if tensors.len() != layout.blocks.len() {
        let (got, expected) = (tensors.len(), layout.blocks.len());
        return Err(damaged(format!("it holds {got} tensors, its specification describes {expected}")));
    }
    let mut params = Vec::new();
    for block in &layout.blocks {
        let tensor =
            tensors.tensor(&block.name).map_err(|_| damaged(format!("tensor {} is missing", block.name)))?;
        if tensor.shape() != block.shape {
            let (got, expected) = (tensor.shape(), &block.shape);
            return Err(damaged(format!("tensor {} has shape {got:?}, expected {expected:?}", block.name)));
        }
        let data = tensor.data();
        match tensor.dtype() {
            Dtype::F32 => {
                params.extend(data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])))
            }
            Dtype::F16 => {
                params.extend(data.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()))
            }
            other => {
                return Err(damaged(format!(
                    "tensor {} has type {other:?}, expected F32 or F16",
                    block.name
                )));
            }
        }
        if let Some(i) = params[block.offset..].iter().position(|v| !v.is_finite()) {
            return Err(damaged(format!("tensor {}, value {i} is not finite", block.name)));
        }
    }
    let flow = Flow::from_params(header.spec, params).map_err(|e| damaged(e.to_string()))?;
    Ok(Posterior {
        names: header.names,
        labels: header.labels,
        outer: header.outer,
        flow,
        context_location: header.context_location,
        context_scale: header.context_scale,
        seed: header.seed,
        evidence: header.evidence,
        novelty: header.novelty,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use lwflow_model::{
        Activation, BaseSpec, Bijection, Bound, ContextNetworkSpec, Coupling, Edge, FlowSettings,
        MixtureSpec, SetSpec,
    };
    use proptest::prelude::*;

    fn posterior() -> Posterior {
        let base = BaseSpec::Mixture(MixtureSpec { n_components: 2, ..MixtureSpec::default() });
        let settings = FlowSettings { n_layers: 2, hidden: vec![4, 3], ..FlowSettings::default() };
        let spec = FlowSpec::build(2, 1, &settings, base, 3).unwrap();
        let mut flow = Flow::<f32>::init(spec, 3).unwrap();
        for (i, p) in flow.params_mut().iter_mut().enumerate() {
            *p += (i as f32 * 0.37).sin() * 0.3;
        }
        let hard = Bijection { lower: Some(Bound { value: 0.0, edge: Edge::Hard }), ..Bijection::UNBOUNDED };
        let upper = Some(Bound { value: 2.0 / 3.0, edge: Edge::Soft });
        let circle = Bijection { upper, cut: Some(1.0 / 7.0), ..hard };
        let mut outer = OuterTransform::new(vec![circle, hard]);
        // Numbers that need all 17 digits.
        outer.location = vec![0.1, 1.0 / 3.0];
        outer.scale = vec![0.5948724772085402, 1.1111111111111112e-7];
        Posterior {
            names: vec!["mass".into(), "Größe λ".into()],
            labels: vec!["m".into(), "\\lambda".into()],
            outer,
            flow,
            context_location: vec![0.5],
            context_scale: vec![2.0],
            novelty: None,
            seed: u64::MAX,
            evidence: None,
        }
    }

    fn bytes(precision: Precision) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        write_model(&path, &posterior(), precision).unwrap();
        std::fs::read(path).unwrap()
    }

    #[test]
    fn round_trip_is_exact_in_f32() {
        let (a, b) = (posterior(), parse_model(Path::new("m"), &bytes(Precision::F32)).unwrap());
        assert_eq!(a.flow.params(), b.flow.params());
        assert_eq!((&a.outer, &a.names, &a.labels, a.seed), (&b.outer, &b.names, &b.labels, b.seed));
        assert_eq!(a.spec(), b.spec());
        assert_eq!(b.evidence, None);
        let with = Posterior { evidence: Some(LogZ { log_z: -1.0 / 3.0, sd: 0.1 }), ..a };
        let bytes = model_bytes(Path::new("m"), &with, Precision::F32).unwrap();
        assert_eq!(parse_model(Path::new("m"), &bytes).unwrap().evidence, with.evidence);
        assert!(bytes.windows(18).any(|w| w == b"format_version\\\":2"), "a field that version 1 refuses");
    }

    /// A program of versions 1 and 2 would call the layer damage; the number tells it to say "newer".
    #[test]
    fn splines_are_version_3_and_read_back() {
        let affine = posterior();
        let settings = FlowSettings {
            n_layers: 2,
            hidden: vec![4],
            coupling: Coupling::Spline { n_bins: 5, bound: 1.0 / 3.0 },
            ..FlowSettings::default()
        };
        let spec = FlowSpec::build(2, 1, &settings, BaseSpec::Gaussian, 3).unwrap();
        let mut flow = Flow::<f32>::init(spec, 3).unwrap();
        flow.params_mut().iter_mut().enumerate().for_each(|(i, p)| *p += (i as f32 * 0.37).sin());
        let with = Posterior { flow, ..affine };
        let bytes = model_bytes(Path::new("m"), &with, Precision::F32).unwrap();
        assert!(bytes.windows(18).any(|w| w == b"format_version\\\":3"));
        let back = parse_model(Path::new("m"), &bytes).unwrap();
        assert_eq!((back.spec(), back.flow.params()), (with.spec(), with.flow.params()));
    }

    /// Programs of versions 1 to 3 know nothing of networks; the number tells them so.
    #[test]
    fn context_networks_are_version_4_and_read_back() {
        let set = SetSpec {
            element: 2,
            counted: true,
            phi: vec![3],
            hidden: vec![4],
            n_features: 2,
            activation: Activation::Silu,
        };
        let settings = FlowSettings {
            n_layers: 1,
            context_network: Some(ContextNetworkSpec::Set(set)),
            ..FlowSettings::default()
        };
        let spec = FlowSpec::build(2, 5, &settings, BaseSpec::Gaussian, 3).unwrap();
        let flow = Flow::<f32>::init(spec, 3).unwrap();
        let novelty = Novelty::of_features(&[0.5, 2.0, 1.5, -1.0, 0.1, 0.0], 2);
        let (context_location, context_scale) = (vec![0.0; 5], vec![1.0; 5]);
        let with = Posterior { flow, novelty, context_location, context_scale, ..posterior() };
        let good = model_bytes(Path::new("m"), &with, Precision::F32).unwrap();
        assert!(good.windows(18).any(|w| w == b"format_version\\\":4"));
        let back = parse_model(Path::new("m"), &good).unwrap();
        assert_eq!((back.spec(), back.flow.params()), (with.spec(), with.flow.params()));
        assert_eq!(back.novelty, with.novelty);
        // What does not fit, and what would be large.
        for (from, to, words) in [
            ("\\\"element\\\":2", "\\\"element\\\":0", "context_network.element is 0"),
            ("\\\"element\\\":2", "\\\"element\\\":3", "a divisor of the 4 context values"),
            (
                "\\\"phi\\\":[3]",
                "\\\"phi\\\":[9]",
                "context/phi/linear0/weight has shape [3, 2], expected [9, 2]",
            ),
            ("\\\"phi\\\":[3]", "\\\"phi\\\":[ ]", "context_network.phi is 0 widths"),
            ("\\\"n_features\\\":2", "\\\"n_features\\\":0", "context_network.n_features is 0"),
            ("\\\"counted\\\":true,", "\\\"counted\\\":1e99,", "invalid type"),
            ("\\\"set\\\":{", "\\\"sat\\\":{", "unknown variant"),
            ("context/rho/linear1/bias", "context/rho/linear9/bias", "context/rho/linear1/bias is missing"),
        ] {
            assert_eq!(from.len(), to.len());
            let mut bad = good.clone();
            let at = good.windows(from.len()).position(|w| w == from.as_bytes()).unwrap();
            bad[at..at + to.len()].copy_from_slice(to.as_bytes());
            let error = parse_model(Path::new("m"), &bad).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn f16_costs_less_than_its_rounding_says() {
        let (a, b) = (posterior(), parse_model(Path::new("m"), &bytes(Precision::F16)).unwrap());
        for (x, y) in a.flow.params().iter().zip(b.flow.params()) {
            assert!((x - y).abs() <= x.abs() * 2f32.powi(-11) + 6e-8);
        }
        let theta: Vec<f64> = (0..40).map(|i| (i as f64 * 0.7).sin()).collect();
        let context: Vec<f64> = (0..20).map(|i| (i as f64 * 1.3).cos()).collect();
        let p = a.flow.cast::<f64>().log_prob(&theta, &context).unwrap();
        let q = b.flow.cast::<f64>().log_prob(&theta, &context).unwrap();
        let worst = p.iter().zip(&q).map(|(p, q)| (p - q).abs()).fold(0.0, f64::max);
        assert!(worst > 0.0 && worst < 0.02, "{worst}");
    }

    #[test]
    fn too_large_for_f16_is_refused() {
        let mut p = posterior();
        p.flow.params_mut()[0] = 1e6;
        let folder = tempfile::tempdir().unwrap();
        let error = write_model(&folder.path().join("m"), &p, Precision::F16).unwrap_err().to_string();
        assert!(error.contains("layer0/linear0/weight") && error.contains("write f32"), "{error}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn newer_version_and_wrong_tensors_are_named() {
        let good = bytes(Precision::F32);
        let text = |from: &str, to: &str| {
            assert_eq!(from.len(), to.len());
            let at = good.windows(from.len()).position(|w| w == from.as_bytes()).unwrap();
            let mut bad = good.clone();
            bad[at..at + to.len()].copy_from_slice(to.as_bytes());
            parse_model(Path::new("some/model.safetensors"), &bad).unwrap_err().to_string()
        };
        assert!(text("format_version\\\":1", "format_version\\\":9").contains("version 9"));
        let missing = text("base/means", "base/moans");
        assert!(missing.contains("base/means") && missing.contains("some/model.safetensors"), "{missing}");
        assert!(text("\"lwflow\"", "\"lwflox\"").contains("no header entry"));
        assert!(text("context_dim", "context_dam").contains("context_d"));
        let mut nan = good.clone();
        let n = nan.len();
        nan[n - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
        assert!(parse_model(Path::new("m"), &nan).unwrap_err().to_string().contains("not finite"));
    }

    proptest! {
        #[test]
        fn damaged_bytes_never_panic(at in 0usize..4000, value: u8, cut in 0usize..4000) {
            let mut data = bytes(Precision::F32);
            let n = data.len();
            data[at % n] = value;
            let _ = parse_model(Path::new("m"), &data);
            data.truncate(cut % n);
            prop_assert!(parse_model(Path::new("m"), &data).is_err());
        }
    }
}
