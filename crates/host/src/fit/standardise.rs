//! Location and scale of the context. Invariant: what they are applied to keeps its meaning: the elements of a set share
//! theirs, whatever their place, and a count stays a count.

use lwflow_model::{ContextNetworkSpec, SetSpec};

/// Location and scale, `[C]` each, of context `[n, C]` with weights `[n]` that sum to one.
pub(super) fn standardisation(
    context: &[f64],
    w: &[f64],
    c: usize,
    network: Option<&ContextNetworkSpec>,
) -> (Vec<f64>, Vec<f64>) {
    match network {
        Some(ContextNetworkSpec::Set(set)) => of_elements(set, context, w, c),
        Some(ContextNetworkSpec::Mlp(_)) | None => {
            moments(c, w.iter().copied().zip(context.chunks_exact(c.max(1))))
        }
    }
}

/// One location and scale for each value of an element, from all elements that are present, repeated over the columns.
fn of_elements(set: &SetSpec, context: &[f64], w: &[f64], c: usize) -> (Vec<f64>, Vec<f64>) {
    let rows =
        || w.iter().zip(context.chunks_exact(c)).map(|(w, row)| (*w, set.elements(row).unwrap_or_default()));
    let total: f64 = rows().map(|(w, present)| w * (present.len() / set.element) as f64).sum();
    let elements =
        rows().flat_map(|(w, present)| present.chunks_exact(set.element).map(move |e| (w / total, e)));
    let (location, scale) = moments(set.element, elements);
    let over = |first: f64, values: Vec<f64>| [vec![first; set.first()], values.repeat(set.most(c))].concat();
    (over(0.0, location), over(1.0, scale))
}

/// Mean and standard deviation of weighted rows; one for a value that does not vary.
fn moments<'a>(width: usize, rows: impl Iterator<Item = (f64, &'a [f64])> + Clone) -> (Vec<f64>, Vec<f64>) {
    let (mut location, mut scale) = (vec![0.0; width], vec![0.0; width]);
    for (w, row) in rows.clone() {
        for (sum, x) in location.iter_mut().zip(row) {
            *sum += w * x;
        }
    }
    for (w, row) in rows {
        for ((sum, x), mean) in scale.iter_mut().zip(row).zip(&location) {
            *sum += w * (x - mean).powi(2);
        }
    }
    for s in &mut scale {
        *s = if *s > 0.0 { s.sqrt() } else { 1.0 };
    }
    (location, scale)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lwflow_model::Activation;

    #[test]
    fn elements_share_their_scale_and_counts_have_none() {
        let (phi, activation) = (vec![4], Activation::Silu);
        let set = SetSpec { element: 2, counted: true, phi, hidden: Vec::new(), n_features: 2, activation };
        let network = ContextNetworkSpec::Set(set);
        // Elements (1, 10), (3, 10) and (5, 10), what is absent is not looked at.
        let context = [2.0, 1.0, 10.0, 3.0, 10.0, 1.0, 5.0, 10.0, 1e9, -1e9, 0.0, 7.0, 7.0, 7.0, 7.0];
        let (location, scale) = standardisation(&context, &[0.25, 0.25, 0.5], 5, Some(&network));
        assert_eq!(location, [0.0, 3.0, 10.0, 3.0, 10.0]);
        let sd = (8.0f64 / 3.0).sqrt();
        for (got, expected) in scale.iter().zip([1.0, sd, 1.0, sd, 1.0]) {
            assert!((got - expected).abs() < 1e-12, "{scale:?}");
        }
        // With no element at all, and without sets.
        let (location, scale) = standardisation(&[0.0; 5], &[1.0], 5, Some(&network));
        assert_eq!((location, scale), (vec![0.0; 5], vec![1.0; 5]));
        let (location, scale) = standardisation(&[1.0, 3.0], &[0.5, 0.5], 1, None);
        assert_eq!((location, scale), (vec![2.0], vec![1.0]));
    }
}
