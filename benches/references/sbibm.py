"""The ten tasks of sbibm (Lueckmann et al. 2021, arXiv 2101.04653): their observations, reference draws and C2ST, and
checks of the WGSL files of examples/sbibm against sbibm_tasks.py.

    python sbibm.py observation WHEEL slcp 3 observation_3.csv       # x of observation 3, as a task file reads it
    python sbibm.py c2st WHEEL slcp 3 draws.npz:theta                # draws against the reference posterior
    python sbibm.py pair WHEEL slcp 3 draws.npz:theta pair.npz       # both, standardised, for another classifier
    python sbibm.py theta WHEEL slcp 2000 theta.csv                  # 2000 rows for each of the ten true parameters
    python sbibm.py moments slcp pairs.npz                           # theta and x of `lwflow simulate` against numpy
    python sbibm.py predictive WHEEL slcp pairs.npz                  # observations among draws of the prior predictive
    python sbibm.py mixture mixture.npz                              # the distractors of slcp_distractors
    python sbibm.py points WHEEL > results/sbibm_points.json         # log L at points of prior and posterior

WHEEL is the wheel of sbibm 1.1.0 from PyPI (MIT), of which only files of numbers are read. theta of a task file is that of the
paper but for bernoulli_glm and bernoulli_glm_raw: their prior is a correlated Gaussian, and the task files have its independent
innovations eta; here draws are mapped to offset and filter first. Each answer is one line of JSON.
"""

import argparse
import bz2
import json
import pathlib
import tomllib
import zipfile
from importlib.metadata import version

import numpy as np

import c2st
from sbibm_tasks import LOG_LIKELIHOODS, PRIORS, SIMULATORS, distractors, to_paper, to_task_file

N_OBSERVATIONS = 10
EXAMPLES = pathlib.Path(__file__).parents[2] / "examples" / "sbibm"
# Folder in the wheel and file of an observation, where they are not named after the task.
FILES = {
    "slcp_distractors": ("slcp", "observation_distractors.csv"),
    "bernoulli_glm_raw": ("bernoulli_glm", "observation_raw.csv"),
}


def read_wheel(wheel, task, observation, name):
    """A table of numbers of an observation of a task, [n, columns]."""
    folder, _ = FILES.get(task, (task, ""))
    with zipfile.ZipFile(wheel) as file:
        text = file.read(f"sbibm/tasks/{folder}/files/num_observation_{observation}/{name}")
    text = (bz2.decompress(text) if name.endswith(".bz2") else text).decode()
    return np.loadtxt(text.splitlines(), delimiter=",", skiprows=1, ndmin=2)


def read_observation(wheel, task, observation):
    """x, [1, X]."""
    return read_wheel(wheel, task, observation, FILES.get(task, ("", "observation.csv"))[1])


def write_table(path, names, table):
    """A .csv with each number by the digits of its f32."""
    with open(path, "w") as file:
        file.write(",".join(names) + "\n")
        for row in table:
            file.write(",".join(f"{v:.9g}" for v in row) + "\n")


# ---- the commands --------------------------------------------------------------------------------------------------------


def read_pair(arguments):
    """As many distinct draws of the reference posterior and of a file, in the paper's parameters, both [n, D]."""
    reference = read_wheel(arguments.wheel, arguments.task, arguments.observation, "reference_posterior_samples.csv.bz2")
    columns = [str(i) for i in range(reference.shape[1])]
    draws = to_paper(arguments.task, c2st.read(arguments.draws, columns))
    return c2st.distinct(reference, arguments.n, "the reference"), c2st.distinct(draws, arguments.n, arguments.draws)


def score(arguments):
    """C2ST of draws against the reference posterior, by c2st.py."""
    x, y = read_pair(arguments)
    scores = c2st.c2st(x, y, arguments.fold_seeds)
    return {
        "c2st": round(float(np.mean(scores)), 4),
        "seeds": [round(s, 4) for s in scores],
        "n": len(x),
        "scikit-learn": version("scikit-learn"),
    }


def read_pairs(path, task):
    """theta of the paper [n, D] and x [n, X] of a file of `lwflow simulate`."""
    file = np.load(path)
    return to_paper(task, file["theta"].astype(float)), file["context"].astype(float)


