"""Datasets: labels are the next session, and no value depends on later bars."""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stock_assets.config import Dataset, Features
from stock_assets.core.errors import StockAssetsError
from stock_assets.evaluation.scoring import score_due
from stock_assets.features.dataset import FeatureSet, build_feature_set, scaled_digest
from stock_assets.features.lookahead import find_lookahead
from stock_assets.features.scaling import fit_scalers
from stock_assets.features.splits import Split, split_dataset
from stock_assets.features.windows import cut_windows
from stock_assets.market.bars import tidy
from stock_assets.market.sources.sample import load_sample
from stock_assets_tests.features.examples import FIRST, as_frame, same_bits, session_dates, walk

EVERY_GROUP = Features(groups=["raw", "trend", "momentum", "volatility", "volume", "returns"])
CLOSES = Features(groups=["raw"], basis="raw")
DATASET = Dataset(window=10, validation_sessions=30, test_sessions=20)
AS_OF = session_dates(300)[-1].date()
BARS = as_frame({"AAA": walk(320, seed=1), "BBB": walk(320, seed=2), "CCC": walk(320, seed=3)})


def numbered(rows: int = 60) -> pd.DataFrame:
    """Return bars of two tickers with closes 1, 2, 3 ... and 1001, 1002, 1003 ..."""
    count = np.arange(1.0, rows + 1)
    return as_frame(
        {
            name: {
                **dict.fromkeys(("open", "high", "low", "close"), count + offset),
                "volume": np.ones(rows),
                "dividends": np.zeros(rows),
                "stock_splits": np.zeros(rows),
            }
            for name, offset in (("AAA", 0.0), ("BBB", 1000.0))
        }
    )


def built(bars: pd.DataFrame = BARS, features: Features = EVERY_GROUP, **changes: object):
    return build_feature_set(
        bars, features, DATASET.model_copy(update=changes), FIRST, changes.get("as_of", AS_OF)
    )


def numbered_set(target: str) -> FeatureSet:
    bars = numbered()
    dataset = DATASET.model_copy(update={"target": target})
    return build_feature_set(bars, CLOSES, dataset, FIRST, session_dates(60)[-1].date())


def assert_same(left: FeatureSet, right: FeatureSet) -> None:
    assert left.panel.sessions.equals(right.panel.sessions)
    assert left.panel.tickers == right.panel.tickers
    assert left.adjustment_factors == right.adjustment_factors
    assert same_bits(left.panel.values, right.panel.values)
    assert same_bits(left.target, right.target)
    assert same_bits(left.panel.close, right.panel.close)
    assert np.array_equal(left.panel.valid, right.panel.valid)


def test_label_is_the_close_after_the_window() -> None:
    data = numbered_set("close")
    close = data.panel.features.index("Close")
    values = torch.from_numpy(data.panel.values)
    ends = torch.arange(9, 59)
    windows = cut_windows(values, ends, 10)
    for ticker, offset in ((0, 0), (1, 1000)):
        newest = windows[:, -1, ticker, close]
        np.testing.assert_array_equal(newest, offset + np.arange(10, 60))
        np.testing.assert_array_equal(windows[:, 0, ticker, close], newest - 9)
        np.testing.assert_array_equal(data.target[9:59, ticker], newest + 1)
        assert np.isnan(data.target[59, ticker])


def test_label_is_the_return_after_the_window() -> None:
    data = numbered_set("log_return")
    count = np.arange(1.0, 60.0)
    np.testing.assert_allclose(data.target[:-1, 0], np.log((count + 1) / count), rtol=1e-12)
    assert np.isnan(data.target[-1]).all()


def test_dataset_ignores_bars_after_the_as_of_session() -> None:
    known = BARS[BARS["session"] <= pd.Timestamp(AS_OF)]
    assert_same(built(), built(known))
    data = built()
    assert data.panel.sessions[-1] == pd.Timestamp(AS_OF)
    assert np.isnan(data.target[-1]).all()


@settings(max_examples=12)
@given(st.integers(0, 2**32 - 1), st.booleans(), st.booleans())
def test_dataset_does_not_depend_on_later_bars(seed: int, split: bool, listing: bool) -> None:
    other = as_frame({name: walk(320, seed + i) for i, name in enumerate(("AAA", "BBB", "CCC"))})
    later = BARS["session"] > pd.Timestamp(AS_OF)
    mixed = BARS.where(~later, other)
    if split:
        row = mixed.index[later & (mixed["ticker"] == "BBB")][2]
        mixed.loc[row, "stock_splits"] = 7.0
    if listing:
        newcomer = as_frame({"ABC": walk(320, seed)})
        mixed = tidy(pd.concat([mixed, newcomer[newcomer["session"] > pd.Timestamp(AS_OF)]]))
    assert_same(built(mixed), built())


def test_features_do_not_depend_on_the_as_of_session() -> None:
    scale_free = Features(groups=["returns"], basis="raw")
    earlier = session_dates(250)[-1].date()
    whole = built(features=scale_free)
    before = built(features=scale_free, as_of=earlier)
    assert same_bits(whole.panel.values[:250], before.panel.values)
    np.testing.assert_allclose(whole.target[:249], before.target[:249], rtol=1e-9)


