"""Issues of forecasts: each result once, the first live one scored, nothing served is lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Double, Engine, select, text

from stock_assets.config import Rename
from stock_assets.evaluation.forecast_issues import Issued, Reason
from stock_assets.market import calendar
from stock_assets.storage.forecast_issues import Issue
from stock_assets.storage.forecasts import (
    forecasts_due,
    predictions_as_of,
    read_performance,
    save_performance,
    save_predictions,
)
from stock_assets.storage.histories import HISTORIES
from stock_assets.storage.record import head
from stock_assets.storage.renames import apply_renames
from stock_assets.storage.tables import forecast_issues, model_performance_log, predictions
from stock_assets_tests.storage.examples import DAYS, bars, forecasts, store_bars
from stock_assets_tests.tampering import empty, tampering

AS_OF = calendar.next_session(datetime.now(UTC).date())
TARGET = calendar.next_session(AS_OF)
"""A session that has not opened."""
OPENED = calendar.open_time(TARGET)


def move_clock(engine: Engine, moment: datetime) -> None:
    """Let the record go on at a moment, as if the database's clock had reached it."""
    with tampering(engine) as connection:
        connection.execute(
            text(
                "UPDATE record_links SET written_at = :moment "
                "WHERE link = (SELECT max(link) FROM record_links)"
            ),
            {"moment": moment - timedelta(microseconds=1)},
        )


def issue(engine: Engine, version: int = 1, **prices: float) -> None:
    """Forecast tickers as of the session; tickers without a price are left out."""
    made = [forecasts([AS_OF], [ticker], version, price) for ticker, price in prices.items()]
    frame = pd.concat(made) if made else forecasts([AS_OF]).iloc[:0]
    save_predictions(engine, frame, [AS_OF], version)


def history(engine: Engine, where: str = "true") -> list[tuple[object, ...]]:
    query = f"SELECT ticker, model_version, predicted_price, issue, issued, removed FROM \
        predictions_history WHERE {where} ORDER BY link, ticker"
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


def due(engine: Engine) -> dict[tuple[str, int], float]:
    rows = forecasts_due(engine, [TARGET])
    keys = zip(rows["ticker"], rows["model_version"], strict=True)
    return dict(zip(keys, rows["predicted_price"], strict=True))


def reasons(engine: Engine) -> list[str | None]:
    table = forecast_issues.c
    with engine.connect() as connection:
        return list(connection.scalars(select(table.reason).order_by(table.issue)))