def moments(arguments):
    """Largest difference of mean, spread and neighbours' correlation, in standard errors, over every theta and every x.

    Each is the mean of a bounded function of x less its median, so that there is a standard error also where x has no
    variance (slcp_distractors)."""
    theta, x = read_pairs(arguments.pairs, arguments.task)
    other = SIMULATORS[arguments.task](theta, np.random.default_rng(arguments.seed))
    _, which = np.unique(theta, axis=0, return_inverse=True)
    worst = {"mean": 0.0, "spread": 0.0, "neighbours": 0.0}
    n_compared = 0
    for group in range(which.max() + 1):
        ours, theirs = x[which.ravel() == group], other[which.ravel() == group]
        middle = np.median(theirs, 0)
        width = np.maximum(np.quantile(np.abs(theirs - middle), 0.75, axis=0), 1e-3 * np.abs(middle) + 1e-9)
        a, b = np.tanh((ours - middle) / width), np.tanh((theirs - middle) / width)
        for name, of in (
            ("mean", lambda v: v),
            ("spread", np.square),
            ("neighbours", lambda v: v * np.roll(v, 1, 1)),
        ):
            difference = of(a).mean(0) - of(b).mean(0)
            # A count that is nearly always the same has a mean known to 1 / n at best.
            error = np.sqrt((of(a).var(0) + of(b).var(0)) / len(a)) + 1.0 / len(a)
            worst[name] = max(worst[name], float(np.abs(difference / error).max()))
            n_compared += x.shape[1]
    return {"task": arguments.task, "n": len(x), "compared": n_compared, **{k: round(v, 2) for k, v in worst.items()}}


def predictive(arguments):
    """Share of draws of the prior predictive below each number of the observations: least, greatest, and mean."""
    _, x = read_pairs(arguments.pairs, arguments.task)
    seen = np.concatenate([read_observation(arguments.wheel, arguments.task, k + 1) for k in range(N_OBSERVATIONS)])
    share = np.array([[(x[:, j] < v).mean() + 0.5 * (x[:, j] == v).mean() for j, v in enumerate(row)] for row in seen])
    summary = {"least": share.min(), "greatest": share.max(), "mean": share.mean()}
    return {"task": arguments.task, "n": len(x), **{k: round(float(v), 4) for k, v in summary.items()}}


def points(arguments):
    """log L of observation 1 of every task at 8 draws of its prior and 8 of its reference posterior, exact in f32."""
    out = {}
    for task in SIMULATORS:
        posterior = read_wheel(arguments.wheel, task, 1, "reference_posterior_samples.csv.bz2")[:8]
        drawn = PRIORS[task](8, np.random.default_rng(1))
        theta = np.concatenate([drawn, to_task_file(task, posterior)]).astype(np.float32).astype(float)
        value = LOG_LIKELIHOODS[task](to_paper(task, theta), read_observation(arguments.wheel, task, 1)[0])
        out[task] = {
            "theta": [[float(f"{v:.9g}") for v in row] for row in theta],
            "log_likelihood": [float(f"{v:.12g}") if np.isfinite(v) else None for v in value],
        }
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name, *positional):
        sub = commands.add_parser(name)
        for argument in positional:
            choices = list(SIMULATORS) if argument == "task" else None
            is_count = argument in ("observation", "rows")
            sub.add_argument(argument, choices=choices, type=int if is_count else str)
        return sub

    command("observation", "wheel", "task", "observation", "out")
    of_draws = command("c2st", "wheel", "task", "observation", "draws")
    of_draws.add_argument("--fold-seeds", type=lambda text: [int(v) for v in text.split(",")], default=[1, 2, 3])
    for sub in (of_draws, command("pair", "wheel", "task", "observation", "draws", "out")):
        sub.add_argument("--n", type=int, default=10_000)
    command("theta", "wheel", "task", "rows", "out")
    command("moments", "task", "pairs").add_argument("--seed", type=int, default=1)
    command("predictive", "wheel", "task", "pairs")
    command("mixture", "out")
    command("points", "wheel")
    arguments = parser.parse_args()
    answer = {}
    if arguments.command == "observation":
        x = read_observation(arguments.wheel, arguments.task, arguments.observation)
        write_table(arguments.out, [f"x{i + 1}" for i in range(x.shape[1])], x)
    elif arguments.command == "pair":
        x, y = read_pair(arguments)
        x, y = (z.astype(np.float32) for z in c2st.standardised(x, y))
        np.savez(arguments.out, reference=x, draws=y)
    elif arguments.command == "theta":
        true = [read_wheel(arguments.wheel, arguments.task, k + 1, "true_parameters.csv") for k in range(N_OBSERVATIONS)]
        names = tomllib.loads((EXAMPLES / arguments.task / "TASK.toml").read_text())["parameters"]
        write_table(arguments.out, names, np.repeat(to_task_file(arguments.task, np.concatenate(true)), arguments.rows, 0))
    elif arguments.command == "mixture":
        mean, lower, _ = distractors()
        np.savez_compressed(arguments.out, data=np.concatenate([mean, lower.reshape(-1, 92)]).astype(np.float32))
    else:
        answer = {"c2st": score, "moments": moments, "predictive": predictive, "points": points}[arguments.command](arguments)
    if answer:
        print(json.dumps(answer))


if __name__ == "__main__":
    main()
