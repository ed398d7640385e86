"""Intervals of forecasts: they go on from the residuals that are known, and see nothing later."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stock_assets.evaluation.scoring import score_due
from stock_assets.features.volatility import AVERAGING, volatility
from stock_assets.market import calendar
from stock_assets.models import bundle as module
from stock_assets.models.bundle import Bundle
from stock_assets.models.intervals import NEWEST_SESSIONS, ScaledIntervals
from stock_assets_tests.features.examples import same_bits
from stock_assets_tests.models.bundles import (
    AS_OF,
    LAST,
    calibration_sessions,
    same_frame,
    sample_bars,
)
from stock_assets_tests.models.interval_examples import (
    DAYS,
    PRICES,
    SINCE,
    asymmetric,
    changed_after,
    each_scale,
    example,
    intervals_of,
    with_intervals,
)


def widths(model: Bundle, bars: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return the logarithm of upper over lower price by session and ticker."""
    frame = model.forecast(sample_bars() if bars is None else bars, DAYS)
    log = np.log(frame["upper_price"] / frame["lower_price"])
    return frame.assign(width=log).pivot_table("width", "as_of_session", "ticker")


@each_scale
def test_calibration_residuals_are_covered_by_their_share(scale: str) -> None:
    model = example(scale=scale)
    bars = sample_bars()
    no_own = replace(model.recipe, intervals=replace(intervals_of(model), own_residuals_from=LAST))
    scored = score_due(Bundle(no_own, model.network).forecast(bars, calibration_sessions()), bars)
    share = scored["covered"].mean()
    assert 0.9 <= share <= 0.9 + 2 / len(scored)


def test_asymmetric_bounds_are_quantiles_of_the_newest_known_signed_residuals() -> None:
    model, bars = asymmetric(example(scale="constant")), sample_bars()
    frame = model.forecast(bars, SINCE[1])
    scored = score_due(frame, bars)
    scale = pd.Series(model.recipe.target_scaler.scale[:, 0], model.recipe.tickers)
    error = np.log(scored["actual"] / scored["predicted"]) / scored["ticker"].map(scale)
    calibration = intervals_of(model).residuals
    first = calibration[np.isfinite(calibration)]
    for day in SINCE[1][::7]:
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


def test_the_columns_have_the_interval_of_the_highest_coverage() -> None:
    frame = example().forecast(sample_bars(), DAYS)
    last = pd.DataFrame([json.loads(text)[-1] for text in frame["intervals"]], index=frame.index)
    assert last["coverage"].unique().tolist() == [0.9]
    for name in ("lower", "upper"):
        assert frame[f"{name}_price"].equals(last[name].rename(f"{name}_price"))
    assert frame["coverage"].equals(last["coverage"])


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
    assert_widths_are_of_residuals_since(
        SINCE[3], example(scale="constant", horizon=3), calendar.sessions(SINCE[3][0], LAST)
    )


def test_model_of_an_earlier_version_has_own_residuals_from_its_as_of_session(
    tmp_path: Path,
) -> None:
    model = example(scale="constant", horizon=3)
    earlier = replace(intervals_of(model), own_residuals_from=None)
    Bundle(replace(model.recipe, intervals=earlier), model.network).save(tmp_path)
    stored = json.loads((tmp_path / "bundle.json").read_text())["intervals"]
    assert stored == {"scale": "constant", "coverages": [0.5, 0.8, 0.9]}
    loaded = Bundle.load(tmp_path)
    assert loaded.recipe.to_dict()["intervals"] == stored
    assert loaded.continued_intervals(sample_bars()) is loaded.recipe.intervals
    assert_widths_are_of_residuals_since(DAYS, loaded, DAYS)


def assert_widths_are_of_residuals_since(
    own: list[date], model: Bundle, sessions: list[date]
) -> None:
    """Check that widths are quantiles of calibration's residuals and those of `own` forecasts."""
    bars = sample_bars()
    scored = score_due(model.forecast(bars, own), bars)
    scale = pd.Series(model.recipe.target_scaler.scale[:, 0], model.recipe.tickers)
    error = np.log(scored["actual"] / scored["predicted"]) / scored["ticker"].map(scale)
    frame = model.forecast(bars, sessions)
    half = np.log(frame["upper_price"] / frame["predicted_price"]) / frame["ticker"].map(scale)
    calibration = intervals_of(model).residuals
    for day in sessions[::7]:
        for step in range(3):
            known = (scored["session"] <= pd.Timestamp(day)) & (scored["horizon"] == step + 1)
            first = np.abs(calibration[:, step][np.isfinite(calibration[:, step])])
            pool = np.sort(np.concatenate([first, error[known].abs().to_numpy()]))
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
    sessions = SINCE[horizon]
    whole = model.forecast(sample_bars(), sessions)
    for day in sessions[::12]:
        own = whole[whole["as_of_session"] == pd.Timestamp(day)]
        known = sample_bars()[sample_bars()["session"] <= pd.Timestamp(day)]
        assert same_frame(model.forecast(known.reset_index(drop=True), [day]), own)
    chosen = sessions[3::20]
    own = whole[whole["as_of_session"].isin(pd.to_datetime(chosen))]
    assert same_frame(model.forecast(sample_bars(), chosen), own)


