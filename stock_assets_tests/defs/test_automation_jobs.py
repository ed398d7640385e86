"""The two jobs: what runs together, where, and how often at once."""

from __future__ import annotations

import dagster as dg
import yaml

from stock_assets.cli.platform import Platform
from stock_assets.definitions import build_definitions
from stock_assets.defs.automation import RETRAINING_TAG
from stock_assets.defs.partitions import datasets, trading_days
from stock_assets_tests.conftest import DATASET, ROOT, Loop
from stock_assets_tests.defs.running import params

GRAPH = build_definitions(params())
DAILY, RETRAINING = (GRAPH.resolve_job_def(name) for name in ("daily", "retraining"))


def test_each_job_has_the_partitions_of_its_assets() -> None:
    assert DAILY.partitions_def == trading_days(params())
    assert RETRAINING.partitions_def == datasets


def test_the_daily_job_runs_in_one_process() -> None:
    assert DAILY.executor_def is dg.in_process_executor


def test_retraining_runs_in_one_process_unless_configured_otherwise(platform: Platform) -> None:
    name = dg.multi_or_in_process_executor.name
    assert RETRAINING.executor_def.name == name
    assert RETRAINING.partitioned_config is not None
    config = RETRAINING.partitioned_config.get_run_config_for_partition_key(DATASET)
    shipped = dg.validate_run_config(RETRAINING, config)
    assert list(shipped["execution"][name]) == ["in_process"]
    chosen = {"execution": {"config": {"multiprocess": {"max_concurrent": 2}}}}
    assert list(dg.validate_run_config(RETRAINING, chosen)["execution"][name]) == ["multiprocess"]


def test_one_retraining_runs_at_a_time() -> None:
    limits = yaml.safe_load((ROOT / "dagster.yaml").read_text())["concurrency"]["runs"]
    assert RETRAINING.tags[RETRAINING_TAG]
    assert {"key": RETRAINING_TAG, "limit": 1} in limits["tag_concurrency_limits"]


def test_steps_follow_their_inputs() -> None:
    order = [node.name for node in DAILY.nodes_in_topological_order]
    assert order.index("raw_prices") < order.index("predictions") < order.index("performance_log")
    order = [node.name for node in RETRAINING.nodes_in_topological_order]
    assert order.index("processed_features") == 0
    assert order[-2:] == ["candidate_model", "promotion"]


def test_the_runs_of_the_loop_succeeded(loop: Loop) -> None:
    for result in (loop.ingest, loop.forecasts, loop.scores):
        assert result.success
        run = loop.platform.instance.get_run_by_id(result.run_id)
        assert run.status == dg.DagsterRunStatus.SUCCESS
        assert run.job_name == "daily"
