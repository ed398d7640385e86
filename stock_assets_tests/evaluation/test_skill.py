"""Skill: standard errors of pooled scores, and information coefficients within sessions."""

from __future__ import annotations

from dataclasses import asdict, astuple

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from stock_assets.evaluation.metrics import (
    persistence_forecasts,
    relative_returns,
    score_rows,
    summarise,
)
from stock_assets.evaluation.skill import measure_skill, session_ics, standard_errors
from stock_assets_tests.evaluation.examples import scored_forecasts

law = settings(max_examples=5, deadline=None)
seeds = st.integers(0, 10_000)
PRICES = ["actual", "predicted", "persistence"]
WITHIN = ["session_ic", "session_ic_se", "icir"]
RANKED = ["session_rank_ic", "session_rank_ic_se", "rank_icir"]


def jackknife(values: list[float]) -> float:
    """Standard error from leaving out one session at a time, independent of any formula."""
    count = len(values)
    return float(np.sqrt((count - 1) * np.var(values)))


@law
@given(seeds)
def test_each_sessions_coefficients_are_those_of_scipy(seed: int) -> None:
    rows = scored_forecasts(seed, sessions=6)
    found = session_ics(rows.sample(frac=1, random_state=seed))
    assert list(found.index) == [(day, 1) for day in sorted(rows["session"].unique())]
    for session, part in rows.groupby("session"):
        moves = relative_returns(part)
        expected = [
            correlate(moves["predicted"], moves["actual"]).statistic
            for correlate in (stats.pearsonr, stats.spearmanr)
        ]
        assert found.loc[(session, 1)].tolist() == pytest.approx(expected)


def test_each_horizon_of_a_session_has_a_coefficient() -> None:
    rows = scored_forecasts(horizons=3)
    whole = session_ics(rows)
    for horizon in (1, 2, 3):
        own = session_ics(rows[rows["horizon"] == horizon])
        pd.testing.assert_frame_equal(whole.xs(horizon, level="horizon", drop_level=False), own)
    skill = measure_skill(rows)
    assert skill.session_ic == pytest.approx(whole["ic"].mean())
    assert skill.icir == pytest.approx(whole["ic"].mean() / whole["ic"].std())
    assert skill.ic_sessions == rows["session"].nunique() == 40


def overlapping_error(influence: pd.Series, session: pd.Series) -> float:
    """Three sessions ahead: statsmodels' variance of a mean, of sums over the tickers."""
    sums = influence.groupby(session).sum().reindex(sorted(session.unique())).to_numpy()
    count, horizon = len(sums), 3
    fit = sm.OLS(sums, np.ones(count)).fit(
        cov_type="HAC", cov_kwds={"maxlags": horizon - 1, "kernel": "uniform"}
    )
    variance = fit.cov_params().item() * count**2
    correction = (count + 1 - 2 * horizon + horizon * (horizon - 1) / count) / count
    return float(np.sqrt(variance / correction if variance >= 0 else np.nan)) / influence.count()


@law
@given(seeds)
def test_errors_of_several_horizons_count_their_overlap(seed: int) -> None:
    rows = scored_forecasts(seed, horizons=3)
    rows = score_rows(rows.assign(lower=0.99 * rows["predicted"], upper=1.01 * rows["predicted"]))
    loss, persistence_loss = (
        rows[name] / rows["persistence"]
        for name in ("absolute_error", "persistence_absolute_error")
    )
    moves = relative_returns(rows)
    x, y = ((moves - moves.mean()) / moves.std(ddof=0)).to_numpy().T
    ics = session_ics(rows)["ic"].reset_index()
    ratio, hit, covered = (
        loss.sum() / persistence_loss.sum(),
        rows["direction_hit"],
        rows["covered"],
    )
    excess = loss - persistence_loss
    expected = {
        "error_difference_se": excess - excess.mean(),
        "relative_mae_se": (loss - ratio * persistence_loss) / persistence_loss.mean(),
        "direction_accuracy_se": hit - hit.mean(),
        "coverage_se": covered - covered.mean(),
        "ic_se": pd.Series(x * y - (x * y).mean() * (x**2 + y**2) / 2, rows.index),
    }
    skill = measure_skill(rows)
    for name, influence in expected.items():
        error = overlapping_error(influence, rows["session"])
        assert getattr(skill, name) == pytest.approx(error, nan_ok=True), name
    error = overlapping_error(ics["ic"] - ics["ic"].mean(), ics["session"])
    assert skill.session_ic_se == pytest.approx(error, nan_ok=True)