@pytest.mark.parametrize("horizon", [1, 3])
def test_a_refit_begins_with_the_residuals_known_as_of_its_as_of_session(horizon: int) -> None:
    """With the network of the candidate it has the candidate's intervals."""
    model, bars = example(horizon=horizon), sample_bars()
    first, again = intervals_of(model), model.continued_intervals(bars)
    assert isinstance(again, ScaledIntervals)
    assert first.own_residuals_from == SINCE[horizon][0] < AS_OF == again.own_residuals_from
    since = SINCE[horizon].index(AS_OF)
    assert len(again.residuals) == len(first.residuals) + since
    assert same_bits(again.residuals[: len(first.residuals)], first.residuals)
    for step in range(horizon):  # the outcome is known of all but the newest
        some = np.isfinite(again.residuals[:, step]).any(axis=1)
        assert some.tolist() == [True] * (len(some) - step) + [False] * step
    refit = with_intervals(
        model, residuals=again.residuals, own_residuals_from=again.own_residuals_from
    )
    days = DAYS if horizon == 1 else [AS_OF]
    assert same_frame(refit.forecast(bars, days), model.forecast(bars, days))


@pytest.mark.parametrize("horizon", [1, 3])
def test_the_residuals_of_a_refit_read_nothing_after_its_as_of_session(horizon: int) -> None:
    model = example(horizon=horizon)
    found = [
        model.continued_intervals(bars)
        for bars in (
            sample_bars(),
            changed_after(AS_OF),
            changed_after(calendar.previous_session(AS_OF)),
        )
    ]
    first, later, earlier = (own.residuals for own in found if isinstance(own, ScaledIntervals))
    assert same_bits(later, first)
    assert not same_bits(earlier, first)


def test_only_the_newest_residuals_are_kept_for_a_refit() -> None:
    model = with_intervals(example(), newest_sessions=20)
    again = model.continued_intervals(sample_bars())
    assert isinstance(again, ScaledIntervals)
    whole = example().continued_intervals(sample_bars())
    assert isinstance(whole, ScaledIntervals)
    assert same_bits(again.residuals, whole.residuals[-20:])


@pytest.mark.parametrize(
    "change",
    [
        {"newest_sessions": 20},
        {"averaging": replace(AVERAGING, deviation_weight=0.5)},
        {"averaging": replace(AVERAGING, range_weight=0.5)},
        {"averaging": replace(AVERAGING, smallest_share=2.0)},
        {"averaging": replace(AVERAGING, smallest=1.0)},
    ],
)
def test_constants_of_intervals_are_those_of_the_bundle(
    change: dict[str, Any], tmp_path: Path
) -> None:
    model = with_intervals(example(), **change)
    model.save(tmp_path)
    frame = Bundle.load(tmp_path).forecast(sample_bars(), DAYS)
    assert same_frame(frame, model.forecast(sample_bars(), DAYS))
    assert not same_frame(frame, example().forecast(sample_bars(), DAYS))


def test_a_session_long_after_calibration_needs_its_newest_sessions_only() -> None:
    model = with_intervals(example(horizon=3), newest_sessions=20)
    whole = model.forecast(sample_bars(), DAYS)
    for day in DAYS[50::6]:
        own = whole[whole["as_of_session"] == pd.Timestamp(day)]
        assert same_frame(model.forecast(sample_bars(), [day]), own)


def leaks(made: Callable[[pd.DataFrame], pd.DataFrame], day: date) -> bool:
    """Whether forecasts as of a session depend on later bars."""
    first, second = (
        frame[frame["as_of_session"] == pd.Timestamp(day)]
        for frame in (made(sample_bars()), made(changed_after(day)))
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


@pytest.mark.parametrize("plant", [leak_of_scale, leak_of_calibration])
def test_a_planted_leak_is_detected(
    plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, sessions = example(), SINCE[1][:60]
    assert sessions[8] < AS_OF < sessions[40]

    def made(bars: pd.DataFrame) -> pd.DataFrame:
        return model.forecast(bars, sessions)

    days = sessions[8], sessions[40]  # of the test segment, and in service
    assert not any(leaks(made, day) for day in days)
    plant(monkeypatch)
    assert all(leaks(made, day) for day in days)


def test_intervals_without_residuals_have_no_bounds() -> None:
    model = example()
    tickers = len(model.recipe.tickers)
    recipe = replace(
        model.recipe,
        intervals=ScaledIntervals.uncalibrated([0.5, 0.9], 1, tickers),
        as_of=LAST,
    )
    frame = Bundle(recipe, model.network).forecast(sample_bars(), DAYS[:2])
    assert frame[["lower_price", "upper_price"]].isna().all(axis=None)
    assert frame["predicted_price"].notna().all()