def test_a_forecast_is_live_before_its_target_session_opens(engine: Engine) -> None:
    issue(engine, A=100.0)
    move_clock(engine, OPENED - timedelta(microseconds=1))
    issue(engine, A=101.0)
    issue(engine, A=102.0)  # a microsecond later, at the open
    issue(engine, A=103.0)  # a microsecond after it
    assert [row[2:5] for row in history(engine)] == [
        (100.0, 1, "live"),
        (101.0, 2, "live"),
        (102.0, 3, "backfilled"),
        (103.0, 4, "backfilled"),
    ]
    made = HISTORIES[predictions].c
    with engine.connect() as connection:
        times = connection.scalars(select(made.predicted_at).order_by(made.link)).all()
    assert [(moment - OPENED) // timedelta(microseconds=1) for moment in times[1:]] == [-1, 0, 1]


def test_horizons_of_one_issue_may_differ(engine: Engine) -> None:
    near = forecasts([AS_OF], "A")
    far = near.assign(horizon=2, target_session=pd.Timestamp(calendar.next_session(TARGET)))
    issue(engine, A=1.0)
    move_clock(engine, OPENED)
    save_predictions(engine, pd.concat([near, far]), [AS_OF], 1)
    found = predictions_as_of(engine, [AS_OF])
    assert found["issued"].tolist() == [Issued.BACKFILLED, Issued.LIVE]
    assert set(found["issue"]) == {2}


def test_forecasts_of_the_past_are_backfilled(engine: Engine) -> None:
    save_predictions(engine, forecasts(DAYS[:2]), DAYS[:2], 1)
    assert set(predictions_as_of(engine, DAYS[:2])["issued"]) == {Issued.BACKFILLED}


def test_an_equal_result_adds_no_row_and_no_link(engine: Engine) -> None:
    issue(engine, A=100.0, B=100.0)
    before, newest = history(engine), head(engine)
    issue(engine, A=100.0, B=100.0)
    assert history(engine) == before
    assert head(engine) == newest
    assert len(reasons(engine)) == 1


def test_a_different_result_is_another_issue_of_that_forecast(engine: Engine) -> None:
    issue(engine, A=100.0, B=100.0)
    first = predictions_as_of(engine, [AS_OF]).set_index("ticker")
    issue(engine, A=101.0, B=100.0)
    found = predictions_as_of(engine, [AS_OF]).set_index("ticker")
    assert found["issue"].to_dict() == {"A": 2, "B": 1}
    assert found["predicted_at"]["B"] == first["predicted_at"]["B"]
    newest = head(engine)
    assert newest is not None
    assert pd.Timestamp(found["predicted_at"]["A"]) == newest.written_at
    assert history(engine, "ticker = 'A'") == [
        ("A", 1, 100.0, 1, "live", False),
        ("A", 1, 101.0, 2, "live", False),
    ]
    assert reasons(engine) == [None, Reason.RERUN]


def test_each_forecast_of_a_range_has_its_own_reason(engine: Engine) -> None:
    """One changed and one new forecast in a backfill make neither of the others a rerun."""
    days = DAYS[:3]
    started = Issue(Reason.BACKFILL, started_by="ann")
    save_predictions(engine, forecasts(days[:2], "A"), days[:2], 1, issue=started)
    changed = pd.concat([forecasts(days[:1], "A", price=9.0), forecasts(days[1:], "A")])
    save_predictions(engine, pd.concat([changed, forecasts(days[2:], "B")]), days, 1, issue=started)
    with engine.connect() as connection:
        rows = connection.execute(
            text(
                "SELECT as_of_session, ticker, reason, started_by "
                "FROM predictions JOIN forecast_issues USING (issue) ORDER BY 1, 2"
            )
        ).all()
    assert [tuple(row) for row in rows] == [
        (days[0], "A", Reason.RERUN, "ann"),
        (days[1], "A", Reason.BACKFILL, "ann"),
        (days[2], "A", Reason.BACKFILL, "ann"),
        (days[2], "B", Reason.BACKFILL, "ann"),
    ]
    assert reasons(engine) == [Reason.BACKFILL, Reason.BACKFILL, Reason.RERUN]


def made_at(engine: Engine, **facts: Any) -> Issue:
    """What is issued now, from the prices known now."""
    newest = head(engine)
    known_at = None if newest is None else newest.written_at
    usual = {"params_digest": "p", "torch": "2.9", "device": "cpu", "build_environment": {"a": 1}}
    return Issue(Reason.MANUAL, **({"known_at": known_at} | usual | facts))


def reason_of_the_second(engine: Engine, between: Callable[[], object], **facts: Any) -> str | None:
    """Issue a forecast, let something happen, and issue another result."""
    store_bars(engine, bars("AB", DAYS[:9]))
    for price, differing in ((1.0, {}), (2.0, facts)):
        made = forecasts(DAYS[5:6], "A", price=price)
        save_predictions(engine, made, DAYS[5:6], 1, issue=made_at(engine, **differing))
        if price == 1.0:
            between()
    first, second = reasons(engine)
    assert first == Reason.MANUAL
    return second


def nothing() -> None:
    """Let nothing happen."""


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({}, Reason.RERUN),
        ({"params_digest": "q", "torch": "3.0"}, Reason.PARAMETERS),
        ({"torch": "3.0"}, Reason.ENVIRONMENT),
        ({"device": "cuda"}, Reason.ENVIRONMENT),
        ({"build_environment": {"a": 2}}, Reason.ENVIRONMENT),
        (dict.fromkeys(("params_digest", "torch", "device", "build_environment")), Reason.RERUN),
    ],
)
def test_the_reason_of_a_later_issue_is_what_differs(
    engine: Engine, facts: dict[str, object], reason: Reason
) -> None:
    assert reason_of_the_second(engine, nothing, **facts) == reason


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (bars("B", DAYS[3:6], close=7.0), Reason.REVISION),
        (bars("C", DAYS[:2]), Reason.REVISION),
        (bars("A", DAYS[:9]).assign(dividends=0.25), Reason.REVISION),
        (bars("AB", DAYS[6:], close=7.0), Reason.RERUN),
    ],
    ids=["a revised bar", "a late bar", "a dividend", "later sessions"],
)
def test_prices_that_changed_up_to_the_session_are_the_reason(
    engine: Engine, changed: pd.DataFrame, reason: Reason
) -> None:
    def store() -> None:
        store_bars(engine, changed)

    assert reason_of_the_second(engine, store, params_digest="q" if reason != "rerun" else "p") == (
        reason
    )


def test_another_source_or_name_of_equal_bars_is_no_reason(engine: Engine) -> None:
    def store() -> None:
        store_bars(engine, bars("AB", DAYS[:9]), source="another")
        apply_renames(engine, [Rename(old="B", new="Z", first_session=TARGET)])

    assert reason_of_the_second(engine, store) == Reason.RERUN


def test_a_withdrawn_forecast_counts_as_the_issue_before(engine: Engine) -> None:
    issue(engine, A=1.0)
    issue(engine)
    issue(engine, A=1.0)
    assert reasons(engine) == [None, Reason.RERUN]


def test_after_a_rollback_an_equal_forecast_is_the_newest_issue(engine: Engine) -> None:
    for version in (1, 2, 1, 1):
        issue(engine, version, A=100.0)
    assert [row[1] for row in history(engine)] == [1, 2, 1]
    newest = predictions_as_of(engine, [AS_OF])
    assert newest["model_version"].tolist() == [1]
    assert newest["issue"].tolist() == [3]
    assert reasons(engine) == [None, Reason.MODEL, Reason.ROLLBACK]


