"""Calibration: from its sessions alone, and intervals that go on from what is known."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest

from stock_assets.config import Scale
from stock_assets.core.digests import DamagedFileError
from stock_assets.core.errors import StockAssetsError
from stock_assets.evaluation.scoring import score_due
from stock_assets.features.panel import Panel
from stock_assets.features.volatility import volatility
from stock_assets.market import calendar
from stock_assets.models import bundle as module
from stock_assets.models.bundle import Bundle
from stock_assets.models.calibration import prefers_asymmetric, rivals
from stock_assets.models.intervals import NEWEST_SESSIONS, ScaledIntervals
from stock_assets_tests.features.examples import same_bits
from stock_assets_tests.models.bundles import (
    AS_OF,
    LAST,
    bundle,
    calibrated,
    calibration_sessions,
    same_frame,
    sample_bars,
)

DAYS = calendar.sessions(AS_OF, LAST)
PRICES = ["open", "high", "low", "close"]
each_scale = pytest.mark.parametrize("scale", get_args(Scale))


@cache
def example(target: str = "log_return", horizon: int = 1, scale: str = "combined") -> Bundle:
    return calibrated(bundle(target=target, horizon=horizon), scale)


def intervals_of(model: Bundle) -> ScaledIntervals:
    assert isinstance(model.recipe.intervals, ScaledIntervals)
    return model.recipe.intervals


def widths(model: Bundle, bars: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return the logarithm of upper over lower price by session and ticker."""
    frame = model.forecast(sample_bars() if bars is None else bars, DAYS)
    log = np.log(frame["upper_price"] / frame["lower_price"])
    return frame.assign(width=log).pivot_table("width", "as_of_session", "ticker")


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
    others = [
        replace(model.recipe, intervals=replace(own, residuals=residuals)),
        replace(model.recipe, intervals=replace(own, scale="range")),
        replace(model.recipe, intervals=replace(own, coverages=(0.5, 0.9))),
        replace(model.recipe, intervals=replace(own, asymmetric=True)),
        replace(model.recipe, shrinkage=(0.5,)),
    ]
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
        bars = sample_bars().copy()
        later = bars["session"] > pd.Timestamp(last)
        bars.loc[later, PRICES] *= np.random.default_rng(1).uniform(0.5, 2, (later.sum(), 1))
        before, after = (calibrated(model, scale, own, shrink=shrink) for own in (None, bars))
        assert before.digest() == after.digest()
        bars.loc[bars["session"] == pd.Timestamp(last), PRICES] *= 1.5
        assert calibrated(model, scale, bars, shrink=shrink).digest() != before.digest()


@each_scale
def test_calibration_residuals_are_covered_by_their_share(scale: str) -> None:
    model = example(scale=scale)
    bars = sample_bars()
    no_own = replace(model.recipe, as_of=LAST)
    scored = score_due(Bundle(no_own, model.network).forecast(bars, calibration_sessions()), bars)
    share = scored["covered"].mean()
    assert 0.9 <= share <= 0.9 + 2 / len(scored)


def asymmetric(model: Bundle) -> Bundle:
    recipe = replace(model.recipe, intervals=replace(intervals_of(model), asymmetric=True))
    return Bundle(recipe, model.network)


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
    assert stored == {"scale": "combined", "coverages": [0.5, 0.8, 0.9]}
    assert not intervals_of(Bundle.load(tmp_path)).asymmetric
    frame = model.forecast(sample_bars(), DAYS)
    logs = np.log(frame[["lower_price", "predicted_price", "upper_price"]])
    below, above = logs.diff(axis=1).iloc[:, 1:].to_numpy().T
    np.testing.assert_allclose(below, above, rtol=1e-9)


def test_asymmetric_bounds_are_quantiles_of_the_newest_known_signed_residuals() -> None:
    model, bars = asymmetric(example(scale="constant")), sample_bars()
    frame = model.forecast(bars, DAYS)
    scored = score_due(frame, bars)
    scale = pd.Series(model.recipe.target_scaler.scale[:, 0], model.recipe.tickers)
    error = np.log(scored["actual"] / scored["predicted"]) / scored["ticker"].map(scale)
    calibration = intervals_of(model).residuals
    first = calibration[np.isfinite(calibration)]
    for day in DAYS[::7]:
        known = error[scored["session"] <= pd.Timestamp(day)]
        pool = np.sort(np.concatenate([first, known]))
        rank = int(np.ceil(round((len(pool) + 1) * 0.95, 9)))
        here = frame[frame["as_of_session"] == pd.Timestamp(day)]
        unit = here["ticker"].map(scale)
        for bound, expected in (("lower", pool[-rank]), ("upper", pool[rank - 1])):
            found = np.log(here[f"{bound}_price"] / here["predicted_price"]) / unit
            np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("form", [example, lambda: asymmetric(example())])
