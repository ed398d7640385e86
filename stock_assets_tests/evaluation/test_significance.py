"""Significance: clustered errors and equal accuracy, against statsmodels, SciPy and their laws."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.signal import lfilter

from stock_assets.evaluation.significance import (
    DieboldMariano,
    clustered_errors,
    cumulative_difference,
    diebold_mariano,
    diebold_mariano_tests,
    loss_difference,
    loss_differences,
    newey_west,
)
from stock_assets_tests.evaluation.examples import scored_forecasts

law = settings(max_examples=8, deadline=None)
seeds = st.integers(0, 10_000)


def clustered_error(influence: np.ndarray, sessions: np.ndarray, horizon: int = 1) -> float:
    """The error of everything as one group."""
    together = pd.Series("all", index=range(len(influence)))
    errors = clustered_errors(pd.Series(influence), pd.Series(sessions), together, horizon)
    return errors["all"]


def mean_error(values: np.ndarray, sessions: np.ndarray) -> float:
    return clustered_error(values - values.mean(), sessions)


def draw(seed: int, size: int = 60, clusters: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Values with a common part per cluster; clusters of different sizes, in any order."""
    random = np.random.default_rng(seed)
    cluster = np.concatenate([np.arange(clusters), random.integers(0, clusters, size - clusters)])
    return random.standard_normal(clusters)[cluster] + random.standard_normal(size), cluster


def autocorrelated(seed: int, count: int = 50) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(count + 2)
    return noise[2:] + noise[1:-1] + noise[:-2] + 0.3


@law
@given(seeds)
def test_the_clustered_error_is_that_of_a_cluster_robust_regression_on_a_constant(
    seed: int,
) -> None:
    values, clusters = draw(seed)
    fit = sm.OLS(values, np.ones(len(values))).fit(
        cov_type="cluster", cov_kwds={"groups": clusters}
    )
    assert mean_error(values, clusters) == pytest.approx(fit.bse[0])


@law
@given(seeds)
def test_clusters_of_one_have_the_naive_error(seed: int) -> None:
    values, _ = draw(seed)
    alone = np.arange(len(values))
    assert mean_error(values, alone) == pytest.approx(stats.sem(values))


@law
@given(seeds, st.integers(1, 20))
def test_identical_tickers_add_no_certainty(seed: int, copies: int) -> None:
    values, clusters = draw(seed)
    many = mean_error(np.tile(values, copies), np.tile(clusters, copies))
    assert many == pytest.approx(mean_error(values, clusters))


def test_tickers_that_move_together_are_less_certain_than_they_look() -> None:
    rows = scored_forecasts(sessions=100, tickers=20)
    errors = (rows["absolute_error"] / rows["persistence"]).to_numpy()
    assert mean_error(errors, rows["session"].to_numpy()) > 2 * stats.sem(errors)


@law
@given(seeds, st.integers(1, 5))
def test_the_error_of_overlapping_forecasts_is_that_of_the_test(seed: int, horizon: int) -> None:
    """One ticker per session: the mean over its error is the statistic of Diebold and Mariano."""
    losses = autocorrelated(seed)
    error = clustered_error(losses - losses.mean(), np.arange(len(losses)), horizon)
    test = diebold_mariano(losses, horizon)
    if test.statistic is None:
        assert np.isnan(error)
    else:
        assert losses.mean() / error == pytest.approx(test.statistic)


def test_overlap_makes_the_error_of_a_slow_series_larger() -> None:
    losses, sessions = autocorrelated(1), np.repeat(np.arange(25), 2)
    near, far = (clustered_error(losses - losses.mean(), sessions, horizon) for horizon in (1, 3))
    assert far > near


def test_two_sessions_per_session_ahead_are_the_fewest_for_an_error() -> None:
    losses = autocorrelated(1)[:5]
    assert np.isnan(clustered_error(losses - losses.mean(), np.arange(5), 3))


@law
@given(seeds, st.integers(1, 3))
def test_groups_have_the_errors_that_each_has_alone(seed: int, horizon: int) -> None:
    values, clusters = draw(seed, size=90)
    group = np.random.default_rng(seed).integers(0, 2, len(values))
    deviations = values - np.array([values[group == 0].mean(), values[group == 1].mean()])[group]
    errors = clustered_errors(*map(pd.Series, (deviations, clusters, group)), horizon)
    for number in (0, 1):
        own = group == number
        assume(len(set(clusters[own])) == len(set(clusters)))
        alone = clustered_error(deviations[own], clusters[own], horizon)
        assert errors[number] == pytest.approx(alone, nan_ok=True)


@law
@given(seeds)
def test_one_session_ahead_the_test_is_the_paired_t_test(seed: int) -> None:
    first, second = np.random.default_rng(seed).exponential(size=(2, 30))
    test = diebold_mariano(first - second)
    expected = stats.ttest_rel(first, second)
    assert test.statistic == pytest.approx(expected.statistic)
    assert test.p_value == pytest.approx(expected.pvalue)
    assert test.difference == pytest.approx(first.mean() - second.mean())
    assert (test.sessions, test.reason) == (30, "")


