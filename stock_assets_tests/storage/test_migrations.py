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
from stock_assets.core.errors import StockAssetsError
from stock_assets.evaluation.forecast_issues import Reason
from stock_assets.market.bars import empty_bars
from stock_assets.market.reconciliation import fetch_starts
from stock_assets.storage import database
from stock_assets.storage.check_results import CheckRecord, failed_checks, save_check_results
from stock_assets.storage.database import STORE_URL_VARIABLE, copy_in, newest_revision, upgrade
from stock_assets.storage.datasets import load_panel, save_panel
from stock_assets.storage.decisions import promotions, record_refit, save_promotion
from stock_assets.storage.forecast_issues import Issue
from stock_assets.storage.forecasts import save_predictions
from stock_assets.storage.prices import stored_histories
from stock_assets.storage.tables import metadata, predictions
from stock_assets_tests.conftest import throw_away_database
from stock_assets_tests.prepared import MIGRATED_DATABASE
from stock_assets_tests.storage.examples import (
    DATASET,
    DAYS,
    MODEL,
    PROMOTION,
    bars,
    forecasts,
    panel,
    stored_actions,
)
from stock_assets_tests.tampering import forget_record, tampering

MIGRATIONS = Path(database.__file__).parent / "migrations"
CHECK = CheckRecord("run", "raw_prices", "histories_agree", "a", "b", False, "ERROR", "")
CATALOGUE = """
SELECT c.oid, c.relname, c.relfilenode, c.xmin
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'public' ORDER BY c.oid
"""

OF_PERSISTENCE = """
INSERT INTO predictions (as_of_session, target_session, ticker, horizon, model_version, last_close,
  predicted_return, predicted_price, lower_price, upper_price, coverage, predicted_at)
VALUES ('2013-01-02', '2013-01-03', 'A', 1, 0, 100, 0, 100, 99, 101, 0.9, now())
"""


@pytest.fixture
def bare_url(platform: Platform) -> Iterator[str]:
    """A database without a table."""
    with throw_away_database(platform) as url:
        yield url


@pytest.fixture
def migrated_url(platform: Platform) -> Iterator[str]:
    """A copy of a database that was migrated and never written to."""
    with throw_away_database(platform, MIGRATED_DATABASE) as url:
        yield url


@pytest.fixture
def connection(migrated_url: str) -> Iterator[Connection]:
    engine = create_engine(migrated_url)
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


def test_upgrading_again_changes_nothing(migrated_url: str, connection: Connection) -> None:
    before = connection.execute(text(CATALOGUE)).all()
    connection.rollback()
    upgrade(migrated_url)
    assert connection.execute(text(CATALOGUE)).all() == before
    current = connection.scalars(text("SELECT version_num FROM alembic_version")).all()
    assert current == [newest_revision()]


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


@pytest.mark.parametrize("revision", ["0013", "0014", "0015", "0016", "0017", "0020"])
def test_a_downgrade_that_the_record_would_not_survive_is_refused(
    bare_url: str, revision: str
) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["url"] = bare_url
    upgrade(bare_url)
    engine = create_engine(bare_url)
    above = f"{int(revision) + 1:04}"
    command.downgrade(config, above)
    with tampering(engine) as connection:
        connection.execute(
            text(
                "INSERT INTO record_links (link, written_at, tables, previous, digest) "
                "VALUES (1, now(), '{}', '', '')"
            )
        )
    with pytest.raises(StockAssetsError, match="Restore the backup"):
        command.downgrade(config, revision)
    with engine.connect() as connection:
        assert MigrationContext.configure(connection).get_current_revision() == above
    with tampering(engine) as connection:
        connection.execute(text("TRUNCATE record_links"))
    command.downgrade(config, revision)
    engine.dispose()


def test_undoing_the_twentieth_migration_is_refused_once_persistence_has_forecast(
    bare_url: str,
) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["url"] = bare_url
    upgrade(bare_url)
    engine = create_engine(bare_url)
    command.downgrade(config, "0020")
    with tampering(engine) as connection:
        connection.execute(text(OF_PERSISTENCE))
    with pytest.raises(StockAssetsError, match="version 0"):
        command.downgrade(config, "0019")
    with tampering(engine) as connection:
        connection.execute(text("DELETE FROM predictions"))
    command.downgrade(config, "0019")
    upgrade(bare_url)
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
    forget_record(engine)
    command.downgrade(config, "0003")
    upgrade(bare_url)
    assert promotions(engine, MODEL) == [replace(PROMOTION, refit_version=None)]
    engine.dispose()


