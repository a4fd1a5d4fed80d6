"""`lwflow.fit` against known answers, and what it says to wrong arguments."""

import threading
import time

import numpy as np
import pytest
from conftest import PRIOR, ROUNDS, first_experiment, first_log_z

import lwflow


def test_the_package_is_that_of_the_wheel():
    assert "site-packages" in lwflow.__file__
    assert set(lwflow.__all__) <= set(dir(lwflow))


def test_evidence_and_modes_are_those_of_the_closed_form(posterior):
    assert posterior.verdict["met"], posterior.verdict
    assert not posterior.interrupted and posterior.names == ["a", "b"] and posterior.dim == 2
    log_z, sd = posterior.evidence
    assert posterior.evidence.log_z == log_z
    assert abs(log_z - first_log_z()) < 5 * sd + 1e-3
    theta, log_prob = posterior.sample(20_000, seed=1, return_log_prob=True)
    assert theta.shape == (20_000, 2) and log_prob.shape == (20_000,)
    assert abs(np.mean(theta[:, 0] > 0) - 0.5) < 0.03
    assert abs(np.mean(theta[:, 1]) - 0.4) < 0.1 and abs(np.std(theta[:, 1]) - np.sqrt(0.8)) < 0.1
    # The flow draws with wide twins, so its density is near the posterior's and not equal to it.
    log_p = first_experiment(theta) - 0.5 * np.sum(theta**2, axis=1) / 4 - np.log(8 * np.pi) - first_log_z()
    weight = np.exp(log_p - log_prob)
    assert abs(np.mean(weight) - 1) < 0.05


def test_draws_carry_the_evidence(posterior):
    draws = posterior.draws
    n = len(draws["log_weight"])
    assert draws["theta"].shape == (n, 2) and "derived" not in draws
    total = np.logaddexp.reduce(draws["log_weight"]) - np.log(n)
    assert total == pytest.approx(posterior.evidence.log_z, abs=1e-9)
    parts = draws["log_likelihood"] + draws["log_prior"] - draws["log_prob"]
    np.testing.assert_allclose(parts, draws["log_weight"], atol=1e-9)
    np.testing.assert_allclose(draws["log_likelihood"], first_experiment(draws["theta"]), atol=1e-12)
    assert posterior.report["n_evaluations"] <= ROUNDS["max_evaluations"]


def test_samples_follow_from_the_seed(posterior):
    assert np.array_equal(posterior.sample(100, 3), posterior.sample(200, 3)[:100])
    assert not np.array_equal(posterior.sample(100), posterior.sample(100))


def test_log_prob_takes_one_theta_or_many(posterior):
    many = posterior.log_prob([[1.5, 0.4], [0, 0]])
    one = posterior.log_prob(np.array([1.5, 0.4]))
    assert many.shape == (2,) and isinstance(one, float) and one == many[0]
    assert many[0] > many[1] + 3
    with pytest.raises(lwflow.InputError, match=r"theta: shape \(3,\), expected \(n, 2\) or \(2,\)"):
        posterior.log_prob([1, 2, 3])
    with pytest.raises(ValueError, match="theta, row 1, parameter b is NaN"):
        posterior.log_prob([[0, 0], [0, np.nan]])
    with pytest.raises(lwflow.InputError, match="no array of numbers"):
        posterior.log_prob("here")


def test_a_model_file_keeps_density_and_evidence(posterior, tmp_path):
    path = tmp_path / "model.safetensors"
    posterior.save(path)
    loaded = lwflow.Posterior.load(path, device="cpu")
    assert loaded.evidence == posterior.evidence and loaded.verdict is None and loaded.draws is None
    theta = posterior.sample(50, 1)
    assert np.array_equal(loaded.log_prob(theta), posterior.log_prob(theta))
    with pytest.raises(lwflow.InputError, match="nowhere.safetensors"):
        lwflow.Posterior.load(tmp_path / "nowhere.safetensors")
    with pytest.raises(lwflow.InputError, match="cannot write"):
        posterior.save(tmp_path / "no" / "folder")
    with pytest.raises(lwflow.DeviceError, match="no device fits"):
        lwflow.Posterior.load(path, device="no such device")


def test_the_posterior_is_the_next_prior(posterior):
    def second(theta):
        return -0.5 * ((theta[:, 0] - 1.2) / 0.5) ** 2 - 0.5 * ((theta[:, 1] - 0.2) / 0.5) ** 2

    both = lwflow.fit(PRIOR, lambda theta: first_experiment(theta) + second(theta), **ROUNDS)
    after = lwflow.fit(posterior, second, **ROUNDS)
    assert after.names == ["a", "b"]
    log_z = posterior.evidence.log_z + after.evidence.log_z
    sd = np.sqrt(posterior.evidence.log_z_sd**2 + after.evidence.log_z_sd**2 + both.evidence.log_z_sd**2)
    assert abs(log_z - both.evidence.log_z) < 5 * sd + 0.03