@law
@given(seeds)
def test_further_ahead_the_variance_counts_the_overlap(seed: int) -> None:
    losses, horizon = autocorrelated(seed), 3
    count = len(losses)
    # statsmodels divides by n; its uniform kernel has the weights of Diebold and Mariano.
    fit = sm.OLS(losses, np.ones(count)).fit(
        cov_type="HAC", cov_kwds={"maxlags": horizon - 1, "kernel": "uniform"}
    )
    correction = (count + 1 - 2 * horizon + horizon * (horizon - 1) / count) / count
    statistic = fit.tvalues[0] * np.sqrt(correction)
    test = diebold_mariano(losses, horizon)
    assert test.statistic == pytest.approx(statistic)
    assert test.p_value == pytest.approx(2 * stats.t.sf(abs(statistic), count - 1))


@law
@given(seeds, st.integers(1, 4))
def test_swapping_the_models_changes_the_sign(seed: int, horizon: int) -> None:
    losses = autocorrelated(seed)
    forth, back = diebold_mariano(losses, horizon), diebold_mariano(-losses, horizon)
    assert forth.difference == -back.difference
    assert forth.p_value == back.p_value
    if forth.statistic is not None:
        assert forth.statistic == -back.statistic


def test_a_session_counts_once_however_many_tickers_it_has() -> None:
    rows, reference = scored_forecasts(tickers=4), scored_forecasts(tickers=4, own_seed=2)
    copies = [pd.concat([own, own.assign(ticker=own["ticker"] + "x")]) for own in (rows, reference)]
    once, twice = loss_difference(rows, reference), loss_difference(*copies)
    np.testing.assert_allclose(twice, once, atol=1e-15)
    assert len(once) == rows["session"].nunique()


def test_a_session_counts_once_however_many_horizons_end_in_it() -> None:
    rows, reference = (scored_forecasts(horizons=3, own_seed=seed) for seed in (1, 2))
    losses = loss_difference(rows, reference)
    assert list(losses.index) == sorted(rows["session"].unique())
    share = (rows["absolute_error"] - reference["absolute_error"]) / rows["persistence"]
    for session, own in share.groupby(rows["session"]):
        assert losses[session] == pytest.approx(own.mean())


def test_the_difference_of_a_ticker_is_that_of_its_forecasts_alone() -> None:
    rows, reference = (scored_forecasts(horizons=3, own_seed=seed) for seed in (1, 2))
    by_ticker = loss_differences(rows, reference)
    assert list(by_ticker) == sorted(rows["ticker"].unique())
    for ticker, losses in by_ticker.items():
        alone = (own[own["ticker"] == ticker] for own in (rows, reference))
        pd.testing.assert_series_equal(losses, loss_difference(*alone), check_names=False)


@law
@given(seeds, st.integers(1, 4))
def test_many_tests_at_once_are_those_of_each_alone(seed: int, horizon: int) -> None:
    losses = pd.DataFrame(
        {
            "slow": autocorrelated(seed),
            "alternating": np.tile([1.0, -1.0], 25),
            "equal": 0.0,
            "constant": -0.1,
        }
    )
    tests = diebold_mariano_tests(losses, horizon).astype(object).replace({np.nan: None})
    for name, own in losses.items():
        assert DieboldMariano(**tests.loc[name]) == diebold_mariano(own.to_numpy(), horizon)


@law
@given(seeds)
def test_sessions_that_a_ticker_lacks_are_not_counted(seed: int) -> None:
    whole = autocorrelated(seed)
    losses = pd.DataFrame({"whole": whole, "late": np.r_[[np.nan] * 20, whole[20:]]})
    for horizon in (1, 3):
        late = diebold_mariano_tests(losses, horizon).loc["late"]
        assert late["statistic"] == pytest.approx(diebold_mariano(whole[20:], horizon).statistic)
    gap = losses.assign(late=np.r_[whole[:20], np.nan, whole[21:]])
    test = diebold_mariano_tests(gap).loc["late"]
    assert test["statistic"] == pytest.approx(diebold_mariano(np.delete(whole, 20)).statistic)
    assert test["sessions"] == len(whole) - 1


def test_sessions_around_a_missing_one_are_not_neighbours() -> None:
    losses = autocorrelated(1)
    losses[20] = np.nan
    found = diebold_mariano_tests(pd.DataFrame({"late": losses}), horizon=2).loc["late"]
    deviations = losses - np.nanmean(losses)
    pairs = deviations[1:] * deviations[:-1]
    variance = np.nansum(deviations**2) + 2 * np.nansum(pairs)
    count = len(losses) - 1
    correction = (count + 1 - 4 + 2 / count) / count
    assert found["statistic"] == pytest.approx(np.nansum(losses) / np.sqrt(variance / correction))


