"""The history of production: appended in order, never changed, read with its ends."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import DBAPIError

from stock_assets.cli.platform import Platform
from stock_assets.evaluation.production_rule import Cause, champion_as_of
from stock_assets.storage import record
from stock_assets.storage.database import upgrade
from stock_assets.storage.datasets import save_panel
from stock_assets.storage.decisions import record_refit, save_promotion
from stock_assets.storage.production import (
    NewChange,
    ProductionChange,
    production_changes,
    record_change,
)
from stock_assets.storage.serving.production import find_in_force, list_changes
from stock_assets.storage.tables import production_history
from stock_assets_tests.conftest import throw_away_database
from stock_assets_tests.storage.examples import MODEL, PANEL, PRODUCTION, PROMOTION
from stock_assets_tests.storage.test_migrations import MIGRATIONS
from stock_assets_tests.tampering import forget_record

EVERYTHING = 1000
SECOND = replace(PRODUCTION, version=2, refit_of=1, digest="another")
PAST = replace(PRODUCTION, version=3, dataset_run_id="20120629_120000", as_of=date(2012, 6, 29))


def changed(engine: Engine, *changes: NewChange, model: str = MODEL) -> list[ProductionChange]:
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
        "INSERT INTO production_history (model_name, cause) VALUES ('M', 'person')",
    ],
)
def test_the_history_is_only_appended_to_and_only_by_the_record(
    engine: Engine, statement: str
) -> None:
    before = put(engine)
    refused = r"append-only|belongs to the record|outside the record"
    with pytest.raises(DBAPIError, match=refused), engine.begin() as connection:
        connection.execute(text(statement))
    assert production_changes(engine, MODEL) == before


def test_each_change_ends_with_the_next_one_of_production(engine: Engine) -> None:
    first, second, past, removed = put(engine)
    listed = {row["id"]: row for row in list_changes(engine, MODEL, None, EVERYTHING)}
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
    found = find_in_force(engine, MODEL)
    assert found is not None
    assert (found["model_version"], found["cause"]) == (2, "rollback")
    newest = list_changes(engine, MODEL, None, EVERYTHING)
    assert [row["model_version"] for row in newest if row["in_production"]] == [2]


def test_changes_are_filtered_and_paged(engine: Engine) -> None:
    put(engine)
    whole = list_changes(engine, MODEL, None, EVERYTHING)
    assert list_changes(engine, MODEL, None, 2, (whole[1]["id"],)) == whole[2:]
    assert list_changes(engine, MODEL, 3, EVERYTHING) == [whole[1]]


def test_another_registered_model_has_a_history_of_its_own(engine: Engine) -> None:
    (first,) = changed(engine, NewChange(PRODUCTION, Cause.PROMOTION, "first"))
    (other,) = changed(engine, NewChange(SECOND, Cause.PROMOTION, "other"), model="Another")
    for model, change in ((MODEL, first), ("Another", other)):
        found = find_in_force(engine, model)
        assert found is not None
        assert found["id"] == change.id
        listed = list_changes(engine, model, None, EVERYTHING)
        assert [row["id"] for row in listed] == [other.id, first.id]
        assert [row["id"] for row in listed if row["in_production"]] == [change.id]
        (own,) = list_changes(engine, model, None, EVERYTHING, others=False)
        assert (own["id"], own["in_force_until"]) == (change.id, None)


def test_before_the_first_change_nothing_is_in_force(engine: Engine) -> None:
    assert find_in_force(engine, MODEL) is None
    assert list_changes(engine, MODEL, None, EVERYTHING) == []


def test_the_promotions_of_an_older_installation_become_its_history(platform: Platform) -> None:
    """They have no digest, person or reason, and enter the first link."""
    first = replace(PROMOTION, production_version=None)
    second = replace(
        PROMOTION,
        dataset_run_id="20130131_120000",
        as_of_session=date(2013, 1, 31),
        candidate_version=2,
        production_version=1,
    )
    lost = replace(second, dataset_run_id="20130215_120000", candidate_version=4, promoted=False)
    past = replace(
        PROMOTION,
        dataset_run_id=PAST.dataset_run_id,
        as_of_session=PAST.as_of,
        candidate_version=5,
    )
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with throw_away_database(platform) as url:
        config.attributes["url"] = url
        upgrade(url)
        engine = create_engine(url)
        for decided in (first, second, lost, past):
            save_panel(engine, replace(PANEL, dataset_run_id=decided.dataset_run_id))
            save_promotion(engine, decided)
        record_refit(engine, second, 3)
        forget_record(engine)
        command.downgrade(config, "0012")
        upgrade(url)
        record.adopt(engine)
        history = production_changes(engine, MODEL)
        with engine.connect() as connection:
            decided_at = connection.execute(
                text("SELECT decided_at FROM model_promotions WHERE promoted ORDER BY decided_at")
            ).scalars()
            assert [change.in_force_from for change in history] == list(decided_at)
            recorded = connection.execute(record.as_known(production_history, 1)).mappings().all()
        engine.dispose()
    assert all(change.is_migrated for change in history)
    assert {(one.why, one.changed_by, one.dagster_run_id) for one in history} == {
        (None, None, PROMOTION.dagster_run_id)
    }
    seen = [
        (one.model and one.model.version, one.model and one.model.refit_of, one.cause)
        for one in history
    ]
    assert seen == [(1, None, Cause.PROMOTION), (3, 2, Cause.REFIT), (5, None, Cause.PROMOTION)]
    assert [one.until_session for one in history] == [None, None, date(2013, 1, 31)]
    assert champion_as_of(date(2013, 3, 1), history) == history[1].model
    assert champion_as_of(date(2012, 7, 2), history) == history[2].model
    assert [row["model_version"] for row in recorded] == [1, 3, 5]
