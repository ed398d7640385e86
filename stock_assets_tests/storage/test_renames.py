"""Renames: one history under the new name; a repetition changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, event, select, text

from stock_assets.config import Rename
from stock_assets.market import calendar
from stock_assets.market.bars import empty_bars, tidy
from stock_assets.market.corporate_actions import ACTION_COLUMNS, attach, no_actions, tidy_actions
from stock_assets.market.sources.base import Fetch
from stock_assets.storage.forecasts import predictions_as_of, save_performance, save_predictions
from stock_assets.storage.prices import read_bars, store_prices, stored_histories
from stock_assets.storage.quarantine import quarantine, read_quarantine
from stock_assets.storage.renames import apply_renames
from stock_assets.storage.tables import metadata
from stock_assets_tests.properties import SLOW_EXAMPLES
from stock_assets_tests.storage.examples import (
    DATASET,
    DAYS,
    bars,
    forecasts,
    store_bars,
    stored_actions,
)
from stock_assets_tests.tampering import empty

OLD, NEW, SINCE = "FB", "META", DAYS[10]
RENAME = Rename(old=OLD, new=NEW, first_session=SINCE)
TABLES = (
    "raw_stock_data",
    "corporate_actions",
    "instruments",
    "price_revisions",
    "quarantined_bars",
    "predictions",
    "model_performance_log",
    "ticker_renames",
)
LATER = {
    "dagster_run_id",
    "fetched_at",
    "recorded_at",
    "first_fetched_at",
    "revised_at",
    "quarantined_at",
    "predicted_at",
    "evaluated_at",
    "applied_at",
    "id",
    "issue",
}
"""Columns of provenance."""


def facts(engine: Engine, *without: str) -> dict[str, list[tuple[Any, ...]]]:
    """The content of the tables without provenance."""
    found = {}
    with engine.connect() as connection:
        for name in set(TABLES) - set(without):
            columns = [column for column in metadata.tables[name].c if column.name not in LATER]
            rows = connection.execute(select(*columns))
            found[name] = sorted((tuple(row) for row in rows), key=repr)
    return found


def row_versions(engine: Engine) -> list[tuple[Any, ...]]:
    """The place of each row; a rewritten row has another place."""
    with engine.connect() as connection:
        return [
            tuple(row)
            for name in TABLES
            for row in connection.execute(text(f"SELECT '{name}', ctid, xmin FROM {name}"))
        ]


def tickers(engine: Engine, table: str) -> set[str]:
    with engine.connect() as connection:
        return set(connection.scalars(text(f"SELECT ticker FROM {table}")))


def scores(days: Sequence[date], ticker: str) -> pd.DataFrame:
    """Scored forecasts of one ticker on `days`."""
    numbers = (
        *("actual", "predicted", "persistence", "lower", "upper", "absolute_error"),
        *("absolute_percentage_error", "squared_error", "persistence_absolute_error"),
        *("direction_hit", "covered"),
    )
    return pd.DataFrame(
        {
            "session": pd.to_datetime(list(days)),
            "as_of_session": pd.to_datetime([calendar.previous_session(day) for day in days]),
            "ticker": ticker,
            "horizon": 1,
            "model_version": 1,
            "dataset_run_id": DATASET,
            "mlflow_run_id": "abc",
        }
    ).assign(**{name: float(place) for place, name in enumerate(numbers)})


def named(frame: pd.DataFrame, ticker: str) -> pd.DataFrame:
    return frame.assign(ticker=ticker)


def closes(engine: Engine, ticker: str) -> dict[date, float]:
    found = read_bars(engine, DAYS[0], DAYS[-1], [ticker])
    return dict(zip(found["session"].dt.date, found["close"], strict=True))


def test_apply_renames_continues_the_history_under_the_new_name(engine: Engine) -> None:
    store_bars(engine, named(bars("A", DAYS[:10]), OLD))
    store_bars(engine, named(bars("A", DAYS[10:], close=200.0), NEW))
    assert apply_renames(engine, [RENAME], "rename") == {RENAME: 10}
    assert tickers(engine, "raw_stock_data") == {NEW}
    assert list(closes(engine, NEW)) == DAYS
    known = stored_histories(engine)
    assert list(known) == [NEW]
    assert (known[NEW].first_session, known[NEW].fetched_from) == (DAYS[0], DAYS[0])
    with engine.connect() as connection:
        (applied,) = connection.execute(text("SELECT * FROM ticker_renames")).mappings()
    assert dict(applied) | {"applied_at": None} == {
        "old_ticker": OLD,
        "new_ticker": NEW,
        "first_session": SINCE,
        "rows": 10,
        "dagster_run_id": "rename",
        "applied_at": None,
    }


def test_only_declared_renames_are_applied(engine: Engine) -> None:
    store_bars(engine, named(bars("A", DAYS[:10]), OLD))
    store_bars(engine, named(bars("A"), NEW))
    before = row_versions(engine)
    assert apply_renames(engine, []) == {}
    other = Rename(old="IBM", new=NEW, first_session=SINCE)
    assert apply_renames(engine, [other]) == {}
    assert row_versions(engine) == before


def test_without_rows_to_move_one_query_and_no_lock_is_needed(engine: Engine) -> None:
    store_bars(engine, named(bars("A"), NEW))
    statements: list[str] = []

    def note(*given: Any) -> None:
        statements.append(given[2])

    event.listen(engine, "before_cursor_execute", note)
    apply_renames(engine, [RENAME])
    event.remove(engine, "before_cursor_execute", note)
    assert len(statements) == 1
    assert statements[0].startswith("SELECT")


def test_apply_renames_keeps_the_row_of_the_new_name(engine: Engine) -> None:
    store_bars(engine, named(bars("A", DAYS[:8], close=50.0), OLD))
    store_bars(engine, named(bars("A", DAYS[4:], close=200.0), NEW))
    made = [
        named(forecasts(days, "A", price=price), ticker)
        for ticker, days, price in ((OLD, DAYS[5:8], 51.0), (NEW, DAYS[6:8], 201.0))
    ]
    save_predictions(engine, pd.concat(made), DAYS[5:8], 1)
    save_performance(
        engine,
        pd.concat([scores(DAYS[6:8], OLD), scores(DAYS[7:8], NEW).assign(actual=9.0)]),
        DAYS[6:8],
        "run",
    )
    apply_renames(engine, [RENAME])
    found = closes(engine, NEW)
    assert list(found) == DAYS
    assert max(found[day] for day in DAYS[:4]) < 100 < min(found[day] for day in DAYS[4:])
    predicted = predictions_as_of(engine, DAYS)["predicted_price"]
    assert predicted.tolist() == [51.0, 201.0, 201.0]
    assert tickers(engine, "predictions") == {NEW}
    with engine.connect() as connection:
        query = "SELECT ticker, actual FROM model_performance_log ORDER BY session"
        assert [tuple(row) for row in connection.execute(text(query))] == [(NEW, 0.0), (NEW, 9.0)]


def test_apply_renames_leaves_the_rows_of_a_reused_symbol(engine: Engine) -> None:
    store_bars(engine, named(bars("A", DAYS[:10]), OLD))
    store_bars(engine, named(bars("A", DAYS[12:], close=7.0), OLD))
    apply_renames(engine, [RENAME])
    assert list(closes(engine, NEW)) == DAYS[:10]
    assert list(closes(engine, OLD)) == DAYS[12:]
    assert set(stored_histories(engine)) == {OLD, NEW}

    # A source that still shows the first company's bars under the symbol changes nothing.
    store_bars(engine, named(bars("A", close=7.0), OLD))
    before = closes(engine, NEW)
    apply_renames(engine, [RENAME])
    assert closes(engine, NEW) == before
    assert list(closes(engine, OLD)) == DAYS[10:]


def test_a_renamed_symbol_without_bars_is_new(engine: Engine) -> None:
    store_bars(engine, named(bars("A", DAYS[:10]), OLD))
    apply_renames(engine, [RENAME])
    listed_later = Fetch(empty_bars(), no_actions(), currencies={OLD: "USD"})
    store_prices(engine, listed_later, {OLD: DAYS[0]}, "sample")
    before = row_versions(engine)
    assert apply_renames(engine, [RENAME]) == {}
    assert row_versions(engine) == before
    assert stored_histories(engine)[OLD].first_session is None


CHAIN = [
    Rename(old="A", new="B", first_session=DAYS[5]),
    Rename(old="B", new="C", first_session=DAYS[12]),
]


@pytest.mark.parametrize("renames", [CHAIN, CHAIN[::-1]])
def test_apply_renames_follows_a_chain(engine: Engine, renames: list[Rename]) -> None:
    store_bars(engine, bars("A", DAYS[:5]))
    store_bars(engine, bars("B", DAYS[5:12]))
    store_bars(engine, bars("C", DAYS[12:]))
    assert apply_renames(engine, renames) == {CHAIN[0]: 5, CHAIN[1]: 12}
    assert list(closes(engine, "C")) == DAYS
    assert list(stored_histories(engine)) == ["C"]
    assert apply_renames(engine, renames) == {}


def test_apply_renames_of_one_symbol_twice(engine: Engine) -> None:
    twice = [
        Rename(old="A", new="B", first_session=DAYS[5]),
        Rename(old="A", new="C", first_session=DAYS[12]),
    ]
    store_bars(engine, bars("A"))
    apply_renames(engine, twice)
    assert [list(closes(engine, name)) for name in "ABC"] == [DAYS[12:], DAYS[:5], DAYS[5:12]]
    assert apply_renames(engine, twice) == {}


def test_apply_renames_moves_and_counts_late_rows(engine: Engine) -> None:
    store_bars(engine, named(bars("A", DAYS[:4]), OLD))
    apply_renames(engine, [RENAME], "first")
    store_bars(engine, named(bars("A", DAYS[4:10]), OLD))
    assert apply_renames(engine, [RENAME], "second") == {RENAME: 6}
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT rows FROM ticker_renames")) == 10
    assert list(closes(engine, NEW)) == DAYS[:10]


def test_apply_renames_moves_revisions_and_quarantine(engine: Engine) -> None:
    store_bars(engine, named(bars("A", DAYS[:10]), OLD))
    store_bars(engine, named(bars("A", DAYS[:1], close=99.0), OLD), "sample", "changed")
    keep_apart(engine, OLD, DAYS[3:4])
    apply_renames(engine, [RENAME])
    assert tickers(engine, "price_revisions") == tickers(engine, "quarantined_bars") == {NEW}
    assert read_quarantine(engine)["session"].dt.date.tolist() == DAYS[3:4]


def keep_apart(engine: Engine, ticker: str, days: list[date]) -> None:
    """Put a ticker's bars of some days in quarantine."""
    broken = named(bars("A", days), ticker)
    findings = broken[["ticker", "session"]].assign(rule="low is above open or close", detail="x")
    quarantine(engine, broken, findings, "sample")


