"""Reads with GetDist, anesthetic, ArviZ, pandas and NumPy what `lwflow export` wrote from samples.npz and compares: readers.py NAME SAMPLES."""
import json
import sys

import anesthetic
import arviz
import fastparquet
import getdist
import numpy as np
import pandas

name, source = sys.argv[1:]
z = np.load(source)
theta, names = z["theta"], list(z["names"])
weighted = "log_weight" in z
weights = np.exp(z["log_weight"] - z["log_weight"].max()) if weighted else np.ones(len(theta))
log_posterior = z["log_likelihood"] + z["log_prior"] if weighted else z["log_prob"]
columns = np.hstack([theta, z["derived"]]) if weighted else theta
all_names = names + (["sum"] if weighted else [])
mean = np.average(columns, axis=0, weights=weights)
sd = np.sqrt(np.average((columns - mean) ** 2, axis=0, weights=weights))
close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)

g = getdist.loadMCSamples("./" + name, no_cache=True)
assert g.paramNames.list() == all_names, g.paramNames.list()
assert g.paramNames.labels()[:3] == [r"\alpha", "b", "c"], g.paramNames.labels()
assert [p.isDerived for p in g.paramNames.names] == [n == "sum" for n in all_names]
assert (g.ranges.getLower("a"), g.ranges.getUpper("a")) == (-4.0, 4.0)
assert (g.ranges.getLower("b"), g.ranges.getUpper("b")) == (None, None)
assert (g.ranges.getLower("c"), g.ranges.getUpper("c")) == (0.0, None)
close(g.weights, weights)
close(g.samples, columns)
close(g.loglikes, -log_posterior)
close(g.mean("a"), mean[0])
close(g.std("b"), sd[1])
assert g.sampler == "uncorrelated" and g.getEffectiveSamples() > 0.99 * weights.sum() ** 2 / (weights**2).sum()
assert g.get1DDensity("c").x.min() >= 0  # the bound is known to the density estimate

a = anesthetic.read_csv(name + ".csv")
assert isinstance(a, anesthetic.MCMCSamples) and a.isweighted() and a.islabelled()
close(a.get_weights(), weights)
close(a[all_names].to_numpy(), columns)
close(a["a"].mean(), mean[0])
assert a.get_label("a") == r"$\alpha$" and a.get_label("b") == "b", a.get_labels()
if weighted:
    close(a["logL"].to_numpy(), z["log_likelihood"])

i = arviz.from_json(name + ".json")
assert list(i.posterior.data_vars) == all_names
drawn = np.stack([i.posterior[n].values[0] for n in all_names], axis=1)
ess = weights.sum() ** 2 / (weights**2).sum()
assert i.posterior.sizes["chain"] == 1 and len(drawn) == (int(ess) if weighted else len(theta)), len(drawn)
rows = {tuple(row): k for k, row in enumerate(columns)}
taken = np.array([rows[tuple(row)] for row in drawn])
close(i.sample_stats["lp"].values[0], log_posterior[taken])
# Systematic resampling takes each draw the whole number of times below or above its share.
share = weights / weights.sum() * len(drawn)
assert np.all(np.abs(np.bincount(taken, minlength=len(theta)) - share) < 1)
assert np.all(np.abs(drawn.mean(0) - mean) < 4 * sd / np.sqrt(ess))
assert list(i.posterior.attrs["labels"]) == [r"\alpha", "b", "c"]
assert list(i.posterior.attrs["ranges"]) == ["a -4.0 4.0", "b N N", "c 0.0 N"]
assert ("resampled" in i.posterior.attrs["sampling"]) == weighted
assert list(arviz.summary(i).index) == all_names

n = np.load(name + ".npz")
assert list(n["names"]) == names and list(n["labels"]) == [r"\alpha", "b", "c"]
open_ends = [[-4, 4], [-np.inf, np.inf], [0, np.inf]]
assert np.array_equal(n["ranges"], open_ends), n["ranges"]
t = pandas.read_csv(name + "_table.csv")
p = pandas.read_parquet(name + ".parquet", engine="fastparquet")
assert list(p.columns) == list(t.columns) and len(p) == len(t)
close(p.to_numpy(), t.to_numpy())
about = json.loads(fastparquet.ParquetFile(name + ".parquet").key_value_metadata["lwflow"])
assert about["labels"] == {"a": r"\alpha", "b": "b", "c": "c"}, about
assert about["ranges"] == {"a": [-4, 4], "b": [None, None], "c": [0, None]}, about
for table in (n, t, p):
    if weighted:
        close(table["log_weight"], z["log_weight"])
    else:
        close(table["weight"], 1.0)
    close(table["log_prob"], z["log_prob"])
close(n["theta"], theta)
close(p[all_names].to_numpy(), columns)
print("all as written")
