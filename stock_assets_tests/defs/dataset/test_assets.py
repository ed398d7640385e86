"""A dataset holds what was known, scaled by its training sessions."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from stock_assets.config import Params, WalkForward
from stock_assets.datasets.build import recorded_params
from stock_assets.defs.resources import Store
from stock_assets.features.dataset import scaled_digest
from stock_assets.features.indicators import select
from stock_assets.features.labels import session_labels
from stock_assets.features.scaling import Scaler, fit_scaler, fit_scalers
from stock_assets.features.splits import Segment, split_dataset
from stock_assets.market import calendar
from stock_assets.market.bars import tidy
from stock_assets.models.data import load_training_data
from stock_assets.storage.datasets import load_panel, load_scalers, load_segments
from stock_assets.storage.serving.checks import newest_checks
from stock_assets_tests.conftest import AS_OF, DATASET, Loop
from stock_assets_tests.defs.dataset.built import KEY, SMALL, STAGE, made, perturbed, recent, stored
from stock_assets_tests.defs.running import checks, data_version, materialize, metadata, params
from stock_assets_tests.properties import SLOW_EXAMPLES
from stock_assets_tests.storage.examples import store_bars
from stock_assets_tests.tampering import empty


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
    days = calendar.sessions(record.first_session, AS_OF)
    train, validation, test = (segments[name] for name in ("train", "validation", "test"))
    for part in (train, validation, test):
        assert part.first_session == days[part.first_position]
        assert part.last_session == days[part.last_position]
    for before, after in ((train, validation), (validation, test)):
        assert before.last_position + 1 == after.first_position
        assert before.purge_sessions == 0
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
    assert "Validity by session and ticker" in Path(recorded["plots"]).read_text("utf-8")
    described = {column.name: column for column in recorded["dagster/column_schema"].columns}
    lineage = recorded["dagster/column_lineage"].deps_by_column
    assert described["RSI"].type == "float32"
    assert {dep.asset_key.to_user_string() for dep in lineage["RSI"]} == {"raw_prices"}
    read = [dep.column_name for dep in lineage["RSI"]]
    assert read == ["close", "dividends", "stock_splits"]  # the basis is adjusted
    segments = metadata(result, "scaled_features")
    assert (segments["purge_sessions"], segments["dagster/row_count"]) == (0, 3)


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


@settings(
    max_examples=SLOW_EXAMPLES,
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