def test_intervals_of_each_form_include_lower_coverages_and_the_forecast(
    form: Callable[[], Bundle],
) -> None:
    frame = form().forecast(sample_bars(), DAYS)
    for text, predicted in zip(frame["intervals"], frame["predicted_price"], strict=True):
        levels = json.loads(text)
        lower, upper = ([level[side] for level in levels] for side in ("lower", "upper"))
        ascending = [*lower[::-1], predicted, *upper]
        assert ascending == sorted(ascending)


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


def test_levels_do_not_cross_and_the_last_is_shown() -> None:
    wide, narrow = example(), calibrated(bundle(), coverages=(0.5,))
    outer, inner = (model.forecast(sample_bars(), DAYS) for model in (wide, narrow))
    assert outer["coverage"].unique().tolist() == [0.9]
    assert inner["coverage"].unique().tolist() == [0.5]
    assert (outer["lower_price"] < inner["lower_price"]).all()
    assert (inner["upper_price"] < outer["upper_price"]).all()


@pytest.mark.parametrize("scale", ["deviation", "range", "combined"])
@pytest.mark.parametrize("target", ["log_return", "close"])
def test_intervals_widen_after_wild_sessions(scale: str, target: str) -> None:
    bars = sample_bars().copy()
    late = bars["session"] > pd.Timestamp(DAYS[40])
    wild = bars.copy()
    middle = (bars["high"] * bars["low"]) ** 0.5
    flips = bars["session"].rank(method="dense") % 2 * 0.04
    for name in PRICES:
        wild.loc[late, name] = (middle * (bars[name] / middle) ** 4 * np.exp(flips))[late]
    model = example(target=target, scale=scale)
    calm, wide = widths(model, bars), widths(model, wild)
    assert calm.iloc[:41].equals(wide.iloc[:41])
    assert (wide.iloc[-1] > 1.5 * calm.iloc[-1]).all()


def test_constant_scale_has_widths_of_the_target_scaler() -> None:
    model = example(scale="constant")
    first = widths(model).iloc[0]
    unit = pd.Series(model.recipe.target_scaler.scale[:, 0], model.recipe.tickers)
    np.testing.assert_allclose((first / unit[first.index]).std(), 0, atol=1e-9)


def test_widths_are_quantiles_of_the_newest_known_residuals() -> None:
    """Recomputed from issued forecasts and their outcomes."""
    model, bars = example(scale="constant", horizon=3), sample_bars()
    scored = score_due(model.forecast(bars, DAYS), bars)
    scale = pd.Series(model.recipe.target_scaler.scale[:, 0], model.recipe.tickers)
    error = np.log(scored["actual"] / scored["predicted"]) / scored["ticker"].map(scale)
    frame = model.forecast(bars, DAYS)
    half = np.log(frame["upper_price"] / frame["predicted_price"]) / frame["ticker"].map(scale)
    calibration = intervals_of(model).residuals
    for day in DAYS[::7]:
        for step in range(3):
            known = (scored["session"] <= pd.Timestamp(day)) & (scored["horizon"] == step + 1)
            own = error[known].abs().to_numpy()
            first = np.abs(calibration[:, step][np.isfinite(calibration[:, step])])
            pool = np.sort(np.concatenate([first, own]))
            expected = pool[int(np.ceil(round((len(pool) + 1) * 0.9, 9))) - 1]
            here = (frame["as_of_session"] == pd.Timestamp(day)) & (frame["horizon"] == step + 1)
            np.testing.assert_allclose(half[here], expected, rtol=1e-5)


