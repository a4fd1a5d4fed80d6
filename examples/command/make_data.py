"""Makes data.csv: 60 unevenly spaced readings of 1 + 0.8 sin(2 pi t / 2.7 + 0.6) with noise of sd 0.25."""

import numpy as np

rng = np.random.default_rng(20261201)
time = np.sort(rng.uniform(0.0, 10.0, 60))
value = 1.0 + 0.8 * np.sin(2.0 * np.pi * time / 2.7 + 0.6) + 0.25 * rng.standard_normal(60)
np.savetxt("data.csv", np.column_stack([time, value]), fmt="%.6f", delimiter=",", header="time,value", comments="")
