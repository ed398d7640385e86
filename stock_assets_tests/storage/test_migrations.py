"""Migrations: they leave the tables of the code, again and again, and can be undone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, inspect, text

from stock_assets.cli.platform import Platform
from stock_assets.config import Prices
from stock_assets.market.bars import empty_bars
from stock_assets.market.reconciliation import fetch_starts
from stock_assets.storage import database
from stock_assets.storage.check_results import CheckRecord, save_check_results
from stock_assets.storage.database import STORE_URL_VARIABLE, copy_in, upgrade
from stock_assets.storage.datasets import load_panel, save_panel
from stock_assets.storage.forecasts import promotions, record_refit, save_promotion
from stock_assets.storage.prices import stored_histories
from stock_assets.storage.tables import metadata, predictions
from stock_assets_tests.conftest import throw_away_database
from stock_assets_tests.storage.examples import (
    DATASET,
    DAYS,
    PROMOTION,
    bars,
    panel,
    stored_actions,
)

MIGRATIONS = Path(database.__file__).parent / "migrations"
CHECK = CheckRecord("run", "raw_prices", "histories_agree", "a", "b", False, "ERROR", "")
CATALOGUE = """
SELECT c.oid, c.relname, c.relfilenode, c.xmin
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'public' ORDER BY c.oid
"""


@pytest.fixture
def bare_url(platform: Platform) -> Iterator[str]:
    """A database without a table."""
    with throw_away_database(platform) as url:
        yield url


@pytest.fixture
def connection(bare_url: str) -> Iterator[Connection]:
    """A connection to it after the migrations."""
    upgrade(bare_url)
    engine = create_engine(bare_url)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def test_migrations_create_the_tables_of_the_code(connection: Connection) -> None:
    context = MigrationContext.configure(
        connection, opts={"compare_type": True, "compare_server_default": True}
    )
    assert compare_metadata(context, metadata) == []


def test_the_comparison_detects_a_difference(connection: Connection) -> None:
    connection.execute(text("ALTER TABLE predictions ALTER COLUMN coverage DROP NOT NULL"))
    connection.execute(text("DROP INDEX raw_stock_data_session"))
    context = MigrationContext.configure(connection)
    assert len(compare_metadata(context, metadata)) == 2


def test_latest_predictions_has_the_columns_of_predictions(
    connection: Connection,
) -> None:
    assert inspect(connection).get_view_names() == ["latest_predictions"]
    columns = [column["name"] for column in inspect(connection).get_columns("latest_predictions")]
    assert columns == [column.name for column in predictions.columns]


def test_every_table_has_a_comment(connection: Connection) -> None:
    for name in metadata.tables:
        assert inspect(connection).get_table_comment(name)["text"]


def test_upgrading_again_changes_nothing(bare_url: str, connection: Connection) -> None:
    before = connection.execute(text(CATALOGUE)).all()
    connection.rollback()
    upgrade(bare_url)
    assert connection.execute(text(CATALOGUE)).all() == before
    assert connection.scalars(text("SELECT version_num FROM alembic_version")).all() == ["0012"]


def test_migrations_can_be_downgraded_and_repeated(bare_url: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["url"] = bare_url
    engine = create_engine(bare_url)
    upgrade(bare_url)
    command.downgrade(config, "base")
    assert set(inspect(engine).get_table_names()) == {"alembic_version"}
    assert inspect(engine).get_view_names() == []
    upgrade(bare_url)
    assert set(inspect(engine).get_table_names()) == {"alembic_version", *metadata.tables}
    engine.dispose()


def test_the_second_migration_extracts_actions_and_requests_whole_histories(
    bare_url: str,
) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["url"] = bare_url
    command.upgrade(config, "0001")
    whole = bars("A").assign(source="sample")
    stored = whole.drop(index=range(3, 6))  # sessions that were never wanted
    stored.loc[8, "stock_splits"] = whole.loc[8, "stock_splits"] = 2.0
    engine = create_engine(bare_url)
    with engine.begin() as connection:
        copy_in(connection, "raw_stock_data", stored)
    upgrade(bare_url)
    assert stored_actions(engine).to_dict("list") == {
        "ticker": ["A"],
        "ex_date": [pd.Timestamp(DAYS[8])],
        "kind": ["split"],
        "value": [2.0],
    }
    (held,) = stored_histories(engine).values()
    prices = Prices(tickers=["A"], first_session=DAYS[0])
    assert fetch_starts([DAYS[-1]], {"A": held}, empty_bars(), prices) == {"A": DAYS[0]}
    engine.dispose()


def test_the_fourth_migration_leaves_refits_empty(bare_url: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["url"] = bare_url
    upgrade(bare_url)
    engine = create_engine(bare_url)
    save_panel(engine, panel(DATASET))
    save_promotion(engine, PROMOTION)
    record_refit(engine, PROMOTION, 2)
    command.downgrade(config, "0003")
    upgrade(bare_url)
    assert promotions(engine) == [replace(PROMOTION, refit_version=None)]
    engine.dispose()


def test_renamed_rules_are_renamed_in_stored_rows(bare_url: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["url"] = bare_url
    upgrade(bare_url)
    engine = create_engine(bare_url)
    save_check_results(engine, [replace(CHECK, message="history is another one: 2")])
    checks = {"severities": {"history is another one": "warning"}}
    save_panel(engine, replace(panel(DATASET), params={"prices": {"checks": checks}}))
    command.downgrade(config, "0009")
    upgrade(bare_url)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT message FROM check_results")) == (
            "history is unrelated: 2"
        )
    params = load_panel(engine, DATASET).params
    assert params["prices"]["checks"]["severities"] == {"history is unrelated": "warning"}
    engine.dispose()


def test_there_is_one_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert len(ScriptDirectory.from_config(config).get_heads()) == 1


def test_the_installation_is_migrated(platform: Platform) -> None:
    engine: Engine = create_engine(platform.variables[STORE_URL_VARIABLE])
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()
