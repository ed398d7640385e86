"""The history of production: appended in order, never changed, read with its ends."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from stock_assets.evaluation.production_rule import Cause
from stock_assets.storage import record
from stock_assets.storage.production import (
    NewChange,
    ProductionChange,
    production_changes,
    record_change,
)
from stock_assets.storage.serving.production import find_in_force, list_changes
from stock_assets_tests.storage.examples import PRODUCTION

EVERYTHING = 1000
SECOND = replace(PRODUCTION, version=2, refit_of=1, digest="another")
PAST = replace(PRODUCTION, version=3, dataset_run_id="20120629_120000", as_of=date(2012, 6, 29))


def changed(engine: Engine, *changes: NewChange, model: str = "Model") -> list[ProductionChange]:
    for change in changes:
        record_change(engine, model, change, "run")
    return production_changes(engine, model)


def put(engine: Engine) -> list[ProductionChange]:
    """A promotion, its refit, a winner of a past session, a removal."""
    return changed(
        engine,
        NewChange(PRODUCTION, Cause.PROMOTION, "first"),
        NewChange(SECOND, Cause.REFIT, "better"),
        NewChange(PAST, Cause.PROMOTION, "then", until_session=PRODUCTION.as_of),
        NewChange(None, Cause.FOUND_OUTSIDE, "removed"),
    )


def test_changes_are_read_as_they_were_recorded(engine: Engine) -> None:
    person = NewChange(SECOND, Cause.PERSON, "it forecasts IBM better", "ann")
    first, second = changed(engine, NewChange(PRODUCTION, Cause.PROMOTION, None), person)
    assert (first.model, first.cause, first.why) == (PRODUCTION, Cause.PROMOTION, None)
    assert (second.model, second.changed_by, second.why) == (SECOND, "ann", person.why)
    assert second.dagster_run_id == "run"
    assert first.id < second.id
    assert first.in_force_from < second.in_force_from
    assert first.mark != second.mark
    assert changed(engine, model="Another") == []


def test_a_change_is_a_link_of_the_record(engine: Engine) -> None:
    (change,) = changed(engine, NewChange(PRODUCTION, Cause.PROMOTION, "first"))
    link = record.head(engine)
    assert link is not None
    assert link.written_at == change.in_force_from


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE production_history SET why = 'another'",
        "DELETE FROM production_history",
        "TRUNCATE production_history",
        "INSERT INTO production_history (model_name, cause) VALUES ('Model', 'person')",
    ],
)
def test_the_history_is_only_appended_to_and_only_by_the_record(
    engine: Engine, statement: str
) -> None:
    before = put(engine)
    refused = r"append-only|belongs to the record|outside the record"
    with pytest.raises(DBAPIError, match=refused), engine.begin() as connection:
        connection.execute(text(statement))
    assert production_changes(engine, "Model") == before


def test_each_change_ends_with_the_next_one_of_production(engine: Engine) -> None:
    first, second, past, removed = put(engine)
    listed = {row["id"]: row for row in list_changes(engine, None, EVERYTHING)}
    assert list(listed) == [removed.id, past.id, second.id, first.id]
    assert listed[first.id]["in_force_until"] == second.in_force_from
    assert listed[second.id]["in_force_until"] == removed.in_force_from
    assert listed[past.id]["in_force_until"] is None
    assert listed[removed.id]["in_force_until"] is None
    assert not any(row["in_production"] for row in listed.values())


def test_a_winner_of_a_past_session_is_not_in_production(engine: Engine) -> None:
    put(engine)
    changed(
        engine,
        NewChange(SECOND, Cause.ROLLBACK, None),
        NewChange(PAST, Cause.PROMOTION, None, until_session=SECOND.as_of),
    )
    found = find_in_force(engine)
    assert found is not None
    assert (found["model_version"], found["cause"]) == (2, "rollback")
    newest = list_changes(engine, None, EVERYTHING)
    assert [row["model_version"] for row in newest if row["in_production"]] == [2]


def test_changes_are_filtered_and_paged(engine: Engine) -> None:
    put(engine)
    whole = list_changes(engine, None, EVERYTHING)
    assert list_changes(engine, None, 2, (whole[1]["id"],)) == whole[2:]
    assert list_changes(engine, 3, EVERYTHING) == [whole[1]]


def test_before_the_first_change_nothing_is_in_force(engine: Engine) -> None:
    assert find_in_force(engine) is None
    assert list_changes(engine, None, EVERYTHING) == []
