"""C2ST of two sets of samples: the accuracy of a classifier that is to tell them apart; 0.5 cannot be told apart.

    python c2st.py samples.npz results/two_moons.npz:observation_1

As in Lueckmann et al. 2021: both sets are standardised by the mean and standard deviation of the first, the classifier is
a perceptron with two hidden layers of 10 x D rectified units trained by Adam, its accuracy comes from five folds; here the
mean over three seeds of folds and classifier. A file is .npz (an array of two dimensions, its key after a colon if there
are several, or one array per parameter), or .csv with a header; --columns names or counts the columns to take. The
first --n distinct rows of each are used: repeated rows, as resampled points have, could be told apart by memory alone.
Prints one line of JSON.
"""

import argparse
import json
from importlib.metadata import version

import numpy as np
from sklearn.model_selection import KFold, cross_val_score
from sklearn.neural_network import MLPClassifier


def read(place, columns):
    """Samples, [n, D]."""
    path, _, key = place.partition(":")
    if path.endswith(".npz"):
        file = np.load(path)
        if key:
            samples = file[key]
        elif len(file.files) == 1:
            samples = file[file.files[0]]
        elif columns and all(c in file.files for c in columns):
            return np.column_stack([file[c] for c in columns]).astype(float)
        else:
            raise SystemExit(f"{path} has the arrays {', '.join(file.files)}: name one as {path}:KEY, or give --columns")
        names = [str(i) for i in range(samples.shape[1])]
    else:
        with open(path) as file:
            names = [name.strip().strip('"') for name in file.readline().split(",")]
        samples = np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2)
    if columns:
        samples = samples[:, [names.index(c) if c in names else int(c) for c in columns]]
    return samples.astype(float)


def distinct(samples, n, what):
    """The first n distinct rows, in their order."""
    _, first = np.unique(samples, axis=0, return_index=True)
    rows = samples[np.sort(first)][:n]
    if len(rows) < n:
        raise SystemExit(f"{what}: {len(rows)} distinct rows, {n} are needed; --n asks for fewer")
    if not np.isfinite(rows).all():
        raise SystemExit(f"{what}: there are values that are not finite")
    return rows


def standardised(x, y):
    """Both by the mean and the standard deviation of x."""
    mean, sd = x.mean(0), x.std(0, ddof=1)
    return (x - mean) / sd, (y - mean) / sd


def c2st(x, y, seeds=(1, 2, 3)):
    """Accuracy for each seed; x, y: [n, D]."""
    both = np.concatenate(standardised(x, y))
    labels = np.repeat([0, 1], [len(x), len(y)])
    width = 10 * x.shape[1]
    scores = []
    for seed in seeds:
        classifier = MLPClassifier((width, width), max_iter=10_000, random_state=seed)
        folds = KFold(5, shuffle=True, random_state=seed)
        scores.append(float(cross_val_score(classifier, both, labels, cv=folds, scoring="accuracy").mean()))
    return scores


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first")
    parser.add_argument("second")
    parser.add_argument("--columns", nargs="+", help="of both files, by name or number from 0")
    parser.add_argument("--n", type=int, default=10_000)
    arguments = parser.parse_args()
    x, y = (distinct(read(p, arguments.columns), arguments.n, p) for p in (arguments.first, arguments.second))
    if x.shape[1] != y.shape[1]:
        raise SystemExit(f"{arguments.first} has {x.shape[1]} columns, {arguments.second} {y.shape[1]}")
    scores = c2st(x, y)
    print(json.dumps({
        "c2st": round(float(np.mean(scores)), 4),
        "seeds": [round(s, 4) for s in scores],
        "n": len(x),
        "dim": x.shape[1],
        "scikit-learn": version("scikit-learn"),
    }))


if __name__ == "__main__":
    main()
