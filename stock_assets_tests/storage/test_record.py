"""The record: every state of a row is kept, links are chained, and a moment can be read again."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest
from sqlalchemy import Engine, Text, cast, func, insert, select, text
from sqlalchemy.exc import DBAPIError

from stock_assets.core.errors import StockAssetsError
from stock_assets.storage import record
from stock_assets.storage.datasets import save_panel, save_scalers
from stock_assets.storage.histories import HISTORIES
from stock_assets.storage.prices import read_bars
from stock_assets.storage.record import (
    FIRST_DIGEST,
    as_known,
    head,
    link_at,
    link_digest,
)
from stock_assets.storage.tables import (
    raw_stock_data,
    record_links,
    scalers,
    ticker_renames,
)
from stock_assets_tests.storage.examples import DATASET, DAYS, bars, panel, store_bars
from stock_assets_tests.tampering import tampering

RENAMED = {"old_ticker": "X", "new_ticker": "Y", "first_session": DAYS[3]}


def links(engine: Engine) -> list[dict[str, object]]:
    with engine.connect() as connection:
        found = connection.execute(select(record_links).order_by(record_links.c.link))
        return [dict(row) for row in found.mappings()]


def raised(bars: pd.DataFrame, by: float = 1.0) -> pd.DataFrame:
    """The same bars at higher prices."""
    prices = ["open", "high", "low", "close"]
    return bars.assign(**{name: bars[name] + by for name in prices})


def test_a_transaction_that_changes_nothing_adds_no_link(engine: Engine) -> None:
    store_bars(engine, bars())
    store_bars(engine, bars())
    assert [link["link"] for link in links(engine)] == [1]


def test_links_are_chained_by_digests(engine: Engine) -> None:
    for by in range(3):
        store_bars(engine, raised(bars(), by))
    found = links(engine)
    digests = [str(link["digest"]) for link in found]
    assert [link["previous"] for link in found] == [FIRST_DIGEST, *digests[:-1]]
    assert [link_digest(link) for link in found] == digests
    newest = head(engine)
    assert newest is not None
    assert (newest.number, newest.digest) == (3, digests[-1])


def test_a_link_names_its_tables_and_run(engine: Engine) -> None:
    store_bars(engine, bars(), run_id="the run")
    (link,) = links(engine)
    tables: dict[str, dict[str, object]] = link["tables"]  # type: ignore[assignment]
    assert link["dagster_run_id"] == "the run"
    assert tables.keys() == {"raw_stock_data", "instruments"}
    assert tables["raw_stock_data"]["rows"] == len(bars())


def test_times_increase_even_if_the_clock_goes_back(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    store_bars(engine, bars())
    with tampering(engine) as connection:
        connection.execute(text("UPDATE record_links SET written_at = now() + interval '1 hour'"))
    ahead = head(engine)
    store_bars(engine, raised(bars()))
    newest = head(engine)
    assert ahead is not None
    assert newest is not None
    assert newest.written_at == ahead.written_at + timedelta(microseconds=1)
    assert f"behind link {ahead.number}" in caplog.text


@pytest.mark.parametrize("table", [*HISTORIES, *HISTORIES.values(), record_links])
def test_rows_change_only_within_the_record(engine: Engine, table: object) -> None:
    name = table.name  # type: ignore[attr-defined]
    with pytest.raises(DBAPIError, match=r"record|append-only"), engine.begin() as connection:
        connection.execute(text(f"TRUNCATE {name} CASCADE"))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE raw_stock_data SET close = close + 1",
        "DELETE FROM raw_stock_data",
        "INSERT INTO corporate_actions VALUES ('A', '2013-01-02', 'dividend', 1, 'csv')",
        "UPDATE raw_stock_data_history SET close = close + 1",
        "DELETE FROM raw_stock_data_history",
        "UPDATE record_links SET note = 'changed'",
        "DELETE FROM record_links",
    ],
)
def test_statements_that_bypass_the_record_are_refused(engine: Engine, statement: str) -> None:
    store_bars(engine, bars())
    with pytest.raises(DBAPIError, match=r"record|append-only"), engine.begin() as connection:
        connection.execute(text(statement))


@pytest.mark.parametrize("number", [1, 2, 3])
def test_only_the_open_link_gets_rows(engine: Engine, number: int) -> None:
    store_bars(engine, bars())
    forged = (
        "INSERT INTO corporate_actions_history VALUES "
        f"('A', '2013-01-02', 'dividend', 1, 'csv', NULL, now(), {number}, false)"
    )
    with pytest.raises(DBAPIError, match=r"outside the record"), engine.begin() as connection:
        connection.execute(text(forged))
    with pytest.raises(DBAPIError, match=r"complete|outside"), record.recording(engine) as opened:
        opened.execute(text("SELECT set_config('stock_assets.link', '1', true)"))
        opened.execute(text(forged))


def test_rows_of_a_link_to_come_stop_the_next_writer(engine: Engine) -> None:
    store_bars(engine, bars())
    with tampering(engine) as connection:
        connection.execute(
            text(
                "INSERT INTO corporate_actions_history VALUES "
                "('A', '2013-01-02', 'dividend', 1, 'csv', NULL, now(), 2, false)"
            )
        )
    with pytest.raises(StockAssetsError, match="corporate_actions_history has rows of link 2"):
        store_bars(engine, raised(bars()))


def test_states_that_differ_as_text_are_two_states(engine: Engine) -> None:
    save_panel(engine, panel(DATASET))
    save_scalers(engine, DATASET, {"scale": 0}, {}, "d")
    save_scalers(engine, DATASET, {"scale": 0.0}, {}, "d")
    with engine.connect() as connection:
        history = HISTORIES[scalers]
        states = connection.scalars(select(cast(history.c.features, Text)).order_by(history.c.link))
        assert list(states) == ['{"scale": 0}', '{"scale": 0.0}']


def waits_for_a_lock(engine: Engine, call: Future[Any]) -> bool:
    """Whether a call is kept waiting by the database before it is done."""
    waiting = text(
        "SELECT FROM pg_stat_activity "
        "WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    while not call.done():
        with engine.connect() as connection:
            if connection.execute(waiting).first() is not None:
                return True
    return False


def test_a_second_writer_waits_and_gets_a_later_time(engine: Engine) -> None:
    with ThreadPoolExecutor(1) as pool, record.recording(engine) as first:
        second = pool.submit(store_bars, engine, bars())
        assert waits_for_a_lock(engine, second)
        first.execute(text("DELETE FROM raw_stock_data"))
        first.execute(insert(ticker_renames), {**RENAMED, "rows": 1})
    found = links(engine)
    assert second.result().bars.inserted == len(bars())
    assert [list(link["tables"]) for link in found] == [  # type: ignore[call-overload]
        ["ticker_renames"],
        ["instruments", "raw_stock_data"],
    ]
    assert found[0]["written_at"] < found[1]["written_at"]  # type: ignore[operator]


def test_a_reader_waits_for_a_writer_only_if_its_moment_is_not_past(engine: Engine) -> None:
    store_bars(engine, bars())
    newest = head(engine)
    assert newest is not None
    with ThreadPoolExecutor(1) as pool, record.recording(engine) as writing:
        assert link_at(engine, newest.written_at) == 1
        now: datetime = writing.execute(select(func.clock_timestamp())).scalar_one()
        reader = pool.submit(link_at, engine, now)
        assert waits_for_a_lock(engine, reader)
        writing.execute(insert(ticker_renames), {**RENAMED, "rows": 1})
    assert reader.result() == 2


def test_recording_within_recording_is_an_error(engine: Engine) -> None:
    with record.recording(engine), pytest.raises(RuntimeError), record.recording(engine):
        pass


def test_a_moment_outside_the_record_is_refused(engine: Engine) -> None:
    now = datetime.now(UTC)
    with pytest.raises(StockAssetsError, match="no time zone"):
        link_at(engine, now.replace(tzinfo=None))
    with pytest.raises(StockAssetsError, match="nothing is stored yet"):
        link_at(engine, now)
    store_bars(engine, bars())
    with pytest.raises(StockAssetsError, match="the record begins at"):
        link_at(engine, now)
    with pytest.raises(StockAssetsError, match="in the future"):
        link_at(engine, now + timedelta(days=1))


def test_an_installation_without_a_record_is_adopted_once(engine: Engine) -> None:
    store_bars(engine, bars())
    with tampering(engine) as connection:
        connection.execute(
            text("TRUNCATE record_links, raw_stock_data_history, instruments_history")
        )
    record.adopt(engine)
    record.adopt(engine)
    (link,) = links(engine)
    assert link["note"] == record.ADOPTED
    newest = head(engine)
    assert newest is not None
    pd.testing.assert_frame_equal(
        read_bars(engine, DAYS[0], DAYS[-1], known_at=newest.written_at),
        read_bars(engine, DAYS[0], DAYS[-1]),
    )


def test_a_removed_row_is_known_until_it_was_removed(engine: Engine) -> None:
    store_bars(engine, bars())
    with record.recording(engine) as writing:
        writing.execute(text("DELETE FROM raw_stock_data"))
    with engine.connect() as connection:
        known = [len(connection.execute(as_known(raw_stock_data, n)).all()) for n in (1, 2)]
    assert known == [len(bars()), 0]
