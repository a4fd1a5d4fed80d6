"""What type checkers see: the package by itself, the stub beside the compiled module, and a program that uses it."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif("LWFLOW_TYPES" not in os.environ, reason="cargo xtask test --long asks for it")

PROGRAM = """
import numpy as np
import lwflow

made = lwflow.fit({"a": lwflow.Normal(0, 2)}, lambda theta: -theta[:, 0] ** 2, progress=False)
draws = made.sample(10)
draws, log_prob = made.sample(10, return_log_prob=True)
total: float = float(np.sum(draws)) + float(np.sum(log_prob))
reveal_type(made.sample(10))
made.sample("ten")
"""


def run(*words, cwd=None):
    """Output and status of a module of this Python."""
    done = subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True, cwd=cwd)
    return done.stdout + done.stderr, done.returncode


def test_the_package_is_typed(tmp_path):
    output, status = run("mypy", "--strict", "-p", "lwflow", cwd=tmp_path)
    assert status == 0, output


def test_the_stub_is_what_the_module_has(tmp_path):
    output, status = run("mypy.stubtest", "lwflow._lwflow", cwd=tmp_path)
    assert status == 0, output


def test_a_program_is_checked(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    output, status = run("mypy", str(path), cwd=tmp_path)
    errors = [line for line in output.splitlines() if ": error:" in line]
    assert status == 1 and len(errors) == 1 and 'No overload variant of "sample"' in errors[0], output
    assert "ndarray" in output and "float64" in output, output