def test_an_action_takes_effect_in_the_first_bar_under_the_new_name(engine: Engine) -> None:
    """A halt lies between the last bar of the old name and the first of the new one."""
    action = {"ticker": OLD, "ex_date": DAYS[9], "kind": "split", "value": 4.0}
    known = named(bars("A", DAYS[:8]), OLD)
    split = tidy_actions(pd.DataFrame([action]))
    store_prices(engine, Fetch(known, split, {}, {OLD: "USD"}), {OLD: DAYS[0]}, "sample")
    store_bars(engine, named(bars("A", DAYS[10:]), NEW))
    apply_renames(engine, [RENAME])
    assert stored_actions(engine)["ticker"].tolist() == [NEW]
    found = read_bars(engine, DAYS[0], DAYS[-1]).query("stock_splits > 0")
    assert found[["session", "stock_splits"]].values.tolist() == [[pd.Timestamp(DAYS[10]), 4.0]]


@dataclass(frozen=True)
class History:
    """The history of one company.

    Attributes
    ----------
    missing : set of int
        Sessions without a bar, by position.
    actions : dict of (int, str) to float
        Values of actions, by position of the ex-date and kind.
    refused, forecast : set of int
        Sessions whose bar went into quarantine, or that were forecast and scored.
    """

    missing: set[int]
    actions: dict[tuple[int, str], float]
    refused: set[int]
    forecast: set[int]


