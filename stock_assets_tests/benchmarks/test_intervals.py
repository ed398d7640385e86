"""The measurement of intervals, on a small market whose volatility changes every quarter."""

from __future__ import annotations

import json
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import intervals
from benchmarks.intervals import (
    BLOCK,
    FIRST,
    REFRESHED,
    STARTED,
    FloatArray,
    constant_bounds,
    measure,
    measurements,
    read,
    scaled_bounds,
    started_bounds,
)
from stock_assets.evaluation.intervals import conformal_quantiles
from stock_assets.features.volatility import volatility
from stock_assets.models.intervals import NEWEST_SESSIONS

SESSIONS, TICKERS, PERIOD = FIRST + 5 * 63, 12, 63


@cache
def prices() -> pd.DataFrame:
    """Return bars of calm and wild quarters in turn, with 20 steps a session."""
    draw = np.random.default_rng(1)
    level = np.where(np.arange(SESSIONS) // PERIOD % 2, 0.02, 0.005)[:, np.newaxis, np.newaxis]
    steps = draw.normal(size=(SESSIONS, 20, TICKERS)) * level / 20**0.5
    log = steps.reshape(-1, TICKERS).cumsum(axis=0)
    within = 100 * np.exp(log).reshape(SESSIONS, 20, TICKERS)
    index = pd.MultiIndex.from_product(
        [pd.bdate_range("2013-02-08", periods=SESSIONS), [f"T{n:02}" for n in range(TICKERS)]],
        names=["date", "ticker"],
    )
    parts = {"high": within.max(axis=1), "low": within.min(axis=1), "close": within[:, -1]}
    frame = pd.DataFrame({name: part.ravel() for name, part in parts.items()}, index)
    return frame.reset_index()


@cache
def market() -> tuple[FloatArray, FloatArray]:
    """Return closes and ranges."""
    bars = prices()
    close, high, low = (
        bars.pivot_table(index="date", columns="ticker", values=name).to_numpy()
        for name in ("close", "high", "low")
    )
    return close, np.log(high / low)


def errors_of(close: FloatArray) -> FloatArray:
    return np.diff(np.log(close), axis=0)


@pytest.mark.parametrize("name", ["prices.csv", "prices.csv.gz"])
def test_a_file_gives_the_closes_and_ranges_of_complete_tickers(name: str, tmp_path: Path) -> None:
    bars = prices()
    gone = bars[(bars["ticker"] == "T03") & (bars["date"] > bars["date"].median())].index
    broken = bars[bars["ticker"] == "T05"].index[7]
    changed = bars.drop(index=gone).assign(low=bars["low"].where(bars.index != broken, 0.0))
    changed.sample(frac=1, random_state=1).to_csv(tmp_path / name, index=False)
    close, ranges = read(str(tmp_path / name))
    kept = [number for number in range(TICKERS) if number != 3]
    expected = [part[:, kept].copy() for part in market()]
    for part in expected:
        part[7, kept.index(5)] = np.nan
    np.testing.assert_allclose(close, expected[0])
    np.testing.assert_allclose(ranges, expected[1], atol=1e-12)


def test_intervals_that_follow_volatility_beat_both_constant_widths() -> None:
    found = measurements(*market())
    assert (found["tickers"], found["sessions"]) == (TICKERS, SESSIONS - 1 - FIRST)
    scales = ("deviation", "range", "combined")
    assert list(found)[2:] == [
        *("constant_every_63", "constant_every_1"),
        *(f"{scale}{form}" for scale in scales for form in ("", "_asymmetric")),
        "start",
    ]
    for scale in ("range", "combined"):
        for other in ("constant_every_63", "constant_every_1"):
            compared = found[scale][f"against_{other}"]
            assert compared["relative"] < -0.1
            assert compared["t"] < -2
            assert compared["p"] < 0.05
            ratio = found[scale]["interval_score"] / found[other]["interval_score"] - 1
            assert compared["relative"] == pytest.approx(ratio, abs=1e-3)
        assert found[scale]["coverage"] == pytest.approx(0.9, abs=0.03)
    assert set(found["constant_every_1"]) == set(found["range"]) - {"against_constant_every_1"}


def test_asymmetric_intervals_gain_nothing_on_symmetric_returns() -> None:
    found = measurements(*market())
    for scale in ("deviation", "range", "combined"):
        own = found[f"{scale}_asymmetric"]
        assert own["coverage"] == pytest.approx(found[scale]["coverage"], abs=0.01)
        assert abs(own[f"against_{scale}"]["relative"]) < 0.01


def test_measures_are_percentages_and_quantiles_of_blocks() -> None:
    covered = np.arange(10 * BLOCK) // BLOCK % 2 == 0  # months inside and outside in turn
    errors, widths = (
        np.where(covered, 0.01, 0.03)[:, np.newaxis],
        np.full((10 * BLOCK + 1, 1), 0.02),
    )
    errors = np.vstack([errors, [[np.nan]]])
    found = measure(errors, np.array([-0.5 * widths, widths]), widths)
    assert found == {
        "interval_score": 2.0,
        "width": 3.0,
        "coverage": 0.5,
        "coverage_of_blocks": [0.0, 1.0],
    }


def test_bounds_depend_on_known_residuals_alone() -> None:
    close, ranges = market()
    later = FIRST + 70
    changed, known = close.copy(), later - FIRST + 1
    changed[later + 1 :] *= np.random.default_rng(2).uniform(0.5, 2, changed[later + 1 :].shape)
    for every in (1, REFRESHED):
        before, after = (constant_bounds(errors_of(own), every) for own in (close, changed))
        np.testing.assert_array_equal(before[:, :known], after[:, :known])
        assert not np.array_equal(before, after)
    scaled = [
        scaled_bounds(errors_of(own), volatility("range", own, ranges)[:-1], "range")
        for own in (close, changed)
    ]
    started = [started_bounds(errors_of(own), own, ranges) for own in (close, changed)]
    for found in (scaled, started):
        np.testing.assert_allclose(*(bounds[:, :known] for bounds in found), rtol=1e-12)
        assert not np.array_equal(*found)


def test_new_models_start_with_the_residuals_of_42_sessions() -> None:
    close, ranges = market()
    errors = errors_of(close)
    bounds = started_bounds(errors, close, ranges)
    for start in (FIRST, FIRST + REFRESHED):
        known = errors[start - STARTED : start]
        units = [volatility(scale, close, ranges)[:-1] for scale in ("range", "combined")]
        units.append(np.broadcast_to(errors[:FIRST].std(axis=0), errors.shape))
        expected = [
            conformal_quantiles(known / unit[start - STARTED : start], [0.9])[0] * unit[start]
            for unit in units
        ]
        found = bounds[1, start - FIRST]
        assert min(np.abs(found / one - 1).max() for one in expected) < 1e-6


def test_constant_width_is_the_quantile_of_each_ticker_since_its_refresh() -> None:
    errors = errors_of(market()[0])
    lower, upper = constant_bounds(errors, REFRESHED)
    for session in (FIRST, FIRST + REFRESHED - 1, FIRST + REFRESHED):
        start = session - (session - FIRST) % REFRESHED
        known = errors[start - NEWEST_SESSIONS : start, 4]
        assert upper[session - FIRST, 4] == conformal_quantiles(known, [0.9])[0]
        assert lower[session - FIRST, 4] == -upper[session - FIRST, 4]


def test_the_command_prints_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prices().to_csv(tmp_path / "prices.csv", index=False)
    monkeypatch.setattr(sys, "argv", ["intervals", str(tmp_path / "prices.csv")])
    intervals.main()
    assert json.loads(capsys.readouterr().out)["tickers"] == TICKERS