def test_history_starts_at_the_configured_session() -> None:
    data = built(history_sessions=120)
    assert len(data.panel.sessions) == 120
    assert data.panel.sessions[-1] == pd.Timestamp(AS_OF)
    for more in (5000, 90_000):  # than the calendar has
        assert len(built(history_sessions=more).panel.sessions) == 300
    start = session_dates(40)[-1].date()
    later = build_feature_set(BARS, EVERY_GROUP, DATASET, start, AS_OF)
    assert later.panel.sessions[0] == pd.Timestamp(start)


def test_dataset_leaves_out_tickers_without_bars() -> None:
    young = BARS[(BARS["ticker"] != "BBB") | (BARS["session"] > pd.Timestamp(AS_OF))]
    data = built(young.reset_index(drop=True))
    assert data.panel.tickers == ("AAA", "CCC")
    assert set(data.adjustment_factors) == {"AAA", "CCC"}


def test_dataset_without_bars_is_an_error() -> None:
    with pytest.raises(StockAssetsError, match="no stored bar from 2000-03-01") as caught:
        build_feature_set(BARS, EVERY_GROUP, DATASET, date(2000, 3, 1), date(2001, 3, 1))
    assert "stock-assets backfill raw_prices --from" in caught.value.remedy


def test_adjusted_features_do_not_jump_at_corporate_actions() -> None:
    sample = load_sample()
    data = build_feature_set(
        sample, Features(groups=["returns"]), Dataset(), date(2004, 1, 2), date(2006, 1, 3)
    )
    assert data.panel.tickers == ("AAPL", "GOOG", "IBM", "MSFT")
    split = data.panel.sessions.get_loc(pd.Timestamp("2005-02-28"))  # AAPL, 2:1
    change = data.panel.values[split, 0, data.panel.features.index("Log_Return")]
    assert abs(change) < 0.05
    assert np.nanmax(np.abs(data.target[:, 0])) < 0.2


@pytest.mark.parametrize("target", ["log_return", "close"])
@pytest.mark.parametrize("basis", ["raw", "split_adjusted", "adjusted"])
def test_labels_scored_as_forecasts_have_no_error(basis: str, target: str) -> None:
    """Across splits and dividends, on every basis."""
    bars, first, as_of = load_sample(), date(2004, 6, 1), date(2005, 6, 1)
    bars = bars[bars["session"].between("2004-06-01", "2005-06-01")].reset_index(drop=True)
    assert (bars["stock_splits"] > 0).any()
    assert (bars["dividends"] > 0.1 * bars["close"]).any(), "Microsoft's special dividend"
    dataset = DATASET.model_copy(update={"target": target})
    data = build_feature_set(bars, Features(groups=["returns"], basis=basis), dataset, first, as_of)
    close = data.panel.close
    ratio = np.exp(data.target) if target == "log_return" else data.target / close
    days, tickers = data.panel.sessions, data.panel.tickers
    wide = pd.DataFrame(ratio[:-1], days[:-1], tickers).rename_axis("as_of_session").reset_index()
    labels = wide.melt("as_of_session", var_name="ticker", value_name="ratio").dropna()
    traded = bars.set_index(["session", "ticker"])["close"]
    last_close = traded.reindex(pd.MultiIndex.from_frame(labels[["as_of_session", "ticker"]]))
    price = last_close.to_numpy() * labels["ratio"]
    scored = score_due(
        labels.assign(
            target_session=days[days.get_indexer(labels["as_of_session"]) + 1],
            horizon=1,
            last_close=last_close.to_numpy(),
            predicted_price=price,
            lower_price=price,
            upper_price=price,
        ),
        bars,
    )
    assert len(scored) > 900
    assert scored["absolute_percentage_error"].max() < 1e-9


@pytest.mark.parametrize("rows", [1, 2, 20, 21])
def test_find_lookahead_accepts_short_panels(rows: int) -> None:
    as_of = session_dates(rows)[-1].date()
    data = built(as_of=as_of)
    assert find_lookahead(data, EVERY_GROUP, 20) == []


def arrays(data: FeatureSet) -> dict[str, np.ndarray]:
    return {"values": data.panel.values, "valid": data.panel.valid, "target": data.target}


def scalers_of(data: FeatureSet, dataset: Dataset = DATASET):
    train = split_dataset(len(data.panel.sessions), dataset).train
    return fit_scalers(**arrays(data), train=train, dataset=dataset)


def test_scaled_digest_covers_exactly_the_network_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    data = built(features=Features(groups=["returns"]))
    scalers, split = scalers_of(data), split_dataset(300, DATASET)

    def digest(split: Split = split, **changes: np.ndarray) -> str:
        return scaled_digest(**(arrays(data) | changes), scalers=scalers, split=split)

    before = digest()
    junk = np.where(data.panel.valid[..., None], data.panel.values, np.float32(7.0))
    assert digest(values=junk) == before
    values, target, valid = data.panel.values.copy(), data.target.copy(), data.panel.valid.copy()
    values[200, 1, 0] = np.nextafter(values[200, 1, 0], np.float32(9))
    target[200, 1] += 1e-3
    valid[200, 1] = False
    assert len({before, digest(values=values), digest(target=target), digest(valid=valid)}) == 4
    swapped = DATASET.model_copy(update={"validation_sessions": 29, "test_sessions": 21})
    other = split_dataset(300, swapped)
    assert other.train == split.train
    assert digest(other) != before, "a study of another split is not resumed"
    monkeypatch.setattr("stock_assets.features.scaling.BLOCK_NUMBERS", 50)
    assert digest() == before, "the block size does not matter"
