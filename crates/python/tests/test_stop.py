"""Progress, Ctrl-C, and fits that go on."""

import io
import os
import signal
import threading

import numpy as np
import pytest
from conftest import PRIOR, ROUNDS, TRAINING, first_experiment

import lwflow
from lwflow import _progress

#: A contract that no budget keeps.
LONG = {**ROUNDS, "target_ess": 1e7, "max_evaluations": 2_000_000, "n_scan": 5000}


@pytest.fixture(autouse=True)
def heard():
    """Ctrl-C as a terminal's program has it: one that was started in the background would ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_progress_tells_every_stage():
    events = []
    lwflow.fit(PRIOR, first_experiment, **{**ROUNDS, "progress": events.append})
    stages = [event["stage"] for event in events]
    assert {"prior", "training", "likelihood", "round"} <= set(stages)
    assert all(0 <= event["done"] <= event["total"] for event in events)
    rounds = [event for event in events if event["stage"] == "round"]
    assert [event["round"] for event in rounds] == list(range(1, len(rounds) + 1))
    assert 0 < rounds[0]["beta"] <= 1 and "log_z" in rounds[-1]


def test_false_ends_a_fit_with_what_there_is():
    with pytest.warns(lwflow.InterruptedWarning):
        made = lwflow.fit(PRIOR, first_experiment, **{**LONG, "progress": lambda e: e["stage"] != "round"})
    assert made.interrupted and not made.verdict["met"]
    assert len(made.report["rounds"]) == 1 and made.sample(10).shape == (10, 2)


def test_an_exception_in_the_callback_is_raised():
    def fails(event):
        raise ZeroDivisionError("the bar")

    with pytest.raises(ZeroDivisionError, match="the bar"):
        lwflow.fit(PRIOR, first_experiment, **{**ROUNDS, "progress": fails})


def interrupt_after(stage):
    """A callback at whose first event of `stage` Ctrl-C is sent, by another thread."""
    seen = threading.Event()

    def wait():
        seen.wait(60)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=wait, daemon=True).start()

    def watch(event):
        if event["stage"] == stage:
            seen.set()

    return watch


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT that one process sends itself")
@pytest.mark.parametrize("slow", [False, True])
def test_ctrl_c_ends_a_fit_with_what_there_is(slow):
    pause = threading.Event()

    def log_likelihood(theta):
        if slow:
            pause.wait(0.05)  # where most of the time goes, so that the signal arrives in here
        return first_experiment(theta)

    with pytest.warns(lwflow.InterruptedWarning):
        made = lwflow.fit(PRIOR, log_likelihood, **{**LONG, "progress": interrupt_after("round")})
    assert made.interrupted and not made.verdict["met"]
    assert np.all(np.isfinite(made.log_prob(made.sample(10))))
    # The signal is spent: the next fit is not ended by it.
    assert not lwflow.fit(PRIOR, first_experiment, **ROUNDS).interrupted


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT that one process sends itself")
def test_ctrl_c_before_the_first_flow_is_a_keyboard_interrupt():
    def log_likelihood(theta):
        os.kill(os.getpid(), signal.SIGINT)
        return first_experiment(theta)

    with pytest.raises(KeyboardInterrupt):
        lwflow.fit(PRIOR, log_likelihood, **LONG)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT that one process sends itself")
def test_ctrl_c_ends_a_training_with_what_there_is():
    theta = np.random.default_rng(1).normal(size=(20_000, 2))
    long = {**TRAINING, "max_visits": 10**9, "progress": interrupt_after("training")}
    with pytest.warns(lwflow.InterruptedWarning):
        made = lwflow.fit_weighted(theta, **long)
    assert made.interrupted and abs(made.sample(1000, 1).mean()) < 0.3


def test_a_journal_goes_on_where_a_fit_was_stopped(tmp_path):
    counted = []

    def log_likelihood(theta):
        counted.append(len(theta))
        return first_experiment(theta)

    with pytest.warns(lwflow.InterruptedWarning):
        lwflow.fit(
            PRIOR, log_likelihood, **{**ROUNDS, "journal": tmp_path, "progress": lambda e: e["stage"] != "round"}
        )
    first = sum(counted)
    counted.clear()
    made = lwflow.fit(PRIOR, log_likelihood, **{**ROUNDS, "journal": tmp_path})
    whole = lwflow.fit(PRIOR, first_experiment, **ROUNDS)
    assert np.array_equal(made.draws["theta"], whole.draws["theta"]) and first > 0
    # The audit evaluates a few draws again.
    assert sum(counted) < whole.report["n_evaluations"]
    with pytest.raises(lwflow.InputError, match="seed 0, now it is 5"):
        lwflow.fit(PRIOR, log_likelihood, **{**ROUNDS, "journal": tmp_path, "seed": 5})


def test_progress_is_quiet_in_a_log_and_a_bar_in_a_notebook(monkeypatch, capsys):
    assert _progress.reporter(False)[0] is None
    assert _progress.reporter(True)[0] is None  # pytest's stderr is no terminal
    called = _progress.reporter(print)[0]
    assert called is print

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr("sys.stderr", Terminal())
    bars, close = _progress.reporter(True)
    for done in (0, 50, 100):
        bars({"stage": "training", "round": 2, "beta": 0.5, "done": done, "total": 100})
    assert bars.bar.n == 100 and "round 2: training (beta 0.500)" in bars.bar.desc
    bars({"stage": "round", "round": 2, "done": 1, "total": 1})
    close()
    assert bars.bar is None
    # Without tqdm, a line per stage.
    monkeypatch.setitem(__import__("sys").modules, "tqdm.auto", None)
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    lines, close = _progress.reporter(True)
    for done in (0, 100):
        lines({"stage": "prior", "round": 0, "done": done, "total": 100})
    close()
    assert terminal.getvalue() == "lwflow: prior\n"

    class ZMQInteractiveShell:
        pass

    class IPython:
        get_ipython = staticmethod(lambda: ZMQInteractiveShell())

    monkeypatch.setitem(__import__("sys").modules, "IPython", IPython)
    monkeypatch.setattr("sys.stderr", io.StringIO())
    assert _progress.in_notebook() and _progress.reporter(True)[0] is not None
