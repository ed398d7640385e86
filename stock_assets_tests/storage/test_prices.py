"""Stored bars: each once, equal ones untouched, every change recorded, equal to the bit."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import date

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, select, text

from stock_assets.market.bars import empty_bars, tidy
from stock_assets.market.corporate_actions import attach, no_actions, tidy_actions
from stock_assets.market.reconciliation import StoredHistory
from stock_assets.market.sources.base import Fetch
from stock_assets.market.sources.sample import load_sample
from stock_assets.storage.database import Merge
from stock_assets.storage.prices import (
    PriceCoverage,
    StoredPrices,
    price_coverage,
    read_bars,
    read_revisions,
    reset_fetch_start,
    store_prices,
    stored_histories,
)
from stock_assets.storage.tables import price_revisions, raw_stock_data
from stock_assets_tests.properties import SLOW_EXAMPLES
from stock_assets_tests.storage.examples import DAYS, bars, store_bars, stored_actions
from stock_assets_tests.tampering import tampering

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
    assert store_bars(engine, bars(), "sample", "run 1") == StoredPrices(Merge(len(bars())))
    pd.testing.assert_frame_equal(read_bars(engine, FIRST, LAST), bars())
    assert {row[:2] for row in provenance(engine)} == {("sample", "run 1")}
    assert revisions(engine) == []


def test_read_bars_returns_the_stored_bits(engine: Engine) -> None:
    whole = load_sample()
    store_bars(engine, whole, "sample")
    back = read_bars(engine, date(2000, 3, 1), date(2013, 3, 1))
    pd.testing.assert_frame_equal(back, whole, check_exact=True)
    for name in ("close", "dividends", "volume"):
        assert back[name].to_numpy().tobytes() == whole[name].to_numpy().tobytes()


def test_storing_the_same_bars_in_another_run_changes_nothing(engine: Engine) -> None:
    store_bars(engine, bars(), "sample", "run 1")
    before = provenance(engine)
    assert store_bars(engine, bars(), "sample", "run 2") == StoredPrices()
    assert provenance(engine) == before


def test_only_changed_values_become_revisions(engine: Engine) -> None:
    store_bars(engine, bars("AB", DAYS[:3]), "sample", "run 1")
    before = provenance(engine)
    changed = bars("AB", DAYS[:4])
    changed.loc[1, ["close", "volume"]] = [99.5, 2000.0]
    changed.loc[4, "dividends"] = 0.25
    done = store_bars(engine, changed, "sample", "run 2")
    assert done == StoredPrices(Merge(inserted=2, updated=1), Merge(inserted=1), 3)
    assert sorted(revisions(engine)) == [
        ("A", DAYS[1], "close", bars()["close"][1], 99.5, "run 2"),
        ("A", DAYS[1], "volume", 1000.0, 2000.0, "run 2"),
        ("B", DAYS[0], "dividends", 0.0, 0.25, "run 2"),
    ]
    pd.testing.assert_frame_equal(read_bars(engine, FIRST, LAST), changed)
    after = provenance(engine)
    assert [after[0], after[2], *after[4:7]] == [before[0], before[2], *before[3:]]
    assert (after[1][1], after[1][2]) == ("run 2", before[1][2])


def test_each_change_is_recorded_once(engine: Engine) -> None:
    for close in (100.0, 101.0, 101.0, 100.0):
        store_bars(engine, bars("A", DAYS[:1], close), "sample")
    closes = [row[3:5] for row in revisions(engine) if row[2] == "close"]
    assert closes == [(100.0, 101.0), (101.0, 100.0)]


def test_an_empty_fetch_stores_nothing(engine: Engine) -> None:
    assert store_bars(engine, empty_bars(), "sample") == StoredPrices()
    assert read_bars(engine, FIRST, LAST).equals(empty_bars())
    assert price_coverage(engine) == PriceCoverage(0, 0, None, None)


def test_read_bars_filters_sessions_and_tickers(engine: Engine) -> None:
    store_bars(engine, bars("ABC"), "sample")
    found = read_bars(engine, DAYS[2], DAYS[4], ["C", "A", "Z"])
    assert found["ticker"].tolist() == ["A"] * 3 + ["C"] * 3
    assert found["session"].dt.date.tolist() == DAYS[2:5] * 2
    assert list(found.columns) == list(bars().columns)
    assert read_bars(engine, FIRST, LAST, []).empty


@pytest.mark.parametrize("ticker", ["TRUE", "INF", "NA", "T", "BRK.B", "7203"])
def test_a_ticker_named_true_stays_a_string(engine: Engine, ticker: str) -> None:
    store_bars(engine, bars("A").assign(ticker=ticker), "csv")
    assert set(read_bars(engine, FIRST, LAST)["ticker"]) == {ticker}
    assert set(read_bars(engine, FIRST, LAST, [ticker])["ticker"]) == {ticker}


def test_coverage_counts_what_is_stored(engine: Engine) -> None:
    store_bars(engine, bars("AB"), "sample")
    store_bars(engine, bars("C", DAYS[:1]), "sample")
    assert price_coverage(engine) == PriceCoverage(2 * len(DAYS) + 1, 3, FIRST, LAST)


def test_a_failed_store_changes_nothing(engine: Engine) -> None:
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
    assert sorted(part.bars.updated for part in done) == [0, len(frame)]
    assert sorted(part.revisions for part in done) == [0, 4 * len(frame)]


@settings(max_examples=SLOW_EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=4), st.data())
def test_stored_bars_do_not_depend_on_the_order_of_fetches(
    engine: Engine, spans: list[tuple[int, int]], data: st.DataObject
) -> None:
    with tampering(engine) as connection:
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


def action(day: date, kind: str, value: float, ticker: str = "A") -> pd.DataFrame:
    row = {"ticker": ticker, "ex_date": day, "kind": kind, "value": value}
    return tidy_actions(pd.DataFrame([row]))


def only(days: list[date], tickers: str = "A") -> pd.DataFrame:
    """Bars of some days out of a history."""
    whole = bars(tickers)
    return whole[whole["session"].dt.date.isin(days)].reset_index(drop=True)


def fetched(frame: pd.DataFrame, *actions: pd.DataFrame) -> Fetch:
    known = pd.concat([no_actions(), *actions])
    return Fetch(frame, tidy_actions(known), currencies=dict.fromkeys(frame["ticker"], "USD"))


def store(engine: Engine, fetch: Fetch) -> StoredPrices:
    return store_prices(engine, fetch, dict.fromkeys(fetch.currencies, FIRST), "yahoo", "run 1")


def in_force(engine: Engine) -> list[tuple[date, float, float]]:
    """Session, dividend and split of the stored bars in which something takes effect."""
    stored = read_bars(engine, FIRST, LAST).query("dividends > 0 or stock_splits > 0")
    days = stored["session"].dt.date
    return list(zip(days, stored["dividends"], stored["stock_splits"], strict=True))


def test_an_action_moves_to_the_first_bar_on_or_after_its_ex_date(engine: Engine) -> None:
    split = action(DAYS[3], "split", 2.0)
    store(engine, fetched(only(DAYS[:3]), split))
    assert in_force(engine) == []
    store(engine, fetched(only(DAYS[4:6])))
    assert in_force(engine) == [(DAYS[4], 0.0, 2.0)]
    store(engine, fetched(only(DAYS[2:6]), split))
    assert in_force(engine) == [(DAYS[3], 0.0, 2.0)]
    assert revisions(engine) == [("A", DAYS[4], "stock_splits", 2.0, 0.0, "run 1")]


def test_a_withdrawn_action_is_deleted_and_revised(engine: Engine) -> None:
    store(engine, fetched(bars("A"), action(DAYS[3], "dividend", 0.5)))
    done = store(engine, fetched(only(DAYS[2:])))
    assert done == StoredPrices(Merge(), Merge(deleted=1), 1)
    assert stored_actions(engine).empty
    assert in_force(engine) == []
    assert revisions(engine) == [("A", DAYS[3], "dividends", 0.5, 0.0, "run 1")]


def test_an_action_before_the_first_bar_has_no_effect(engine: Engine) -> None:
    store(engine, fetched(only(DAYS[2:]), action(DAYS[1], "dividend", 0.5)))
    assert in_force(engine) == []
    store(engine, fetched(only(DAYS[:3]), action(DAYS[1], "dividend", 0.5)))
    assert in_force(engine) == [(DAYS[1], 0.5, 0.0)]


def test_actions_outside_the_fetch_stay(engine: Engine) -> None:
    known = [action(DAYS[1], "dividend", 0.5), action(DAYS[8], "split", 3.0)]
    store(engine, fetched(bars("AB"), *known))
    store(engine, fetched(only(DAYS[3:6])))
    store(engine, fetched(bars("B")))
    assert in_force(engine) == [(DAYS[1], 0.5, 0.0), (DAYS[8], 0.0, 3.0)]
    pd.testing.assert_frame_equal(stored_actions(engine), tidy_actions(pd.concat(known)))


def test_dividends_of_one_bar_are_added_and_splits_multiplied(engine: Engine) -> None:
    actions = [
        action(DAYS[2], "split", 2.0),
        action(DAYS[3], "split", 3.0),
        action(DAYS[2], "dividend", 0.25),
        action(DAYS[3], "dividend", 0.5),
    ]
    store(engine, fetched(only([*DAYS[:2], *DAYS[4:]]), *actions))
    assert in_force(engine) == [(DAYS[4], 0.75, 6.0)]


ANY_ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(DAYS[1:]),
        st.sampled_from(["dividend", "split"]),
        st.sampled_from([0.25, 0.5, 2.0, 3.0]),
    ),
    max_size=4,
    unique_by=lambda row: row[:2],
)


@settings(max_examples=SLOW_EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ANY_ACTIONS, st.sets(st.sampled_from(DAYS[1:-1])), st.permutations(range(3)))
def test_stored_effects_equal_those_of_the_whole_history(
    engine: Engine, given: list[tuple[date, str, float]], halted: set[date], order: list[int]
) -> None:
    with tampering(engine) as connection:
        connection.execute(text("TRUNCATE raw_stock_data, corporate_actions"))
    actions = pd.concat([no_actions(), *(action(*row) for row in given)])
    whole = bars("A", [day for day in DAYS if day not in halted])
    spans = [(0, 8), (5, 14), (10, len(DAYS) - 1)]
    for first, last in (spans[number] for number in order):
        start, end = pd.Timestamp(DAYS[first]), pd.Timestamp(DAYS[last])
        part = whole[whole["session"].between(start, end)]
        known = actions[actions["ex_date"].between(start, end)]
        store(engine, fetched(part, known))
    pd.testing.assert_frame_equal(
        read_bars(engine, FIRST, LAST), attach(whole, tidy_actions(actions)), check_exact=True
    )
    pd.testing.assert_frame_equal(stored_actions(engine), tidy_actions(actions))


def test_read_revisions_returns_those_of_a_run(engine: Engine) -> None:
    store_bars(engine, bars("A"), "sample", "run 1")
    store_bars(engine, bars("A", close=50.0), "sample", "run 2")
    assert read_revisions(engine, "run 1").empty
    shown = read_revisions(engine, "run 2")
    assert len(shown) == 4 * len(DAYS)
    assert shown["session"].dt.date.iloc[0] == DAYS[0]


def test_stored_histories_describes_each_ticker(engine: Engine) -> None:
    store(engine, fetched(bars("A", DAYS[2:5])))
    empty = Fetch(empty_bars(), no_actions(), currencies={"B": "EUR"})
    store_prices(engine, empty, {"B": DAYS[4]}, "yahoo")
    store_prices(engine, empty, {"B": DAYS[2]}, "yahoo")
    store_prices(engine, empty, {"B": DAYS[6]}, "yahoo")
    assert stored_histories(engine) == {
        "A": StoredHistory(DAYS[2], DAYS[4], FIRST, "USD"),
        "B": StoredHistory(None, None, DAYS[2], "EUR"),
    }


def test_reset_fetch_start_keeps_the_bars(engine: Engine) -> None:
    store(engine, fetched(bars("AB")))
    assert reset_fetch_start(engine, ["B", "C"]) == ["B"]
    assert list(stored_histories(engine)) == ["A"]
    assert len(read_bars(engine, FIRST, LAST)) == 2 * len(DAYS)