places = st.integers(0, len(DAYS) - 1)
histories = st.builds(
    History,
    missing=st.sets(places, max_size=8),
    actions=st.dictionaries(
        st.tuples(places, st.sampled_from(["dividend", "split"])), st.sampled_from([0.5, 2.0])
    ),
    refused=st.sets(places, max_size=5),
    forecast=st.sets(places, max_size=8),
)


def store_part(engine: Engine, history: History, ticker: str, first: int, stop: int) -> None:
    """Store the bars and actions of the sessions `first` to `stop`, and a revision of them."""
    there = [DAYS[place] for place in range(first, stop) if place not in history.missing]
    if not there:
        return
    whole = bars("A")
    part = named(tidy(whole[whole["session"].dt.date.isin(there)]), ticker)
    rows = [
        {"ticker": ticker, "ex_date": pd.Timestamp(DAYS[place]), "kind": kind, "value": value}
        for (place, kind), value in history.actions.items()
        if first <= place < stop
    ]
    actions = tidy_actions(pd.DataFrame(rows, columns=list(ACTION_COLUMNS)))
    answer = Fetch(attach(part, actions), actions, {}, {ticker: "USD"})
    start = {ticker: DAYS[first]}
    # A close is corrected, so that there is a revision.
    draft = answer.bars.assign(close=answer.bars["close"].where(answer.bars.index > 0, 99.9))
    store_prices(engine, Fetch(draft, actions, {}, {ticker: "USD"}), start, "sample")
    store_prices(engine, answer, start, "sample")
    refused = [DAYS[place] for place in history.refused if first <= place < stop]
    if refused:
        keep_apart(engine, ticker, refused)


