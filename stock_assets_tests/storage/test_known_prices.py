"""What was known at a moment: it equals a copy taken then, and since when it had been known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, delete, select

from stock_assets.config import Rename
from stock_assets.market.bars import TRADED_COLUMNS
from stock_assets.storage.database import copy_out
from stock_assets.storage.forecasts import save_predictions
from stock_assets.storage.histories import HISTORIES
from stock_assets.storage.known_prices import read_currency, read_ticker
from stock_assets.storage.prices import read_bars, reset_fetch_start
from stock_assets.storage.record import as_known, head, link_at, recorded_columns, recording
from stock_assets.storage.renames import apply_renames
from stock_assets.storage.tables import (
    corporate_actions,
    forecast_issues,
    instruments,
    predictions,
    raw_stock_data,
    ticker_renames,
)
from stock_assets_tests.properties import SLOW_EXAMPLES
from stock_assets_tests.storage.examples import DAYS, bars, forecasts, store_bars
from stock_assets_tests.tampering import empty

TABLES = (
    *(raw_stock_data, corporate_actions, instruments, ticker_renames),
    *(predictions, forecast_issues),
)
RENAME = Rename(old="A", new="Z", first_session=DAYS[12])
PAID = DAYS[8]


def paying(frame: pd.DataFrame, dividend: float, ticker: str = "A") -> pd.DataFrame:
    """The same bars, with a dividend in the middle."""
    at = (frame["ticker"] == ticker) & (frame["session"] == pd.Timestamp(PAID))
    return frame.assign(dividends=frame["dividends"].where(~at, dividend))


def store(engine: Engine, number: int) -> None:
    """Store bars and actions that depend on a number: others revise, add, withdraw and rename."""
    first, last, name = number % 5, len(DAYS) - number % 3, "AAZ"[number % 7 % 3]
    frame = bars(name + "B", DAYS[first:last], close=100.1 + number % 4 // 2)
    frame = paying(frame, 1.0 + number % 3, name) if number % 2 else frame
    store_bars(engine, frame, source=f"source {number % 2}", run_id=str(number))


def rename(engine: Engine, number: int) -> None:
    apply_renames(engine, [RENAME])


def forecast(engine: Engine, number: int) -> None:
    """Issue forecasts of A, B or both by a version: others differ, or are withdrawn."""
    made = forecasts(DAYS[9:10], ("A", "B", "AB")[number % 3], 1 + number % 2, 100.0 + number % 4)
    save_predictions(engine, made, DAYS[9:10], 1 + number % 2)


def refetch(engine: Engine, number: int) -> None:
    reset_fetch_start(engine, ["A", "Z"])


STEPS = st.lists(
    st.tuples(st.sampled_from([store, store, rename, forecast, refetch]), st.integers(0, 20)),
    max_size=5,
)


@dataclass(frozen=True)
class Copy:
    """The tables at a moment, and the bars as a reader got them."""

    moment: datetime
    tables: list[pd.DataFrame]
    bars: pd.DataFrame


def copy(engine: Engine) -> Copy:
    newest = head(engine)
    assert newest is not None
    with engine.connect() as connection:
        tables = [
            copy_out(
                connection,
                select(*(table.c[name] for name in recorded_columns(HISTORIES[table]))).order_by(
                    *table.primary_key
                ),
            )
            for table in TABLES
        ]
    return Copy(newest.written_at, tables, read_bars(engine, DAYS[0], DAYS[-1]))


def known(engine: Engine, moment: datetime) -> Copy:
    link = link_at(engine, moment)
    with engine.connect() as connection:
        tables = [copy_out(connection, as_known(table, link)) for table in TABLES]
    return Copy(moment, tables, read_bars(engine, DAYS[0], DAYS[-1], known_at=moment))


Fact = tuple[object, ...] | None


def bar(copied: Copy, ticker: str, day: date) -> Fact:
    return _fact(copied.tables[0], ticker, TRADED_COLUMNS, "session", day)


def dividend(copied: Copy, ticker: str, day: date) -> Fact:
    return _fact(copied.tables[1], ticker, ["value"], "ex_date", day)


def currency(copied: Copy, ticker: str, day: date) -> Fact:
    return _fact(copied.tables[2], ticker, ["currency"])


def _fact(
    table: pd.DataFrame,
    ticker: str,
    values: Sequence[str],
    column: str | None = None,
    day: date | None = None,
) -> Fact:
    rows = table[table["ticker"] == ticker]
    if column is not None:
        rows = rows[rows[column] == pd.Timestamp(str(day))]
    return None if rows.empty else tuple(rows[list(values)].iloc[0])


def since(
    copies: list[Copy], fact: Callable[[Copy, str, date], Fact], ticker: str, day: date
) -> datetime | None:
    """Find in copies since when a fact of the last one had been known, also as one of A."""
    *earlier, last = copies
    if fact(last, ticker, day) is None:
        return None
    renamed = ticker == "Z" and not last.tables[3].empty and day < RENAME.first_session
    found = last.moment
    for number, copied in reversed(list(enumerate(earlier))):
        then = fact(copied, ticker, day)
        had_it = any(fact(other, ticker, day) for other in earlier[:number])
        if then is None and renamed and not had_it:
            then = fact(copied, "A", day)
        if then != fact(last, ticker, day):
            break
        found = copied.moment
    return found


def check(engine: Engine, steps: list[tuple[Callable[[Engine, int], None], int]]) -> None:
    """Take the steps, copy the tables after each, and compare the copies with the record."""
    empty(engine)
    copies = []
    for step, number in [(store, 0), *steps]:
        step(engine, number)
        copies.append(copy(engine))
    for number, copied in enumerate(copies):
        then = known(engine, copied.moment)
        for one, other in zip(then.tables, copied.tables, strict=True):
            pd.testing.assert_frame_equal(one, other)
        pd.testing.assert_frame_equal(then.bars, copied.bars)
        for ticker in "AZ":
            check_times(engine, copies[: number + 1], ticker)


def check_times(engine: Engine, copies: list[Copy], ticker: str) -> None:
    link = link_at(engine, copies[-1].moment)
    shown = read_ticker(engine, ticker, link, "raw").set_index("session")
    for day in (DAYS[6], PAID, DAYS[15]):
        found = shown["known_since"].get(pd.Timestamp(day))
        assert found == since(copies, bar, ticker, day)
    if pd.Timestamp(PAID) in shown.index:
        paid = shown["actions_known_since"][pd.Timestamp(PAID)]
        assert (None if pd.isna(paid) else paid) == since(copies, dividend, ticker, PAID)
    held = read_currency(engine, ticker, link)
    assert (held and held[1]) == since(copies, currency, ticker, DAYS[0])


@settings(max_examples=SLOW_EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS)
def test_what_was_known_equals_a_copy_taken_then(
    engine: Engine, steps: list[tuple[Callable[[Engine, int], None], int]]
) -> None:
    check(engine, steps)


@pytest.mark.long
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS)
def test_what_was_known_equals_a_copy_taken_then_in_many_orders(
    engine: Engine, steps: list[tuple[Callable[[Engine, int], None], int]]
) -> None:
    check(engine, steps)


@pytest.mark.parametrize("first", [DAYS[7], DAYS[8], DAYS[9]])
def test_known_bars_are_those_of_the_table_from_any_session(engine: Engine, first: date) -> None:
    store_bars(engine, paying(bars("AB"), 2.0))
    newest = head(engine)
    assert newest is not None
    pd.testing.assert_frame_equal(
        read_bars(engine, first, DAYS[-1], ["A"], newest.written_at),
        read_bars(engine, first, DAYS[-1], ["A"]),
    )


def times(engine: Engine, ticker: str = "A") -> tuple[datetime, datetime | None, datetime]:
    """Return since when the bar with the dividend, the dividend and the currency are known."""
    newest = head(engine)
    assert newest is not None
    bar = read_ticker(engine, ticker, newest.number, "raw").set_index("session").loc[str(PAID)]
    held = read_currency(engine, ticker, newest.number)
    assert held is not None
    paid = bar["actions_known_since"]
    return bar["known_since"], None if pd.isna(paid) else paid, held[1]


def test_another_source_or_name_changes_nothing_that_was_known(engine: Engine) -> None:
    store_bars(engine, paying(bars("A"), 2.0))
    first = times(engine)
    assert len(set(first)) == 1
    store_bars(engine, paying(bars("A"), 2.0), source="another")
    assert times(engine) == first
    apply_renames(engine, [Rename(old="A", new="Y", first_session=date(2013, 2, 1))])
    apply_renames(engine, [Rename(old="Y", new="Z", first_session=date(2013, 2, 4))])
    assert times(engine, "Z") == first


def test_a_revision_is_known_since_it_was_stored(engine: Engine) -> None:
    store_bars(engine, paying(bars("A"), 2.0))
    first = times(engine)
    store_bars(engine, paying(bars("A"), 2.5))
    dividend = times(engine)
    assert (dividend[0], dividend[2]) == (first[0], first[2])
    assert dividend[1] > first[1]
    store_bars(engine, paying(bars("A", close=101.0), 2.5))
    bar = times(engine)
    assert bar[0] > dividend[1]
    assert bar[1:] == dividend[1:]


def test_a_dividend_that_was_withdrawn_is_known_since_it_came_back(engine: Engine) -> None:
    store_bars(engine, paying(bars("A"), 2.0))
    first = times(engine)
    store_bars(engine, bars("A"))
    assert times(engine)[1] is None
    store_bars(engine, paying(bars("A"), 2.0))
    assert times(engine)[1] > first[1]


def test_an_action_of_a_removed_bar_has_its_effect_on_the_next(engine: Engine) -> None:
    store_bars(engine, paying(bars("A"), 1.0))
    with recording(engine) as writing:
        writing.execute(delete(raw_stock_data).where(raw_stock_data.c.session == PAID))
    newest = head(engine)
    assert newest is not None
    known = read_bars(engine, DAYS[9], DAYS[-1], known_at=newest.written_at)
    assert known["dividends"].tolist() == [1.0] + [0.0] * len(DAYS[10:])
