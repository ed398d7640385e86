"""A dataset: made of what was known, scaled by its training sessions, checked before use."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import dagster as dg
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from stock_assets.config import Params, WalkForward
from stock_assets.core.errors import StockAssetsError
from stock_assets.core.moments import write_moment
from stock_assets.datasets.build import recorded_params
from stock_assets.defs.resources import Store
from stock_assets.features.dataset import scaled_digest
from stock_assets.features.indicators import FEATURES, select
from stock_assets.features.labels import session_labels
from stock_assets.features.scaling import Scaler, fit_scaler, fit_scalers
from stock_assets.features.splits import Segment, split_dataset
from stock_assets.market import calendar
from stock_assets.market.bars import tidy
from stock_assets.market.sources.sample import load_sample
from stock_assets.models.data import load_training_data
from stock_assets.storage.datasets import load_panel, load_scalers, load_segments
from stock_assets.storage.record import head
from stock_assets.storage.serving.checks import newest_checks
from stock_assets_tests.conftest import AS_OF, DATASET, Loop
from stock_assets_tests.defs.running import (
    checks,
    data_version,
    failure,
    materialize,
    metadata,
    params,
)
from stock_assets_tests.storage.examples import store_bars
from stock_assets_tests.tampering import empty

STAGE = ["processed_features", "scalers", "scaled_features"]
SMALL = {"window": 10, "validation_sessions": 30, "test_sessions": 20, "history_sessions": 250}
KEY = "20121026_120000"


def recent() -> pd.DataFrame:
    bars = load_sample()
    return bars[bars["session"] >= "2011-06-01"].reset_index(drop=True)


def made(
    store: Store, bars: pd.DataFrame, key: str = KEY, **sections: dict[str, object]
) -> dg.ExecuteInProcessResult:
    """Store bars and build a dataset from what is known then."""
    store_bars(store.engine, bars, "sample")
    given = {**sections, "dataset": SMALL | sections.get("dataset", {})}
    newest = head(store.engine)
    assert newest is not None
    config = {"processed_features": {"known_at": write_moment(newest.written_at)}}
    return materialize(STAGE, key, store, params(**given), config=config)


def stored(store: Store, key: str) -> dict[str, object]:
    """Everything that is stored of a dataset: names, panel, labels, masks and scalers."""
    record, segments = load_panel(store.engine, key), load_segments(store.engine, key)
    arrays = store.arrays.read_tensors(record.location)
    return {
        "tickers": record.tickers,
        "features": record.features,
        "adjustment_factors": record.adjustment_factors,
        "bars_digest": record.bars_digest,
        "scalers": load_scalers(store.engine, key),
        "segments": segments,
        **{f"panel {name}": value.tobytes() for name, value in arrays.items()},
    }


def test_the_record_describes_the_inputs_of_the_dataset(loop: Loop) -> None:
    record = load_panel(loop.platform.engine, DATASET)
    assert (record.as_of_session, record.last_session) == (AS_OF, AS_OF)
    assert record.tickers == ["AAPL", "FB", "GOOG", "IBM", "MSFT"]
    assert len(calendar.sessions(record.first_session, AS_OF)) == 700
    assert Params.model_validate(record.params) == loop.platform.params
    assert set(record.adjustment_factors) == set(record.tickers)


def test_one_file_holds_the_panel(loop: Loop) -> None:
    record, arrays = load_panel(loop.platform.engine, DATASET), loop.store.arrays
    tensors = arrays.read_tensors(record.location)
    assert tensors["values"].shape == (700, 5, len(record.features))
    assert tensors["valid"].any(axis=0).all()
    assert np.isfinite(tensors["values"][tensors["valid"]]).all()
    size = arrays.local_path(record.location).stat().st_size
    # Beside the features there are a close and a mark per session and ticker, and a header.
    assert size < tensors["values"].nbytes + 700 * 5 * 9 + 500


def test_the_segments_are_in_order_and_purged(loop: Loop) -> None:
    record = load_panel(loop.platform.engine, DATASET)
    segments = load_segments(loop.platform.engine, DATASET)
    days, dataset = (
        calendar.sessions(record.first_session, AS_OF),
        loop.platform.params.dataset,
    )
    train, validation, test = (segments[name] for name in ("train", "validation", "test"))
    for part in (train, validation, test):
        assert part.first_session == days[part.first_position]
        assert part.last_session == days[part.last_position]
    for before, after in ((train, validation), (validation, test)):
        label = before.last_position + 1
        assert label < after.first_position - dataset.window + 1
        assert before.purge_sessions == dataset.window + 1 - 1
    assert days[test.last_position + 1] == AS_OF


def test_scalers_follow_from_the_training_sessions(loop: Loop) -> None:
    engine, arrays = loop.platform.engine, loop.store.arrays
    record, segments = load_panel(engine, DATASET), load_segments(engine, DATASET)
    stored = [Scaler.from_dict(part) for part in load_scalers(engine, DATASET)]
    tensors = arrays.read_tensors(record.location)
    stop = segments["train"].last_position + 1
    again = fit_scaler(tensors["values"][:stop], tensors["valid"][:stop], "standard")
    assert again.to_dict() == stored[0].to_dict()
    assert stored[1].kind == "zero_mean"
    assert stored[0].pooled.tolist() == [False, True, False, False, False]  # FB is young
    labels = session_labels(tensors["close"], "log_return")
    split = split_dataset(len(labels), recorded_params(record).dataset)
    digest = scaled_digest(tensors["values"], tensors["valid"], labels, (again, stored[1]), split)
    assert {segment.digest for segment in segments.values()} == {digest}


def test_passing_checks_let_every_asset_materialize(own_store: Store) -> None:
    result = made(own_store, recent())
    assert result.success
    assert checks(result) == {
        "features_are_complete": True,
        "features_do_not_look_ahead": True,
        "scalers_fit_on_train_only": True,
    }
    recorded = metadata(result, "processed_features")
    assert (recorded["dataset_run_id"], recorded["as_of_session"]) == (KEY, "2012-10-26")
    assert recorded["dagster/row_count"] == sum(recorded["valid_sessions"].values())
    described = {column.name: column for column in recorded["dagster/column_schema"].columns}
    lineage = recorded["dagster/column_lineage"].deps_by_column
    assert described["RSI"].type == "float32"
    assert {dep.asset_key.to_user_string() for dep in lineage["RSI"]} == {"raw_prices"}
    read = [dep.column_name for dep in lineage["RSI"]]
    assert read == ["close", "dividends", "stock_splits"]  # the basis is adjusted
    segments = metadata(result, "scaled_features")
    assert (segments["purge_sessions"], segments["dagster/row_count"]) == (10, 3)


def test_check_results_are_stored_beside_the_dataset(own_store: Store) -> None:
    result = made(own_store, recent())
    kept = newest_checks(own_store.engine)
    assert {row["check_name"]: row["passed"] for row in kept} == checks(result)
    assert {row["asset"] for row in kept} == {"processed_features", "scalers"}
    for row in kept:
        assert row["dagster_run_id"] == result.run_id
        assert (row["first_partition"], row["last_partition"]) == (KEY, KEY)


def test_a_rebuilt_dataset_has_the_same_versions_and_files(own_store: Store) -> None:
    first, again = made(own_store, recent()), made(own_store, recent())
    for asset in ("processed_features", "scalers", "scaled_features"):
        assert data_version(first, asset) == data_version(again, asset)
    files = {path.name for path in Path(str(own_store.arrays_url)).rglob("*") if path.is_file()}
    assert len(files) == 1


def test_nothing_after_the_as_of_session_changes_it(own_store: Store) -> None:
    first = made(own_store, recent())
    changed = recent()
    later = changed["session"] > pd.Timestamp("2012-10-26")
    changed.loc[later, ["open", "high", "low", "close"]] *= 3
    changed.loc[changed.index[later][::9], "stock_splits"] = 2.0
    again = made(own_store, changed)
    for asset in ("processed_features", "scalers", "scaled_features"):
        assert data_version(first, asset) == data_version(again, asset)
    record = load_panel(own_store.engine, KEY)
    assert metadata(first, "processed_features")["bars_digest"] == record.bars_digest


def perturbed(day: date, seed: int) -> pd.DataFrame:
    """Other prices and volumes after a day, splits, dividends and a newcomer."""
    random = np.random.default_rng(seed)
    changed = recent()
    later = changed["session"] > pd.Timestamp(day)
    count = int(later.sum())
    changed.loc[later, ["open", "high", "low", "close"]] *= random.uniform(0.5, 2.0, (count, 1))
    changed.loc[later, "volume"] = random.integers(1, 10**9, count)
    changed.loc[later, "stock_splits"] = random.choice([0.0, 2.0, 7.0], count, p=[0.9, 0.05, 0.05])
    changed.loc[later, "dividends"] = random.choice([0.0, 0.2], count, p=[0.9, 0.1])
    newcomer = changed[later & (changed["ticker"] == "IBM")].assign(ticker="NEW")
    return tidy(pd.concat([changed, newcomer]))


@settings(
    max_examples=4,
    phases=[Phase.generate],  # an example takes seconds: shrinking would take minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.sampled_from(calendar.sessions(date(2012, 7, 2), date(2012, 12, 31))),
    st.integers(0, 2**32 - 1),
)
def test_later_rows_change_no_bit_of_a_dataset(own_store: Store, day: date, seed: int) -> None:
    key = f"{day:%Y%m%d}_120000"
    chosen: dict[str, dict[str, object]] = {
        "features": {"groups": ["raw", "returns", "momentum"], "correlation_threshold": 0.9},
        "prices": {"tickers": ["AAPL", "FB", "GOOG", "IBM", "MSFT", "NEW"]},
    }
    empty(own_store.engine)
    assert made(own_store, recent(), key, **chosen).success
    before = stored(own_store, key)
    assert made(own_store, perturbed(day, seed), key, **chosen).success
    after = stored(own_store, key)
    assert [name for name in before if after[name] != before[name]] == []


def test_a_close_that_counts_sessions_is_labelled_with_the_next_number(own_store: Store) -> None:
    bars = recent().query("ticker in ['AAPL', 'IBM']").reset_index(drop=True)
    count = bars.groupby("ticker").cumcount() + 1.0
    numbered = bars.assign(**dict.fromkeys(("open", "high", "low", "close"), count))
    numbered[["dividends", "stock_splits"]] = 0.0
    result = made(
        own_store,
        numbered,
        features={"groups": ["raw"], "basis": "raw"},
        dataset={"target": "close"},
    )
    assert result.success
    record, segments = load_panel(own_store.engine, KEY), load_segments(own_store.engine, KEY)
    arrays = own_store.arrays.read_tensors(record.location)
    close = arrays["values"][:, :, record.features.index("Close")]
    assert (np.diff(close, axis=0) == 1).all()
    features, labels = map(Scaler.from_dict, load_scalers(own_store.engine, KEY))
    spans = [
        Segment(segments[name].first_position, segments[name].last_position)
        for name in ("train", "validation")
    ]
    path, dataset = own_store.arrays.local_path(record.location), recorded_params(record).dataset
    data = load_training_data(path, dataset, (features, labels), *spans)
    back = labels.inverse(data.target.numpy()[..., None])[..., 0]
    np.testing.assert_allclose(back[:-1], close[:-1] + 1, rtol=1e-6)
    assert np.isnan(back[-1:]).all()


def test_correlated_features_are_left_out_and_reported(own_store: Store) -> None:
    groups = ["raw", "momentum"]
    result = made(own_store, recent(), features={"groups": groups, "correlation_threshold": 0.9})
    assert result.success
    record = load_panel(own_store.engine, KEY)
    recorded = metadata(result, "processed_features")
    assert recorded["features_represented_by"]["Open"] == "Close"
    assert recorded["features_represented_by"]["Williams_R"] == "Stochastic_K"
    assert set(record.features).isdisjoint(recorded["features_represented_by"])
    assert {*record.features, *recorded["features_represented_by"]} == set(select(groups))
    scaler, _ = map(Scaler.from_dict, load_scalers(own_store.engine, KEY))
    assert scaler.centre.shape == (5, len(record.features))


def test_the_quartiles_are_stored_as_numbers(own_store: Store) -> None:
    assert made(own_store, recent(), dataset={"scaler": "robust"}).success
    features, target = map(Scaler.from_dict, load_scalers(own_store.engine, KEY))
    assert (features.kind, target.kind) == ("robust", "zero_mean")


def test_a_feature_that_looks_ahead_stops_the_dataset(
    own_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tomorrow(close: np.ndarray, window: int) -> np.ndarray:
        return np.append(close[1:], close[-1:]) / close

    monkeypatch.setitem(FEATURES, "RSI", replace(FEATURES["RSI"], formula=tomorrow))
    result = made(own_store, recent())
    assert not result.success
    assert checks(result)["features_do_not_look_ahead"] is False
    (found,) = [
        part
        for part in result.get_asset_check_evaluations()
        if part.check_name == "features_do_not_look_ahead"
    ]
    assert found.metadata["what_looks_ahead"].value == ["RSI"]
    assert not result.asset_materializations_for_node("processed_features")
    assert not result.asset_materializations_for_node("scalers")


def test_a_failed_check_keeps_the_earlier_dataset_and_refuses_what_follows(
    own_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Labels of the session after the next, planted where the dataset is built."""
    assert made(own_store, recent()).success
    before = stored(own_store, KEY)

    def one_late(close: np.ndarray, target: str) -> np.ndarray:
        return np.roll(session_labels(close, target), -1, axis=0)

    monkeypatch.setattr("stock_assets.features.dataset.session_labels", one_late)
    changed = recent()
    changed.loc[changed["session"] == pd.Timestamp("2012-10-26"), "close"] *= 1.0001
    result = made(own_store, changed)
    assert not result.success
    (found,) = [part for part in result.get_asset_check_evaluations() if not part.passed]
    assert found.check_name == "features_do_not_look_ahead"
    assert found.metadata["wrong_labels"].value > 0
    assert stored(own_store, KEY) == before
    for asset in ("scalers", "scaled_features", "tuned_params", "candidate_model", "promotion"):
        refused = materialize([asset], KEY, own_store, params())
        assert f"processed_features of {KEY} failed features_do_not_look_ahead" in failure(refused)