def test_wgsl_runs_with_data_and_derived_quantities(tmp_path):
    text = """
fn log_likelihood(theta: array<f32, D>) -> f32 {
    var total = 0.0;
    for (var row = 0u; row < n_rows; row++) { total += normal_log_pdf(data(row, 0u), theta[0], 0.5); }
    return total;
}
fn derived(theta: array<f32, D>) -> array<f32, M> { return array<f32, M>(square(theta[0])); }
"""
    data = np.array([[1.3], [0.8], [1.1]])
    prior = {"place": {"prior": "uniform", "lower": -10, "upper": 10}}
    made = lwflow.fit(prior, text, data=data, derived=["square"], **ROUNDS)
    spread = np.sum((data - data.mean()) ** 2)
    exact = -(np.log(2 * np.pi) + 2 * np.log(0.5)) - 0.5 * np.log(3) - spread / 0.5 - np.log(20)
    assert abs(made.evidence.log_z - exact) < 5 * made.evidence.log_z_sd + 1e-3
    draws = made.draws
    np.testing.assert_allclose(draws["derived"][:, 0], draws["theta"][:, 0] ** 2, rtol=1e-5, atol=1e-9)
    file = tmp_path / "place.wgsl"
    file.write_text(text.replace("theta[0], 0.5", "theta[1], 0.5"))
    with pytest.raises(lwflow.InputError, match="log_likelihood.wgsl"):
        lwflow.fit(prior, file, data=data, derived=["square"], **ROUNDS)


def test_every_marginal_is_known():
    marginals = [
        lwflow.Uniform(0, 1, periodic=True),
        lwflow.LogUniform(0.1, 10),
        lwflow.Normal(0, 1),
        lwflow.TruncatedNormal(0, 1, lower=0),
        lwflow.Lognormal(0, 1),
        lwflow.HalfNormal(1),
        lwflow.Exponential(1),
        lwflow.Gamma(2, 1),
        lwflow.Beta(2, 2),
        lwflow.StudentT(4, 0, 1),
    ]
    prior = {type(m).__name__: m for m in marginals}
    seen = []

    def stop(theta):
        seen.append(theta)
        raise RuntimeError("enough")

    with pytest.raises(lwflow.LikelihoodError):
        lwflow.fit(prior, stop, **ROUNDS)
    assert seen[0].shape[1] == 10 and seen[0].dtype == np.float64


@pytest.mark.parametrize(
    "prior, text",
    [
        ({}, "expected a dict"),
        ({"a": 3}, "prior of parameter a: int, expected a marginal"),
        ({"a": lwflow.Uniform(1, 0)}, "prior of parameter a: upper is 0"),
        ({"a": lwflow.Normal(0, np.inf)}, "prior of parameter a: sd is inf, expected a finite number"),
        ({"a": lwflow.Normal(0, "wide")}, "prior of parameter a"),
        ({"a": {"prior": "normal", "mean": 0, "sigma": 1}}, "prior of parameter a: unknown field `sigma`"),
        ({"a": {"prior": "norml"}}, "prior of parameter a: unknown variant `norml`"),
    ],
)
def test_wrong_priors_are_named(prior, text):
    with pytest.raises(lwflow.InputError) as caught:
        lwflow.fit(prior, lambda theta: np.zeros(len(theta)), **ROUNDS)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    "options, error, text",
    [
        ({"max_evaluations": 0}, lwflow.InputError, "max_evaluations = 0"),
        ({"target_ess": "many"}, TypeError, "target_ess is 'many'"),
        ({"data": np.zeros((2, 2))}, lwflow.InputError, "data is for a log_likelihood in WGSL"),
        ({"offsets": {"a": 1.0}}, lwflow.InputError, "offsets is for a log_likelihood in WGSL"),
        ({"labels": ["a"]}, lwflow.InputError, "labels: length 1, expected 2"),
        ({"device": "warp drive"}, lwflow.DeviceError, "no device fits"),
    ],
)
def test_wrong_options_are_named(options, error, text):
    with pytest.raises(error) as caught:
        lwflow.fit(PRIOR, first_experiment, **{**ROUNDS, **options})
    assert text in str(caught.value)


@pytest.mark.parametrize(
    "function, text",
    [
        (lambda theta: np.zeros((len(theta), 1)), r"log_likelihood returned shape \(\d+, 1\) for theta of shape"),
        (lambda theta: 0.0, r"log_likelihood returned shape \(\)"),
        (lambda theta: np.where(theta[:, 0] > 3, np.nan, 0.0), r"value NaN at row \d+ \(theta = \["),
        (lambda theta: np.full(len(theta), np.inf), "value inf at row 0"),
        (lambda theta: ["x"] * len(theta), "no array of numbers"),
        (lambda theta: theta.nothing, "log_likelihood raised AttributeError"),
    ],
)
def test_what_a_callable_does_wrong_is_named(function, text):
    with pytest.raises(lwflow.Error, match=text):
        lwflow.fit(PRIOR, function, **ROUNDS)


def test_the_callables_exception_is_the_cause():
    def fails(theta):
        raise KeyError("no such star")

    with pytest.raises(lwflow.LikelihoodError, match="log_likelihood raised KeyError: 'no such star'") as caught:
        lwflow.fit(PRIOR, fails, **ROUNDS)
    assert isinstance(caught.value.__cause__, KeyError)
    assert caught.value.__cause__.__traceback__ is not None


def test_minus_infinity_is_legal():
    def half(theta):
        return np.where(theta[:, 0] > 0, first_experiment(theta), -np.inf)

    made = lwflow.fit(PRIOR, half, **ROUNDS)
    assert abs(made.evidence.log_z - (first_log_z() - np.log(2))) < 5 * made.evidence.log_z_sd + 0.01


def test_other_threads_run_while_the_engine_works():
    text = "fn log_likelihood(theta: array<f32, D>) -> f32 { return -square(theta[0]) - square(theta[1]); }"
    ticks, done = [], threading.Event()

    def tick():
        while not done.wait(0.002):
            ticks.append(time.monotonic())

    thread = threading.Thread(target=tick)
    thread.start()
    lwflow.fit(PRIOR, text, **ROUNDS)
    done.set()
    thread.join()
    # A fit that holds the interpreter lets it tick at its begin and end alone.
    assert len(ticks) > 20, len(ticks)