def test_a_session_without_a_direction_keeps_its_place_between_its_neighbours() -> None:
    rows = scored_forecasts(3, sessions=60, horizons=2)
    flat = rows["session"] == sorted(rows["session"].unique())[30]
    rows = score_rows(rows.assign(predicted=rows["predicted"].mask(flat, rows["persistence"])))
    hits = rows["direction_hit"]
    sums = (hits - hits.mean()).groupby(rows["session"]).sum(min_count=1)
    count, pairs = sums.count(), (sums * sums.shift()).sum()
    correction = (count + 1 - 4 + 2 / count) / count
    variance = ((sums**2).sum() + 2 * pairs) / correction
    error = np.sqrt(variance) / hits.count()
    assert measure_skill(rows).direction_accuracy_se == pytest.approx(error)


def test_tied_forecasts_share_their_rank() -> None:
    rows = scored_forecasts(sessions=1, tickers=6)
    steps = [0.003, -0.001, 0.003, 0.003, 0.002, -0.001]
    tied = score_rows(rows.assign(predicted=rows["persistence"] * (1 + np.array(steps))))
    moves = relative_returns(tied)
    assert (tied["predicted"] / tied["persistence"]).nunique() > 3, "they differ by rounding alone"
    assert moves["predicted"].nunique() == 3
    expected = stats.spearmanr(moves["predicted"], moves["actual"]).statistic
    assert session_ics(tied)["rank_ic"].tolist() == pytest.approx([expected])


def test_the_mean_the_error_and_the_ratio_are_over_sessions() -> None:
    rows = scored_forecasts(skill=0.5)
    skill, ics = measure_skill(rows), session_ics(rows)
    assert skill.ic_sessions == 40
    for names, column in ((WITHIN, "ic"), (RANKED, "rank_ic")):
        values = ics[column]
        expected = [values.mean(), stats.sem(values), values.mean() / values.std(ddof=1)]
        assert [getattr(skill, name) for name in names] == pytest.approx(expected)
    assert skill.session_ic > 0.5


@pytest.mark.parametrize(
    "rows",
    [
        scored_forecasts(tickers=1),
        score_rows(persistence_forecasts(scored_forecasts())),
        score_rows(scored_forecasts().assign(actual=lambda rows: 1.01 * rows["persistence"])),
    ],
    ids=["one ticker", "one forecast for all", "one outcome for all"],
)
def test_without_a_cross_section_there_is_no_coefficient(rows: pd.DataFrame) -> None:
    skill = measure_skill(rows)
    assert skill.ic_sessions == 0
    assert np.isnan([getattr(skill, name) for name in WITHIN + RANKED]).all()
    assert session_ics(rows).isna().all(axis=None)


def test_sessions_without_a_coefficient_are_left_out_of_the_mean() -> None:
    rows = scored_forecasts(sessions=10)
    first = rows["session"].min()
    alone = rows[(rows["session"] != first) | (rows["ticker"] == "T0")]
    skill, rest = measure_skill(alone), measure_skill(rows[rows["session"] != first])
    assert (skill.ic_sessions, skill.session_ic) == (9, pytest.approx(rest.session_ic))


def test_coefficients_that_never_vary_have_no_ratio() -> None:
    rows = scored_forecasts(sessions=10)
    perfect = measure_skill(score_rows(rows.assign(predicted=rows["actual"])))
    assert (perfect.session_ic, perfect.session_rank_ic) == (pytest.approx(1), pytest.approx(1))
    assert np.isnan([perfect.icir, perfect.session_ic_se]).all()


