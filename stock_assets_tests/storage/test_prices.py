"""Stored bars: in once, equal ones untouched, every change on record, back to the bit."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import date

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, select, text

from stock_assets.market.bars import empty_bars, tidy
from stock_assets.market.sources.sample import load_sample
from stock_assets.storage.database import Merge
from stock_assets.storage.prices import (
    PriceCoverage,
    StoredBars,
    price_coverage,
    read_bars,
    store_bars,
)
from stock_assets.storage.tables import price_revisions, raw_stock_data
from stock_assets_tests.storage.examples import DAYS, bars

FIRST, LAST = DAYS[0], DAYS[-1]
REVISION = ("ticker", "session", "field", "old_value", "new_value", "dagster_run_id")


def revisions(engine: Engine) -> list[tuple[object, ...]]:
    columns = [price_revisions.c[name] for name in REVISION]
    with engine.connect() as connection:
        return [
            tuple(row)
            for row in connection.execute(select(*columns).order_by(price_revisions.c.id))
        ]


def provenance(engine: Engine) -> list[tuple[object, ...]]:
    table = raw_stock_data
    query = select(table.c.source, table.c.dagster_run_id, table.c.fetched_at)
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(query.order_by(*table.primary_key))]


def test_new_bars_are_stored_with_their_source_and_run(engine: Engine) -> None:
    assert store_bars(engine, bars(), "sample", "run 1") == StoredBars(Merge(len(bars())), 0)
    pd.testing.assert_frame_equal(read_bars(engine, FIRST, LAST), bars())
    assert {row[:2] for row in provenance(engine)} == {("sample", "run 1")}
    assert revisions(engine) == []


def test_the_sample_comes_back_to_the_bit(engine: Engine) -> None:
    whole = load_sample()
    store_bars(engine, whole, "sample")
    back = read_bars(engine, date(2000, 3, 1), date(2013, 3, 1))
    pd.testing.assert_frame_equal(back, whole, check_exact=True)
    for name in ("close", "dividends", "volume"):
        assert back[name].to_numpy().tobytes() == whole[name].to_numpy().tobytes()


def test_storing_the_same_bars_in_another_run_changes_nothing(engine: Engine) -> None:
    store_bars(engine, bars(), "sample", "run 1")
    before = provenance(engine)
    assert store_bars(engine, bars(), "sample", "run 2") == StoredBars(Merge(), 0)
    assert provenance(engine) == before


def test_only_changed_values_become_revisions(engine: Engine) -> None:
    store_bars(engine, bars("AB", DAYS[:3]), "sample", "run 1")
    before = provenance(engine)
    changed = bars("AB", DAYS[:4])
    changed.loc[1, ["close", "volume"]] = [99.5, 2000.0]
    changed.loc[4, "dividends"] = 0.25
    done = store_bars(engine, changed, "sample", "run 2")
    assert done == StoredBars(Merge(inserted=2, updated=2), 3)
    assert sorted(revisions(engine)) == [
        ("A", DAYS[1], "close", bars()["close"][1], 99.5, "run 2"),
        ("A", DAYS[1], "volume", 1000.0, 2000.0, "run 2"),
        ("B", DAYS[0], "dividends", 0.0, 0.25, "run 2"),
    ]
    pd.testing.assert_frame_equal(read_bars(engine, FIRST, LAST), changed)
    after = provenance(engine)
    assert [after[0], after[2], after[5], after[6]] == [before[0], before[2], *before[4:]]
    assert (after[1][1], after[1][2]) == ("run 2", before[1][2])


def test_each_change_is_recorded_once(engine: Engine) -> None:
    for close in (100.0, 101.0, 101.0, 100.0):
        store_bars(engine, bars("A", DAYS[:1], close), "sample")
    closes = [row[3:5] for row in revisions(engine) if row[2] == "close"]
    assert closes == [(100.0, 101.0), (101.0, 100.0)]


def test_no_bars_are_nothing_to_store(engine: Engine) -> None:
    assert store_bars(engine, empty_bars(), "sample") == StoredBars(Merge(), 0)
    assert read_bars(engine, FIRST, LAST).equals(empty_bars())
    assert price_coverage(engine) == PriceCoverage(0, 0, None, None)


def test_reading_keeps_to_the_span_and_the_tickers(engine: Engine) -> None:
    store_bars(engine, bars("ABC"), "sample")
    found = read_bars(engine, DAYS[2], DAYS[4], ["C", "A", "Z"])
    assert found["ticker"].tolist() == ["A"] * 3 + ["C"] * 3
    assert found["session"].dt.date.tolist() == DAYS[2:5] * 2
    assert list(found.columns) == list(bars().columns)
    assert read_bars(engine, FIRST, LAST, []).empty


@pytest.mark.parametrize("ticker", ["TRUE", "INF", "NA", "T", "BRK.B", "7203"])
def test_a_ticker_is_a_text(engine: Engine, ticker: str) -> None:
    store_bars(engine, bars("A").assign(ticker=ticker), "csv")
    assert set(read_bars(engine, FIRST, LAST)["ticker"]) == {ticker}
    assert set(read_bars(engine, FIRST, LAST, [ticker])["ticker"]) == {ticker}


def test_coverage_counts_what_is_stored(engine: Engine) -> None:
    store_bars(engine, bars("AB"), "sample")
    store_bars(engine, bars("C", DAYS[:1]), "sample")
    assert price_coverage(engine) == PriceCoverage(2 * len(DAYS) + 1, 3, FIRST, LAST)


def test_a_frame_that_fails_stores_nothing_of_it(engine: Engine) -> None:
    twice = tidy(pd.concat([bars("A"), bars("A").tail(1)]))
    with pytest.raises(Exception, match="cannot affect row a second time"):
        store_bars(engine, twice, "sample")
    store_bars(engine, bars("A", DAYS[:1]), "sample")
    lost = bars("A", DAYS[:2], 50.0)
    lost.loc[1, "close"] = float("nan")
    with pytest.raises(Exception, match="not-null"):
        store_bars(engine, lost, "sample")
    assert revisions(engine) == []
    assert read_bars(engine, FIRST, LAST).equals(bars("A", DAYS[:1]))


def test_two_writers_at_once_store_and_record_once(engine: Engine) -> None:
    store_bars(engine, bars("AB", close=100.0), "sample")
    with ThreadPoolExecutor(2) as pool:
        frame = bars("AB", close=200.0)
        done = list(pool.map(lambda run: store_bars(engine, frame, "sample", run), ["x", "y"]))
    assert sorted(part.rows.updated for part in done) == [0, len(frame)]
    assert sorted(part.revisions for part in done) == [0, 4 * len(frame)]


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=4), st.data())
def test_spans_in_any_order_and_overlap_give_the_same_bars(
    engine: Engine, spans: list[tuple[int, int]], data: st.DataObject
) -> None:
    with engine.begin() as connection:
        connection.execute(text("TRUNCATE raw_stock_data"))
    whole = bars()
    parts = [
        whole[
            whole["session"].between(pd.Timestamp(DAYS[min(span)]), pd.Timestamp(DAYS[max(span)]))
        ]
        for span in spans
    ]
    for part in data.draw(st.permutations([*parts, whole])):
        store_bars(engine, part.sample(frac=1, random_state=1), "sample")
    pd.testing.assert_frame_equal(read_bars(engine, FIRST, LAST), whole)
    assert revisions(engine) == []
