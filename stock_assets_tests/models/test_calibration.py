"""Calibration: from its sessions alone."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest

from stock_assets.config import Scale
from stock_assets.core.digests import DamagedFileError
from stock_assets.core.errors import StockAssetsError
from stock_assets.features.panel import Panel
from stock_assets.features.volatility import AVERAGING
from stock_assets.market import calendar
from stock_assets.models.bundle import Bundle
from stock_assets.models.calibration import calibrate, prefers_asymmetric, rivals
from stock_assets_tests.features.examples import same_bits
from stock_assets_tests.models import bundles
from stock_assets_tests.models.bundles import (
    AS_OF,
    bundle,
    calibrated,
    calibration_sessions,
    same_frame,
    sample_bars,
)
from stock_assets_tests.models.interval_examples import (
    DAYS,
    PRICES,
    asymmetric,
    changed_after,
    each_scale,
    example,
    intervals_of,
)


@each_scale
@pytest.mark.parametrize(("target", "horizon"), [("log_return", 3), ("close", 1)])
def test_calibrated_bundle_survives_save_and_load(
    scale: str, target: str, horizon: int, tmp_path: Path
) -> None:
    model = calibrated(bundle(target=target, horizon=horizon), scale, shrink=True)
    recorded = model.save(tmp_path)
    back = Bundle.load(tmp_path, recorded)
    assert back.digest() == model.digest()
    assert same_bits(intervals_of(back).residuals, intervals_of(model).residuals)
    assert back.recipe.shrinkage == model.recipe.shrinkage
    assert same_frame(back.forecast(sample_bars(), DAYS), model.forecast(sample_bars(), DAYS))


def test_digest_covers_residuals_shrinkage_scale_and_coverages(tmp_path: Path) -> None:
    model = example()
    own, recorded = intervals_of(model), model.save(tmp_path)
    residuals = own.residuals.copy()
    residuals[0, 0, 0] += 1e-6
    changes: list[dict[str, Any]] = [
        {"residuals": residuals},
        {"scale": "range"},
        {"coverages": (0.5, 0.9)},
        {"asymmetric": True},
        {"newest_sessions": 125},
        {"own_residuals_from": AS_OF},
        *(
            {"averaging": replace(AVERAGING, **{name: 0.2})}
            for name in ("deviation_weight", "range_weight", "smallest_share", "smallest")
        ),
    ]
    others = [replace(model.recipe, intervals=replace(own, **change)) for change in changes]
    others.append(replace(model.recipe, shrinkage=(0.5,)))
    for recipe in others:
        changed = Bundle(recipe, model.network)
        assert changed.digest() != model.digest()
        changed.save(tmp_path)
        with pytest.raises(DamagedFileError):
            Bundle.load(tmp_path, recorded)


@pytest.mark.parametrize("shrink", [True, False])
@pytest.mark.parametrize("scale", ["auto", *get_args(Scale)])
def test_calibration_reads_nothing_after_its_last_label(scale: str, shrink: bool) -> None:
    for horizon in (1, 3):
        model = bundle(horizon=horizon)
        last = calendar.next_session(calibration_sessions(horizon)[-1], horizon)
        bars = changed_after(last)
        before, after = (calibrated(model, scale, own, shrink=shrink) for own in (None, bars))
        assert before.digest() == after.digest()
        bars.loc[bars["session"] == pd.Timestamp(last), PRICES] *= 1.5
        assert calibrated(model, scale, bars, shrink=shrink).digest() != before.digest()


@pytest.mark.parametrize("target", ["log_return", "close"])
def test_asymmetric_bundle_survives_save_and_load(target: str, tmp_path: Path) -> None:
    model = asymmetric(example(target))
    back = Bundle.load(tmp_path, model.save(tmp_path))
    assert intervals_of(back).asymmetric
    assert same_frame(back.forecast(sample_bars(), DAYS), model.forecast(sample_bars(), DAYS))


def test_bundle_without_the_form_is_symmetric(tmp_path: Path) -> None:
    model = example()
    model.save(tmp_path)
    stored = json.loads((tmp_path / "bundle.json").read_text())["intervals"]
    assert "asymmetric" not in stored
    assert not intervals_of(Bundle.load(tmp_path)).asymmetric
    frame = model.forecast(sample_bars(), DAYS)
    logs = np.log(frame[["lower_price", "predicted_price", "upper_price"]])
    below, above = logs.diff(axis=1).iloc[:, 1:].to_numpy().T
    np.testing.assert_allclose(below, above, rtol=1e-9)


COVERAGES = (0.5, 0.8, 0.9)


def planted(skewed: bool, seed: int, horizon: int) -> bool:
    """Whether asymmetric intervals are preferred for errors of 20 tickers with a common part."""
    draw, sessions = np.random.default_rng(seed), 42
    normal = draw.normal(size=(sessions, horizon, 20)) + 0.3 * draw.normal(size=(sessions, 1, 1))
    errors = np.exp(0.8 * normal) - np.exp(0.8 * normal).mean() if skewed else normal
    units = draw.uniform(0.5, 2, (sessions, 1, 20))
    return prefers_asymmetric(errors * units, units, COVERAGES)


@pytest.mark.parametrize("horizon", [1, 3])
def test_symmetric_intervals_are_kept_for_symmetric_errors(horizon: int) -> None:
    assert sum(planted(False, seed, horizon) for seed in range(50)) <= 2


@pytest.mark.parametrize("horizon", [1, 3])
def test_asymmetric_intervals_are_preferred_for_skewed_errors(horizon: int) -> None:
    assert sum(planted(True, seed, horizon) for seed in range(50)) >= 45


def test_few_errors_keep_symmetric_intervals() -> None:
    errors = np.random.default_rng(1).exponential(size=(36, 1, 1)) - 1
    assert not prefers_asymmetric(errors, np.ones_like(errors), [0.9])
    many = errors + np.zeros((1, 1, 9))
    assert not prefers_asymmetric(many, np.ones_like(many), [0.999])


def planted_bars(skewed: bool) -> pd.DataFrame:
    """Return bars whose log returns rise seldom and far, or as often and far as they fall."""
    draw, parts = np.random.default_rng(1), []
    for _, own in sample_bars().groupby("ticker"):
        moves = draw.normal(size=len(own))
        if skewed:
            moves = 0.05 * moves + np.where(draw.random(len(own)) < 0.35, 1.3, -0.7)
        close = 100 * np.exp(0.01 * moves.cumsum())
        opened = np.append(100, close[:-1])
        low, high = np.minimum(opened, close), np.maximum(opened, close)
        parts.append(own.assign(open=opened, high=high, low=low, close=close))
    return pd.concat(parts).sort_index()


@pytest.mark.parametrize("skewed", [True, False])
def test_skewed_prices_give_asymmetric_intervals(skewed: bool) -> None:
    bars = planted_bars(skewed)
    model = calibrated(bundle(bars=bars), "constant", bars, shrink=True)
    assert intervals_of(model).asymmetric is skewed
    found = rivals(model, bars, calibration_sessions(), intervals_of(model).parameters())
    assert intervals_of(found["no_change"]).asymmetric is skewed


@pytest.mark.parametrize("target", ["log_return", "close"])
def test_shrinkage_multiplies_the_moves(target: str) -> None:
    model = bundle(target=target)
    plain = model.forecast(sample_bars(), DAYS)
    for factor in (0.0, 0.25, 1.0):
        recipe = replace(model.recipe, shrinkage=(factor,))
        frame = Bundle(recipe, model.network).forecast(sample_bars(), DAYS)
        if factor == 1.0:
            assert same_frame(frame, plain)
        move, whole = (
            np.exp(own["predicted_return"]) - 1 if target == "close" else own["predicted_return"]
            for own in (frame, plain)
        )
        np.testing.assert_allclose(move, factor * whole, atol=1e-12)


def test_noise_is_shrunk() -> None:
    (factor,) = calibrated(bundle(), shrink=True).recipe.shrinkage
    assert factor < 0.2
    assert calibrated(bundle()).recipe.shrinkage == (1.0,)


def moving_bars(changes: bool, noise: float) -> pd.DataFrame:
    """Return bars with moves of equal size up or down, and a random part in their ranges.

    If the volatility `changes`, that of some tickers grows after training, and of others falls.
    """
    draw, parts = np.random.default_rng(1), []
    for number, (_, own) in enumerate(sample_bars().groupby("ticker")):
        sizes = np.full(len(own), 0.01)
        if changes:
            sizes[own["session"] > "2012-06-01"] *= 5.0 if number % 2 else 0.2
        moves = draw.choice([-1, 1], len(own)) * sizes
        close = 100 * np.exp(moves.cumsum())
        opened = np.append(100, close[:-1])
        wide = np.exp(noise * draw.exponential(size=(2, len(own))))
        low, high = np.minimum(opened, close) / wide[0], np.maximum(opened, close) * wide[1]
        parts.append(own.assign(open=opened, high=high, low=low, close=close))
    return pd.concat(parts).sort_index()


@pytest.mark.parametrize(
    ("bars", "expected"),
    [
        (moving_bars(changes=False, noise=0.02), {"constant", "deviation"}),
        (moving_bars(changes=True, noise=0.0), {"deviation", "range", "combined"}),
    ],
    ids=["equal volatility, noisy ranges", "changed volatility"],
)
def test_auto_chooses_the_scale_of_the_volatility(bars: pd.DataFrame, expected: set[str]) -> None:
    chosen = intervals_of(calibrated(bundle(bars=bars), "auto", bars))
    assert chosen.scale in expected
    same = intervals_of(calibrated(bundle(bars=bars), chosen.scale, bars))
    assert same_bits(chosen.residuals, same.residuals)


def test_too_few_residuals_are_an_error() -> None:
    with pytest.raises(StockAssetsError, match=r"dataset\.validation_sessions"):
        calibrated(bundle(), coverages=(0.999,))


def test_rivals_differ_in_one_thing_each() -> None:
    model = Bundle(replace(example().recipe, shrinkage=(0.5,)), example().network)
    found = rivals(model, sample_bars(), calibration_sessions(), intervals_of(model).parameters())
    constant, idle = found["constant_width"], found["no_change"]
    assert intervals_of(constant).scale == "constant"
    assert intervals_of(idle).scale == intervals_of(model).scale
    assert (constant.recipe.shrinkage, idle.recipe.shrinkage) == ((0.5,), (0.0,))
    same, other = (own.forecast(sample_bars(), DAYS)["predicted_return"] for own in found.values())
    assert same.equals(model.forecast(sample_bars(), DAYS)["predicted_return"])
    assert (other == 0).all()


def test_parameters_give_the_same_intervals_again() -> None:
    first = calibrated(bundle(), "auto", coverages=(0.6, 0.85))
    parameters, shrinkage = intervals_of(first).parameters(), first.recipe.shrinkage
    again = calibrate(bundle(), sample_bars(), calibration_sessions(), parameters, shrinkage)
    assert parameters.coverages == [0.6, 0.85]
    assert again.digest() == first.digest()


def shrinkage_of(bars: pd.DataFrame) -> float:
    """Return the factor of a model whose forecasts have some of the outcomes' information."""
    (factor,) = calibrated(bundle(bars=sample_bars()), bars=bars, shrink=True).recipe.shrinkage
    return factor


def test_shrinkage_with_sessions_of_the_test_segment_is_detected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    last = calendar.next_session(calibration_sessions()[-1])
    monkeypatch.setattr(Bundle, "moves", informed_moves)
    assert shrinkage_of(changed_after(last)) == shrinkage_of(sample_bars()) > 0
    honest, test = calibrate, calendar.sessions(last, AS_OF)[:-1]

    def fitted_on_test_too(
        model: Bundle, bars: pd.DataFrame, sessions: list[date], *rest: Any
    ) -> Bundle:
        return honest(model, bars, [*sessions, *test], *rest)

    monkeypatch.setattr(bundles, "calibrate", fitted_on_test_too)
    assert shrinkage_of(changed_after(last)) != shrinkage_of(sample_bars())


def informed_moves(
    self: Bundle, panel: Panel, sessions: list[date], honest: Any = Bundle.moves
) -> tuple[np.ndarray, np.ndarray]:
    """Return the moves of a model with skill: noise plus a third of the actual moves."""
    moves, actual = honest(self, panel, sessions)
    return moves + actual / 3, actual