@law
@given(seeds)
def test_errors_of_means_are_those_of_statsmodels(seed: int) -> None:
    rows = scored_forecasts(seed)
    bounds = {"lower": 0.99 * rows["predicted"], "upper": 1.01 * rows["predicted"]}
    rows = score_rows(rows.assign(**bounds))
    skill = measure_skill(rows)
    groups = rows["session"].factorize()[0]
    own = (rows["absolute_error"] - rows["persistence_absolute_error"]) / rows["persistence"]
    for values, mean, error in (
        (own, skill.error_difference, skill.error_difference_se),
        (rows["direction_hit"], summarise(rows).direction_accuracy, skill.direction_accuracy_se),
        (rows["covered"], summarise(rows).coverage, skill.coverage_se),
    ):
        fit = sm.OLS(values.to_numpy(), np.ones(len(rows))).fit(
            cov_type="cluster", cov_kwds={"groups": groups}
        )
        assert (mean, error) == (pytest.approx(fit.params[0]), pytest.approx(fit.bse[0]))


@pytest.mark.parametrize("skill", [0.0, 0.4])
def test_errors_of_ratios_and_correlations_agree_with_leaving_sessions_out(skill: float) -> None:
    rows = scored_forecasts(sessions=400, skill=skill)
    session, moves = rows["session"].to_numpy(), relative_returns(rows).to_numpy().T
    errors = rows[["absolute_error", "persistence_absolute_error"]].to_numpy().T
    loss, persistence_loss = errors / rows["persistence"].to_numpy()
    kept = [session != left_out for left_out in np.unique(session)]
    ratios = [loss[keep].sum() / persistence_loss[keep].sum() for keep in kept]
    ics = [np.corrcoef(moves[:, keep])[0, 1] for keep in kept]
    measured = measure_skill(rows)
    assert measured.relative_mae_se == pytest.approx(jackknife(ratios), rel=0.03)
    assert measured.ic_se == pytest.approx(jackknife(ics), rel=0.03)


@law
@given(seeds, st.floats(0.01, 1000))
def test_the_unit_of_prices_changes_nothing(seed: int, factor: float) -> None:
    rows = scored_forecasts(seed)
    dearer = score_rows(rows.assign(**{name: factor * rows[name] for name in PRICES}))
    np.testing.assert_allclose(
        astuple(measure_skill(dearer)), astuple(measure_skill(rows)), rtol=1e-6
    )


@law
@given(seeds, st.integers(2, 10))
def test_identical_tickers_are_as_uncertain_as_one(seed: int, copies: int) -> None:
    rows = scored_forecasts(seed, tickers=1)
    many = pd.concat([rows.assign(ticker=f"T{number}") for number in range(copies)])
    one, all_of_them = measure_skill(rows), measure_skill(many)
    for name in ("error_difference_se", "relative_mae_se", "direction_accuracy_se", "ic_se"):
        assert getattr(all_of_them, name) == pytest.approx(getattr(one, name)), name


@law
@given(seeds, st.integers(1, 3))
def test_each_ticker_has_the_errors_that_it_has_alone(seed: int, horizons: int) -> None:
    rows = scored_forecasts(seed, horizons=horizons, tickers=3)
    rows = rows.assign(upper=1.01 * rows["predicted"], lower=0.99 * rows["predicted"])
    rows.loc[rows["ticker"] == "T1", "predicted"] = rows["persistence"]
    rows = score_rows(rows.assign(lower=rows["lower"].where(rows["ticker"] != "T2")))
    errors = standard_errors(rows.sample(frac=1, random_state=seed), rows["ticker"])
    assert list(errors.index) == ["T0", "T1", "T2"]
    for ticker, found in errors.iterrows():
        alone = asdict(measure_skill(rows[rows["ticker"] == ticker]))
        expected = {name: alone[name] for name in errors.columns}
        assert found.to_dict() == pytest.approx(expected, nan_ok=True)
    assert np.isnan([errors["ic_se"]["T1"], errors["coverage_se"]["T2"]]).all()


def test_persistence_has_no_error_difference() -> None:
    same = measure_skill(score_rows(persistence_forecasts(scored_forecasts())))
    assert (same.error_difference, same.error_difference_se, same.relative_mae_se) == (0, 0, 0)
    assert np.isnan([same.direction_accuracy_se, same.ic_se, same.coverage_se]).all()


def test_prices_that_never_move_leave_the_error_of_relative_mae_undefined() -> None:
    rows = scored_forecasts()
    still = score_rows(rows.assign(actual=rows["persistence"]))
    assert np.isnan(measure_skill(still).relative_mae_se)