def test_older_residuals_make_room_for_the_newest() -> None:
    calibration = np.full((40, 1, 2), 9.0, np.float32)
    own = np.arange(200, dtype=np.float32)[:, None, None].repeat(2, axis=2)
    intervals = ScaledIntervals("constant", (0.5, 0.9), calibration)
    found = intervals.bounds(own, np.array([[0], [100], [150], [200]]))[0, 1, :, 0]
    assert found[0] == 9.0
    whole = np.concatenate([calibration[:, 0, 0], own[:, 0, 0]])
    for value, count in zip(found, [0, 100, 150, 200], strict=True):
        newest = whole[: 40 + count][-NEWEST_SESSIONS:]
        assert value == pytest.approx(np.median(newest), abs=1)


@pytest.mark.parametrize("target", ["log_return", "close"])
@pytest.mark.parametrize("horizon", [1, 3])
def test_forecasts_of_single_sessions_equal_those_of_a_range(target: str, horizon: int) -> None:
    model = example(target, horizon)
    whole = model.forecast(sample_bars(), DAYS)
    for day in DAYS[::12]:
        own = whole[whole["as_of_session"] == pd.Timestamp(day)]
        known = sample_bars()[sample_bars()["session"] <= pd.Timestamp(day)]
        assert same_frame(model.forecast(known.reset_index(drop=True), [day]), own)
    chosen = DAYS[3::20]
    own = whole[whole["as_of_session"].isin(pd.to_datetime(chosen))]
    assert same_frame(model.forecast(sample_bars(), chosen), own)


def test_a_session_long_after_calibration_needs_its_newest_sessions_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("stock_assets.models.intervals.NEWEST_SESSIONS", 20)
    monkeypatch.setattr("stock_assets.models.bundle.NEWEST_SESSIONS", 20)
    model = calibrated(bundle(horizon=3))
    whole = model.forecast(sample_bars(), DAYS)
    for day in DAYS[50::6]:
        own = whole[whole["as_of_session"] == pd.Timestamp(day)]
        assert same_frame(model.forecast(sample_bars(), [day]), own)


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


def test_auto_chooses_among_the_scales() -> None:
    chosen = intervals_of(calibrated(bundle(), "auto"))
    assert chosen.scale in get_args(Scale)
    assert same_bits(chosen.residuals, intervals_of(calibrated(bundle(), chosen.scale)).residuals)


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
    own = intervals_of(calibrated(bundle(), "auto"))
    again = intervals_of(calibrated(bundle(), own.parameters().scale))
    assert same_bits(own.residuals, again.residuals)


def leaks(made: Callable[[pd.DataFrame], pd.DataFrame], day: date) -> bool:
    """Whether forecasts as of a session depend on later bars."""
    bars = sample_bars().copy()
    later = bars["session"] > pd.Timestamp(day)
    bars.loc[later, PRICES] *= np.random.default_rng(1).uniform(0.5, 2, (later.sum(), 1))
    first, second = (
        frame[frame["as_of_session"] == pd.Timestamp(day)]
        for frame in (made(sample_bars()), made(bars))
    )
    return not same_frame(first, second)


def leak_of_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    def tomorrow(*arguments: Any) -> np.ndarray:
        return np.roll(volatility(*arguments), -1, axis=0)

    monkeypatch.setattr(module, "volatility", tomorrow)


def leak_of_calibration(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = ScaledIntervals.bounds
    monkeypatch.setattr(
        ScaledIntervals, "bounds", lambda self, own, known: honest(self, own, known + 1)
    )


def leak_of_shrinkage(monkeypatch: pytest.MonkeyPatch) -> None:
    """All sessions of the bars decide the factor."""

    def fitted_on_all(self: Bundle, panel: Panel, ends: np.ndarray) -> np.ndarray:
        days = [day.date() for day in panel.sessions[30:]]
        (moves,), (actual,) = (part[:, 0].T[None] for part in self.moves(panel, days))
        return self._ahead(panel, ends) * np.nanmean(actual / moves)

    monkeypatch.setattr(Bundle, "_shrunk", fitted_on_all)


@pytest.mark.parametrize("plant", [leak_of_scale, leak_of_calibration, leak_of_shrinkage])
def test_a_planted_leak_is_detected(
    plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = example()

    def made(bars: pd.DataFrame) -> pd.DataFrame:
        return model.forecast(bars, DAYS[:40])

    assert not leaks(made, DAYS[20])
    plant(monkeypatch)
    assert leaks(made, DAYS[20])