def test_an_issue_has_its_inputs(engine: Engine) -> None:
    facts = Issue(
        reason=Reason.SCHEDULED,
        started_by="ann",
        known_at=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
        params={"prices": {"tickers": ["A"]}},
        params_digest="d" * 64,
        build_environment={"package": "0.1.0"},
        torch="2.9.0+cpu",
        device="cpu x86_64 AVX2",
        dagster_run_id="the run",
    )
    save_predictions(engine, forecasts(DAYS[:1]), DAYS[:1], 1, issue=facts)
    with engine.connect() as connection:
        row = connection.execute(select(forecast_issues)).one()
    assert replace(facts, **{name: row._mapping[name] for name in vars(facts)}) == facts
    newest = head(engine)
    assert newest is not None
    assert (row.issue, row.issued_at) == (1, newest.written_at)


def test_a_forecast_that_is_left_out_stays_in_the_history_and_is_scored(engine: Engine) -> None:
    issue(engine, A=100.0, B=100.0)
    issue(engine, A=100.0)
    assert predictions_as_of(engine, [AS_OF])["ticker"].tolist() == ["A"]
    assert history(engine, "ticker = 'B'") == [
        ("B", 1, 100.0, 1, "live", False),
        ("B", 1, 100.0, 1, "live", True),
    ]
    assert due(engine) == {("A", 1): 100.0, ("B", 1): 100.0}


def test_a_backfilled_forecast_that_is_left_out_is_not_scored(engine: Engine) -> None:
    issue(engine, A=100.0)
    move_clock(engine, OPENED)
    issue(engine, A=100.0, B=100.0)
    issue(engine, A=100.0)
    assert due(engine) == {("A", 1): 100.0}


def test_a_rename_keeps_the_first_live_issue(engine: Engine) -> None:
    issue(engine, A=100.0)
    move_clock(engine, OPENED)
    issue(engine, A=101.0)
    apply_renames(engine, [Rename(old="A", new="Z", first_session=TARGET)])
    assert due(engine) == {("Z", 1): 100.0}


def test_a_score_names_its_issue(engine: Engine) -> None:
    save_predictions(engine, forecasts(DAYS[:1], "A", price=1.0), DAYS[:1], 1)
    save_predictions(engine, forecasts(DAYS[:1], "A", price=2.0), DAYS[:1], 1)
    issued = forecasts_due(engine, DAYS[1:2])
    measured = {
        column.name: 1.0
        for column in model_performance_log.c
        if isinstance(column.type, Double) and not column.nullable
    }
    rows = issued.rename(columns={"target_session": "session"}).assign(**measured)
    save_performance(engine, rows, DAYS[1:2], "run")
    (score,) = read_performance(engine, DAYS[1], DAYS[1]).to_dict("records")
    assert (score["issue"], score["issued"]) == (2, Issued.BACKFILLED)


PRICES = st.dictionaries(st.sampled_from("AB"), st.sampled_from([1.0, 2.0]))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(st.tuples(st.sampled_from([1, 2]), PRICES), max_size=6), live=st.integers(0, 6)
)
def test_every_issue_is_kept_and_the_first_live_one_is_scored(
    engine: Engine, steps: list[tuple[int, dict[str, float]]], live: int
) -> None:
    """Steps before a number are before the open; the record's clock moves once it has begun."""
    empty(engine)
    after = False
    newest: dict[tuple[str, int], tuple[int, float]] = {}
    kept: dict[tuple[str, int], list[tuple[float, bool]]] = {}
    for step, (version, prices) in enumerate(steps):
        if step >= live and not after and head(engine) is not None:
            move_clock(engine, OPENED)
            after = True
        issue(engine, version, **prices)
        for ticker in "AB":
            key, other = (ticker, version), (ticker, 3 - version)
            if ticker not in prices:
                newest.pop(key, None)
                continue
            latest = key not in newest or newest[key] < newest.get(other, (-1, 0.0))
            if latest or newest[key][1] != prices[ticker]:
                newest[key] = (step, prices[ticker])
                kept.setdefault(key, []).append((prices[ticker], not after))
    stored = history(engine, "NOT removed")
    for key, issues in kept.items():
        found = [(row[2], row[4] == "live") for row in stored if row[:2] == key]
        assert found == issues
    scored = {key: price for key, (_, price) in newest.items()}
    for key, issues in kept.items():
        firsts = [price for price, is_live in issues if is_live]
        scored |= {key: firsts[0]} if firsts else {}
    assert due(engine) == scored
    last = predictions_as_of(engine, [AS_OF])
    for ticker, version in zip(last["ticker"], last["model_version"], strict=True):
        assert newest[ticker, version] >= newest.get((ticker, 3 - version), (-1, 0.0))


@pytest.mark.parametrize("version", [1, 2])
def test_the_view_and_the_reader_agree_on_the_newest(engine: Engine, version: int) -> None:
    for one in (1, 2, version):
        issue(engine, one, A=100.0)
    with engine.connect() as connection:
        shown = connection.execute(text("SELECT model_version, issue FROM latest_predictions"))
        rows = [tuple(row) for row in shown]
    found = predictions_as_of(engine, [AS_OF])
    assert rows == list(zip(found["model_version"], found["issue"], strict=True))
    assert found["model_version"].tolist() == [version]