@pytest.mark.parametrize(
    ("losses", "horizon", "reason"),
    [
        (np.zeros(30), 1, "equal in every session"),
        (np.full(30, -0.1), 1, "constant in every session"),
        (autocorrelated(1)[:0], 1, "0 sessions are fewer than 8"),
        (autocorrelated(1)[:7], 1, "7 sessions are fewer than 8"),
        (autocorrelated(1)[:9], 5, "9 sessions are fewer than 10"),
        (np.tile([1.0, -1.0], 10), 2, "variance"),
    ],
)
def test_an_undefined_test_has_a_reason(losses: np.ndarray, horizon: int, reason: str) -> None:
    test = diebold_mariano(losses, horizon)
    assert (test.statistic, test.p_value) == (None, None)
    assert reason in test.reason
    assert not test.better(0.999)


@pytest.mark.parametrize(
    ("difference", "p_value", "better"),
    [(-0.1, 0.01, True), (-0.1, 0.05, False), (0.1, 0.01, False), (-0.1, None, False)],
)
def test_better_is_lower_and_significant(
    difference: float, p_value: float | None, better: bool
) -> None:
    test = DieboldMariano(difference, 60, p_value and -2.0, p_value)
    assert test.better(0.05) is better
    assert replace(test, difference=-difference).worse(0.05) is better


def test_noise_is_significant_at_the_nominal_rate() -> None:
    noise = pd.DataFrame(np.random.default_rng(0).standard_normal((20, 2000)))
    assert 0.035 < (diebold_mariano_tests(noise)["p_value"] < 0.05).mean() < 0.065


@pytest.mark.parametrize(("horizons", "least", "most"), [(1, 0.01, 0.10), (3, 0.02, 0.14)])
def test_two_models_of_equal_skill_seldom_differ_significantly(
    horizons: int, least: float, most: float
) -> None:
    """Sixty-three sessions with a common move; docs/evaluation.md has the sizes."""
    losses = {}
    for seed in range(100):
        one, other = (
            scored_forecasts(seed, 63, 5, own_seed=own, horizons=horizons)
            for own in (10_000 + seed, 20_000 + seed)
        )
        losses[seed] = loss_difference(one, other)
    found = diebold_mariano_tests(pd.DataFrame(losses), horizons)["p_value"] < 0.05
    assert least < found.mean() < most


@law
@given(seeds, st.integers(1, 4))
def test_the_band_excludes_zero_where_the_test_rejects(seed: int, horizon: int) -> None:
    losses = pd.Series(np.random.default_rng(seed).standard_normal(30) + 0.35)
    last = cumulative_difference(losses, horizon, 0.95).iloc[-1]
    assert last["cumulative"] == pytest.approx(losses.sum())
    test = diebold_mariano(losses.to_numpy(), horizon)
    assert (last["lower"] > 0 or last["upper"] < 0) == rejects(test)


def rejects(test: DieboldMariano) -> bool:
    return test.p_value is not None and test.p_value < 0.05


@law
@given(seeds)
def test_one_session_ahead_the_band_is_of_the_standard_deviation(seed: int) -> None:
    losses = pd.Series(np.random.default_rng(seed).standard_normal(30))
    band = cumulative_difference(losses)
    width = stats.t.ppf(0.975, 29) * losses.std() * np.sqrt(np.arange(1, 31))
    np.testing.assert_allclose(band["upper"] - band["cumulative"], width)


@pytest.mark.parametrize("losses", [[0.1], [0.1, 0.3, 0.2, 0.1], [0.1] * 30])
def test_without_a_test_there_is_no_band(losses: list[float]) -> None:
    band = cumulative_difference(pd.Series(losses))
    assert band["cumulative"].tolist() == np.cumsum(losses).tolist()
    assert band[["lower", "upper"]].isna().all(axis=None)


@law
@given(seeds, st.integers(1, 10))
def test_newey_west_agrees_with_statsmodels(seed: int, lags: int) -> None:
    steps = np.random.default_rng(seed).normal(0.2, 1.0, 200)
    differences = np.convolve(steps, np.ones(4), "valid")
    fitted = sm.OLS(differences, np.ones(len(differences))).fit(
        cov_type="HAC", cov_kwds={"maxlags": lags}, use_t=True
    )
    statistic, p_value = newey_west(differences, lags)
    assert statistic == pytest.approx(fitted.tvalues[0])
    assert p_value > fitted.pvalues[0]


def test_newey_west_with_few_lags_has_the_p_value_of_statsmodels() -> None:
    differences = np.random.default_rng(1).normal(0.01, 1.0, 20_000)
    fitted = sm.OLS(differences, np.ones(len(differences))).fit(
        cov_type="HAC", cov_kwds={"maxlags": 5}, use_t=True
    )
    assert newey_west(differences, 5)[1] == pytest.approx(fitted.pvalues[0], rel=1e-2)


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.6])
@pytest.mark.parametrize("sessions", [63, 252])
def test_newey_west_rarely_finds_a_difference_in_noise(sessions: int, correlation: float) -> None:
    random, rejected = np.random.default_rng(1), 0
    for _ in range(500):
        steps = random.normal(size=sessions + 50)
        noise = lfilter([1.0], [1.0, -correlation], steps)[50:]
        rejected += newey_west(noise, 21)[1] < 0.05
    assert rejected <= 0.08 * 500


def test_newey_west_of_a_constant_difference_is_undefined() -> None:
    assert np.isnan(newey_west(np.ones(30), 5)).all()