def store_forecasts(engine: Engine, history: History, names: Sequence[str]) -> None:
    """Store forecasts and scores, each session under its own name."""
    for ticker in set(names):
        days = [DAYS[place] for place in sorted(history.forecast) if names[place] == ticker]
        if days:
            save_predictions(engine, named(forecasts(days, "A"), ticker), days, 1)
            save_performance(engine, scores(days, ticker), days, "run")


@settings(max_examples=SLOW_EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(histories, places, places, st.booleans())
def test_a_renamed_history_equals_one_stored_under_the_new_name(
    engine: Engine, history: History, one: int, other: int, at_once: bool
) -> None:
    """The new name's part may begin before the rename, and be stored before or after it."""
    begin, since = sorted((one, other))
    names = [OLD] * since + [NEW] * (len(DAYS) - since)
    rename = Rename(old=OLD, new=NEW, first_session=DAYS[since])

    empty(engine)
    store_part(engine, history, NEW, 0, since)
    store_part(engine, history, NEW, begin, len(DAYS))
    store_forecasts(engine, history, [NEW] * len(DAYS))
    always = facts(engine, "ticker_renames", "price_revisions")

    empty(engine)
    store_part(engine, history, OLD, 0, since)
    if at_once:
        apply_renames(engine, [rename])
    store_part(engine, history, NEW, begin, len(DAYS))
    store_forecasts(engine, history, names)
    apply_renames(engine, [rename])
    assert facts(engine, "ticker_renames", "price_revisions") == always
    assert OLD not in tickers(engine, "price_revisions")

    before = row_versions(engine)
    assert apply_renames(engine, [rename]) == {}
    assert row_versions(engine) == before