def test_selection_by_later_sessions_stops_the_dataset(
    own_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def to_the_end(values, valid, names, threshold):
        return dict.fromkeys(names[1:3], names[0])

    monkeypatch.setattr("stock_assets.features.dataset.find_redundant_features", to_the_end)
    groups = {"groups": ["raw", "momentum"], "correlation_threshold": 0.9}
    result = made(own_store, recent(), features=groups)
    assert not result.success
    (found,) = [part for part in result.get_asset_check_evaluations() if not part.passed]
    assert found.metadata["choice_of_features_looks_ahead"].value is True


def test_scalers_fitted_on_later_sessions_stop_the_dataset(
    own_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on_everything(values, valid, target, train, dataset):
        return fit_scalers(values, valid, target, replace(train, last=len(values) - 2), dataset)

    monkeypatch.setattr("stock_assets.datasets.build.fit_scalers", on_everything)
    result = made(own_store, recent())
    assert not result.success
    assert checks(result)["scalers_fit_on_train_only"] is False
    assert not result.asset_materializations_for_node("scaled_features")
    with pytest.raises(StockAssetsError):
        load_scalers(own_store.engine, KEY)


def test_rolling_folds_shorten_the_training_segment(own_store: Store) -> None:
    rolling = {"folds": 3, "training": "rolling"}
    assert made(own_store, recent(), walk_forward=rolling).success
    record, segments = load_panel(own_store.engine, KEY), load_segments(own_store.engine, KEY)
    panel, dataset = own_store.arrays.read_tensors(record.location), recorded_params(record).dataset
    split = split_dataset(len(panel["values"]), dataset, WalkForward.model_validate(rolling))
    train = segments["train"]
    assert (train.first_position, train.last_position) == (split.train.first, split.train.last)
    assert train.first_position >= 2 * SMALL["test_sessions"]
    labels = session_labels(panel["close"], "log_return")
    expected = fit_scalers(panel["values"], panel["valid"], labels, split.train, dataset)
    stored_scalers = load_scalers(own_store.engine, KEY)
    assert [one.to_dict() for one in expected] == list(stored_scalers)


def test_tickers_outside_the_universe_are_not_part_of_it(own_store: Store) -> None:
    ibm = recent().query("ticker == 'IBM'")
    result = made(own_store, tidy(pd.concat([recent(), ibm.assign(ticker="GONE")])))
    assert result.success
    assert "GONE" not in load_panel(own_store.engine, KEY).tickers


def test_a_revision_changes_a_dataset_only_if_a_later_moment_is_chosen(own_store: Store) -> None:
    first = made(own_store, recent())
    known_at = load_panel(own_store.engine, KEY).known_at
    assert metadata(first, "processed_features")["known_at"] == str(known_at).replace(" ", "T")
    changed = recent()
    before = changed["session"] == pd.Timestamp("2012-10-26")
    changed.loc[before, "close"] *= 1.0001
    store_bars(own_store.engine, changed, "sample")
    resumed = materialize(STAGE, KEY, own_store, params(dataset=SMALL))
    assert load_panel(own_store.engine, KEY).known_at == known_at
    again = made(own_store, changed)
    assert load_panel(own_store.engine, KEY).known_at > known_at
    versions = [data_version(run, "processed_features") for run in (first, resumed, again)]
    assert versions[0] == versions[1] != versions[2]


def test_a_moment_in_the_future_is_refused(own_store: Store) -> None:
    store_bars(own_store.engine, recent(), "sample")
    config = {"processed_features": {"known_at": "2999-01-01T00:00:00Z"}}
    result = materialize(STAGE, KEY, own_store, params(dataset=SMALL), config=config)
    assert "in the future" in failure(result)


def test_a_ticker_without_a_training_window_is_reported(own_store: Store) -> None:
    result = made(own_store, recent(), "20120531_120000")
    assert result.success
    assert checks(result)["features_are_complete"] is True
    (found,) = [
        part
        for part in result.get_asset_check_evaluations()
        if part.check_name == "features_are_complete"
    ]
    assert found.metadata["tickers_not_learned_from"].value == ["FB"]
    assert result.asset_materializations_for_node("scalers")


@pytest.mark.parametrize(
    ("key", "recorded"),
    [("20121225_120000", "is not a trading session"), ("2012_1", "is not a dataset id")],
)
def test_a_wrong_id_is_refused(own_store: Store, key: str, recorded: str) -> None:
    result = made(own_store, recent(), key)
    assert not result.success
    assert recorded in failure(result)


def test_too_little_history_is_refused(own_store: Store) -> None:
    few = recent().query("session >= '2012-10-01' and ticker != 'FB'")
    result = made(own_store, few.reset_index(drop=True))
    assert not result.success
    message = failure(result)
    assert "sessions of history are too few" in message or "features_are_complete" in message


def test_without_prices_the_remedy_is_a_command(own_store: Store) -> None:
    result = materialize(STAGE, KEY, own_store, params(dataset=SMALL))
    assert "stock-assets backfill raw_prices --from" in failure(result)
    assert date(2012, 10, 26).isoformat() in failure(result)
