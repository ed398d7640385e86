"""Bundle: serving equals training, and no forecast depends on later bars."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from functools import cache
from typing import get_args

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stock_assets.config import FeatureGroup, Features
from stock_assets.core.errors import StockAssetsError
from stock_assets.evaluation.drift import count_rows, stability
from stock_assets.evaluation.forecast_checks import invalid_forecasts
from stock_assets.features.dataset import FeatureSet
from stock_assets.features.splits import split_dataset
from stock_assets.features.windows import Windows
from stock_assets.market import calendar
from stock_assets.market.bars import tidy
from stock_assets.models.bundle import Bundle
from stock_assets.models.forecast_frame import FORECAST_COLUMNS
from stock_assets.models.intervals import FixedIntervals
from stock_assets.models.training import forecast_scaled
from stock_assets_tests.features.examples import same_bits
from stock_assets_tests.models.bundles import (
    ARCHITECTURES,
    AS_OF,
    DAYS,
    FIRST,
    LAST,
    as_of,
    bundle,
    dataset,
    each_architecture,
    example,
    same_frame,
    sample_bars,
    up_to,
)
from stock_assets_tests.properties import SLOW_EXAMPLES


@cache
def trained() -> FeatureSet:
    return dataset()[0]


def test_forecast_has_its_columns_and_the_next_session() -> None:
    frame = example("lstm").forecast(sample_bars(), DAYS)
    assert tuple(frame.columns) == FORECAST_COLUMNS
    assert len(frame) == 5 * len(DAYS)
    following = [calendar.next_session(day.date()) for day in frame["as_of_session"]]
    assert frame["target_session"].dt.date.tolist() == following
    assert frame["lower_price"].lt(frame["predicted_price"]).all()
    assert frame["predicted_price"].lt(frame["upper_price"]).all()
    np.testing.assert_allclose(
        frame["predicted_price"], frame["last_close"] * np.exp(frame["predicted_return"])
    )
    assert frame["predicted_return"].abs().median() > 1e-4


@each_architecture
@pytest.mark.parametrize(("count", "horizon"), [(1, 1), (7, 3), (33, 1)])
def test_forecasts_of_a_range_equal_those_of_single_sessions(
    architecture: str, count: int, horizon: int
) -> None:
    model = example(architecture, horizon)
    whole = model.forecast(sample_bars(), DAYS)
    for start in (0, 3, len(DAYS) - count):
        days = DAYS[start : start + count]
        assert same_frame(model.forecast(up_to(days[-1]), days), as_of(whole, *days))


@each_architecture
def test_forecast_equals_one_without_later_bars(architecture: str) -> None:
    model = example(architecture)
    whole = model.forecast(sample_bars(), DAYS)
    for day in DAYS[::8]:
        assert same_frame(model.forecast(up_to(day), [day]), as_of(whole, day))


@each_architecture
def test_forecasts_of_selected_sessions_equal_those_of_all(architecture: str) -> None:
    model = example(architecture)
    whole, chosen = model.forecast(sample_bars(), DAYS), DAYS[2::9]
    assert same_frame(model.forecast(sample_bars(), chosen), as_of(whole, *chosen))


def perturbed(day: date, seed: int, split: bool, newcomer: bool) -> pd.DataFrame:
    """Return the sample with all bars after `day` changed."""
    random = np.random.default_rng(seed)
    bars = sample_bars().copy()
    later = bars["session"] > pd.Timestamp(day)
    factor = np.exp(random.normal(0.0, 0.5, later.sum()))
    for name in ("open", "high", "low", "close", "volume"):
        bars.loc[later, name] *= factor
    if split:
        struck = bars.index[later][random.integers(0, later.sum(), 3)]
        bars.loc[struck, "stock_splits"] = 5.0
        bars.loc[bars.index[later][:2], "dividends"] = 0.01
    if newcomer:
        young = bars[later & (bars["ticker"] == "IBM")].assign(ticker="HAL")
        bars = pd.concat([bars, young])
    lost = bars.index[bars["session"] > pd.Timestamp(day)][random.integers(0, 20, 2)]
    return tidy(bars.reset_index(drop=True).drop(index=lost, errors="ignore"))


@settings(max_examples=SLOW_EXAMPLES, deadline=None)
@given(
    st.integers(0, len(DAYS) - 8),
    st.integers(0, 2**32 - 1),
    st.booleans(),
    st.booleans(),
    st.sampled_from(ARCHITECTURES),
    st.sampled_from([1, 3]),
)
def test_forecasts_do_not_depend_on_later_bars(
    known: int, seed: int, split: bool, newcomer: bool, architecture: str, horizon: int
) -> None:
    model, days = example(architecture, horizon), DAYS[: known + 1]
    before = model.forecast(sample_bars(), days)
    changed = perturbed(days[-1], seed, split, newcomer)
    assert same_frame(model.forecast(changed, days), before)
    assert same_frame(as_of(model.forecast(changed, DAYS), *days), before)


@settings(max_examples=SLOW_EXAMPLES, deadline=None)
@given(st.integers(0, len(DAYS) - 8), st.integers(0, 2**32 - 1), st.booleans())
def test_drift_does_not_depend_on_later_bars(known: int, seed: int, newcomer: bool) -> None:
    model, days = example("lstm"), DAYS[: known + 1]
    before = model.drift(model.panel(up_to(days[-1]), days[-1]), days)
    changed = model.panel(perturbed(days[-1], seed, split=True, newcomer=newcomer), LAST)
    assert same_frame(model.drift(changed, days), before)
    assert same_frame(as_of(model.drift(changed, DAYS), *days), before)


def test_drift_compares_recent_rows_of_all_tickers_with_training() -> None:
    model, day = example("lstm"), DAYS[30]
    window = model.recipe.reference.sessions
    panel = model.panel(sample_bars(), LAST)
    end = panel.sessions.get_loc(pd.Timestamp(day)) + 1
    rows = model.recipe.feature_scaler.transform(panel.values[end - window : end])
    reference = model.recipe.reference
    counts = count_rows(rows[panel.valid[end - window : end]], reference.edges)
    found = model.drift(panel, DAYS)
    newest = as_of(found, day)
    assert newest["feature"].tolist() == list(model.recipe.features)
    assert newest["psi"].tolist() == stability(counts, reference.counts).tolist()
    assert set(newest["rows"]) == {5 * window}
    assert newest["baseline_p95"].tolist() == reference.baseline_p95.tolist()


def test_training_sessions_have_no_drift() -> None:
    model = Bundle(example("lstm").recipe, example("lstm").network)
    split = split_dataset(len(trained().panel.sessions), dataset()[1])
    last = trained().panel.sessions[split.train.last].date()
    read = split.train.last + 1
    model.recipe = replace(model.recipe, reference=replace(model.recipe.reference, sessions=read))
    (found,) = set(model.drift(model.panel(sample_bars(), LAST), [last])["psi"])
    assert found == 0.0


def test_larger_returns_are_drift() -> None:
    model, bars = example("lstm"), sample_bars().copy()
    late = bars["session"] > pd.Timestamp(DAYS[20])
    calm = model.drift(model.panel(bars, LAST), [LAST]).set_index("feature")["psi"]
    for name in ("open", "high", "low", "close"):
        bars.loc[late, name] **= 3  # three times the log returns
    wild = model.drift(model.panel(bars, LAST), [LAST]).set_index("feature")["psi"]
    assert wild["Log_Return"] > 0.25 > calm["Log_Return"]


def test_bundle_does_not_depend_on_later_bars() -> None:
    changed = bundle(bars=perturbed(AS_OF, 1, split=True, newcomer=True))
    assert changed.digest() == example("lstm").digest()


@pytest.mark.parametrize("group", get_args(FeatureGroup))
def test_serving_panel_equals_training_panel(group: str) -> None:
    """For random sessions, with and without later bars."""
    features = Features(groups=[group])
    training, serving = dataset(features=features)[0].panel, bundle(features=features)
    known = calendar.sessions(FIRST, AS_OF)
    drawn = np.random.default_rng(1).choice(len(known), 8, replace=False)
    for number, day in enumerate(known[position] for position in drawn):
        served = serving.panel(up_to(day) if number % 2 else sample_bars(), day)
        stop = training.sessions.get_loc(pd.Timestamp(day)) + 1
        assert served.tickers == training.tickers
        assert served.features == training.features
        assert served.sessions.equals(training.sessions[:stop])
        assert same_bits(served.values, training.values[:stop])
        assert same_bits(served.close, training.close[:stop])
        assert np.array_equal(served.valid, training.valid[:stop])
    assert training.valid[-1].sum() >= 4  # FB is too young for some


@pytest.mark.parametrize("basis", ["raw", "split_adjusted", "adjusted"])
def test_serving_panel_equals_training_panel_across_corporate_actions(basis: str) -> None:
    bars = sample_bars().copy()
    known = bars["session"] == pd.Timestamp("2012-03-01")
    bars.loc[known & (bars["ticker"] == "IBM"), "stock_splits"] = 3.0
    bars.loc[known & (bars["ticker"] == "MSFT"), "dividends"] = 1.0
    features = Features(groups=["raw", "trend", "volume", "returns"], basis=basis)
    built, _ = dataset(bars, features=features)
    after = bars["session"] > pd.Timestamp(AS_OF)
    bars.loc[bars.index[after][::7], "stock_splits"] = 2.0
    served = bundle(bars=bars, features=features).panel(bars, LAST)
    stop = len(built.panel.sessions)
    assert same_bits(served.values[:stop], built.panel.values)
    assert same_bits(served.close[:stop], built.panel.close)


@each_architecture
def test_forecasts_agree_with_the_network_output(architecture: str) -> None:
    model = example(architecture)
    recipe, panel = model.recipe, trained().panel
    values, valid = torch.from_numpy(panel.values), torch.from_numpy(panel.valid)
    windows = Windows.from_panel(values, valid, recipe.feature_scaler, 10)
    ends = np.arange(len(panel.sessions) - 20, len(panel.sessions))
    scaled = forecast_scaled(model.network, windows, ends)[:, 0]
    expected = recipe.target_scaler.inverse(scaled[..., None])[..., 0]
    days = [day.date() for day in panel.sessions[ends]]
    frame = model.forecast(sample_bars(), days)
    found = frame.pivot_table(index="as_of_session", columns="ticker", values="predicted_return")
    np.testing.assert_allclose(found.to_numpy(), expected, rtol=1e-4, atol=1e-9)


def test_prices_are_in_shares_of_the_as_of_session() -> None:
    bars = sample_bars().copy()
    day = DAYS[40]
    after = (bars["session"] >= pd.Timestamp(day)) & (bars["ticker"] == "AAPL")
    bars.loc[after, ["open", "high", "low", "close", "dividends"]] /= 7
    bars.loc[after, "volume"] *= 7
    bars.loc[after & (bars["session"] == pd.Timestamp(day)), "stock_splits"] = 7.0
    plain = example("lstm").forecast(sample_bars(), DAYS)
    split = example("lstm").forecast(bars, DAYS)
    ours = (plain["ticker"] == "AAPL") & (plain["as_of_session"] >= pd.Timestamp(day))
    for name in ("last_close", "predicted_price", "lower_price", "upper_price"):
        np.testing.assert_allclose(split[name][ours], plain[name][ours] / 7, rtol=1e-5)
        np.testing.assert_allclose(split[name][~ours], plain[name][~ours], rtol=1e-5)
    np.testing.assert_allclose(
        split["predicted_return"], plain["predicted_return"], rtol=1e-3, atol=1e-6
    )


def test_close_target_forecasts_prices() -> None:
    model = bundle(target="close")
    frame = model.forecast(sample_bars(), DAYS)
    assert frame["lower_price"].lt(frame["predicted_price"]).all()
    np.testing.assert_allclose(
        frame["predicted_price"], frame["last_close"] * np.exp(frame["predicted_return"])
    )
    for day in DAYS[::20]:
        assert same_frame(model.forecast(up_to(day), [day]), as_of(frame, day))


@pytest.mark.parametrize("target", ["close", "log_return"])
def test_close_of_a_ticker_with_pooled_scaler_is_not_forecast(target: str) -> None:
    model = bundle(target=target)
    scaler = model.recipe.target_scaler
    pooled = np.array(model.recipe.tickers) == "FB"
    unseen = replace(model.recipe, target_scaler=replace(scaler, pooled=pooled))
    tickers = set(Bundle(unseen, model.network).forecast(sample_bars(), DAYS[-3:])["ticker"])
    missing = {"FB"} if target == "close" else set()
    assert tickers == set(model.recipe.tickers) - missing


def test_lower_bound_of_a_close_is_at_least_zero() -> None:
    model = bundle(target="close", features=Features(groups=["raw"]), scaler="minmax")
    weights = model.network.state_dict()
    weights["head.1.weight"].mul_(0.05)
    weights["head.1.bias"].fill_(0.0)  # about the middle of the prices it was trained on
    wide = Bundle(replace(model.recipe, intervals=FixedIntervals((3.0,), 0.9)), model.network)
    frame = wide.forecast(sample_bars(), DAYS)
    assert frame["lower_price"].eq(0.0).any()
    assert invalid_forecasts(frame).empty


@pytest.mark.parametrize("basis", ["split_adjusted", "adjusted"])
def test_panel_basis_does_not_depend_on_the_first_bar(basis: str) -> None:
    bars = sample_bars().copy()
    early = (bars["ticker"] == "AAPL") & (bars["session"] < pd.Timestamp("2011-09-01"))
    bars.loc[early, ["open", "high", "low", "close"]] *= 4
    split = (bars["ticker"] == "AAPL") & (bars["session"] == pd.Timestamp("2011-09-01"))
    bars.loc[split, "stock_splits"] = 4.0
    model = bundle(bars=bars, features=Features(groups=["raw"], basis=basis))
    later = bars[bars["session"] >= pd.Timestamp("2012-01-03")].reset_index(drop=True)
    whole, cut = model.panel(bars, LAST), model.panel(later, LAST)
    kept = whole.sessions >= pd.Timestamp("2012-01-03")
    np.testing.assert_allclose(cut.close[kept], whole.close[kept], rtol=1e-12)
    np.testing.assert_allclose(cut.values[kept], whole.values[kept], rtol=1e-6)


def test_corrected_split_does_not_shift_price_levels() -> None:
    bars = sample_bars().copy()
    model = bundle(bars=bars, features=Features(groups=["raw"], basis="split_adjusted"))
    split = (bars["ticker"] == "AAPL") & (bars["session"] == pd.Timestamp("2011-09-01"))
    bars.loc[split, "stock_splits"] = 4.0
    newest = model.panel(bars, LAST).close[-1]
    assert same_bits(newest, model.panel(sample_bars(), LAST).close[-1])


def test_ticker_without_a_usable_window_has_no_forecast() -> None:
    listed = date(2012, 5, 18)
    days = calendar.sessions(listed, date(2012, 10, 26))
    frame = example("lstm").forecast(sample_bars(), days)
    assert frame["ticker"].value_counts().drop("FB").eq(len(days)).all()
    first = frame.loc[frame["ticker"] == "FB", "as_of_session"].min().date()
    warm_up = 20
    assert first > calendar.next_session(listed, warm_up)
    bars = sample_bars()
    gone = bars[(bars["ticker"] != "IBM") | (bars["session"] != pd.Timestamp(DAYS[-1]))]
    newest = example("lstm").forecast(gone.reset_index(drop=True), [DAYS[-1]])
    assert newest["ticker"].tolist() == ["AAPL", "FB", "GOOG", "MSFT"]


def test_ticker_that_was_not_trained_on_is_ignored() -> None:
    bars = sample_bars()
    more = tidy(pd.concat([bars, bars[bars["ticker"] == "IBM"].assign(ticker="HAL")]))
    model = example("lstm")
    assert same_frame(model.forecast(more, DAYS[:3]), model.forecast(bars, DAYS[:3]))


def test_day_without_a_session_is_an_error() -> None:
    with pytest.raises(StockAssetsError, match="2012-10-27 is not a trading session"):
        example("lstm").forecast(sample_bars(), [date(2012, 10, 26), date(2012, 10, 27)])


def test_session_without_a_window_of_history_is_an_error() -> None:
    early = calendar.sessions(FIRST, LAST)[8]
    with pytest.raises(StockAssetsError, match="fewer than 10 sessions of history"):
        example("lstm").forecast(up_to(early), [early])
    with pytest.raises(StockAssetsError, match="fewer than 10 sessions"):
        example("lstm").forecast(sample_bars(), [date(2010, 6, 1)])