def test_reasons_survive_the_eighteenth_migration_and_its_undoing(bare_url: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["url"] = bare_url
    upgrade(bare_url)
    engine = create_engine(bare_url)
    facts = Issue(Reason.MANUAL, started_by="ann")
    save_predictions(engine, forecasts(DAYS[:1]), DAYS[:1], 1, issue=facts)
    forget_record(engine)
    command.downgrade(config, "0017")
    upgrade(bare_url)
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT reason, started_by FROM forecast_issues")).all()
    assert [tuple(row) for row in rows] == [(Reason.MANUAL, None)]
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
    forget_record(engine)
    command.downgrade(config, "0009")
    upgrade(bare_url)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT message FROM check_results")) == (
            "history is unrelated: 2"
        )
    params = load_panel(engine, DATASET).params
    assert params["prices"]["checks"]["severities"] == {"history is unrelated": "warning"}
    engine.dispose()


ROWS_OF_0008 = """
INSERT INTO processed_feature_data (dataset_run_id, as_of_session, first_session, last_session,
  bars, tickers, features, basis, anchors, target, params, bars_digest, digest, location, made_with)
VALUES ('20121231_120000', '2012-12-31', '2010-03-22', '2012-12-31', 1400, '["AAPL"]', '["RSI"]',
  'adjusted', '{"AAPL": {"price": 1.5, "volume": 1.0}}', 'log_return',
  '{"monitoring": {"thresholds": {"mase_max": 1.1}}, "promotion": {"metric": "mase"}}',
  'b', 'd', 'dd/d.safetensors', '{"package": "0.1.0"}');
INSERT INTO model_promotions (dataset_run_id, candidate_version, as_of_session, model_name, metric,
  candidate, persistence, first_session, last_session, promoted, reason, mlflow_run_id)
VALUES ('20121231_120000', 1, '2012-12-31', 'StockPricePredictor', 'mase',
  '{"mase": 1.00732, "mase_se": 0.01, "forecasts": 315, "sessions": 63, "p_persistence": 0.64,
    "dm_persistence": 0.47}',
  '{"mase": 1.0, "baselines": {"ridge": {"mase": 1.2}}}', '2012-10-01', '2012-12-28', true,
  'Promoted: the candidate''s MASE is 1.00732. No significant edge over persistence (+0.0102% of
 price in mean absolute error, Diebold-Mariano p = 0.64 over 63 sessions)', 'run');
INSERT INTO retraining_decisions (session, retrain, breaches, reason, metrics)
VALUES ('2013-02-28', true, '["MASE 1.2 is not within 1.1"]',
  'Retrain: 100 forecasts of 20 sessions up to 2013-02-28: MASE 1.2 is not within 1.1',
  '{"mase": 1.2}');
INSERT INTO check_results (dagster_run_id, asset, check_name, first_partition, last_partition,
  passed, severity, told)
VALUES ('r', 'scalers', 'scalers_know_training_alone', 'x', 'x', true, 'error', 'nothing found'),
  ('r', 'raw_prices', 'bars_are_sound', '2013-01-02', '2013-01-31', false, 'error', '1 bar'),
  ('r', 'raw_prices', 'histories_agree', '2013-01-02', '2013-01-02', false, 'error', '1 bar');
INSERT INTO feature_drift (as_of_session, model_version, feature, psi, rows, usual)
VALUES ('2013-01-02', 1, 'RSI', 0.1, 100, 0.05);
"""
"""Rows as the version before 0009 wrote them."""


def test_rows_of_0008_are_read_by_todays_readers(bare_url: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["url"] = bare_url
    command.upgrade(config, "0008")
    engine = create_engine(bare_url)
    with engine.begin() as connection:
        connection.exec_driver_sql(ROWS_OF_0008.replace("%", "%%"))
    upgrade(bare_url)
    stored = load_panel(engine, "20121231_120000")
    assert stored.adjustment_factors == {"AAPL": {"price": 1.5, "volume": 1.0}}
    assert stored.build_environment == {"package": "0.1.0"}
    assert stored.params["monitoring"]["thresholds"] == {"relative_mae_max": 1.1}
    assert stored.params["promotion"] == {"metric": "relative_mae"}
    (promotion,) = promotions(engine, MODEL)
    assert promotion.metric == promotion.decision.metric == "relative_mae"
    assert promotion.candidate["relative_mae"] == promotion.decision.candidate == 1.00732
    assert promotion.candidate["relative_mae_se"] == 0.01
    assert promotion.persistence["baselines"] == {"ridge": {"relative_mae": 1.2}}
    assert promotion.decision.against_persistence.p_value == 0.64
    with engine.connect() as connection:
        (decision,) = connection.scalars(text("SELECT decision FROM retraining_decisions"))
        assert decision["breaches"][0]["metric"] == "relative_mae"
        assert decision["breaches"][0]["limit"] == 1.1
        names = connection.scalars(text("SELECT DISTINCT check_name FROM check_results"))
        assert set(names) == {"scalers_fit_on_train_only", "bars_are_sound", "histories_agree"}
        assert connection.scalar(text("SELECT baseline_p95 FROM feature_drift")) == 0.05
    # The error of the range does not say whose it is; that of a single session does.
    failed = failed_checks(engine, "raw_prices", ["2013-01-02", "2013-01-15"])
    assert [(one.partition, one.check_name) for one in failed] == [
        ("2013-01-02", "histories_agree")
    ]
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
