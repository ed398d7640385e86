"""The sensor in a real daemon: scores that break a threshold launch one retraining."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from datetime import date

import pytest
import yaml

from stock_assets_tests.cli.conftest import Installation, wait_until
from stock_assets_tests.cli.services import begin_up

pytestmark = pytest.mark.slow

SCORED = 200
BREACHED = {
    "window_sessions": 60,
    "minimum_forecasts": SCORED + 1,
    "cooldown_sessions": 20,
    "thresholds": {"mape_max": 0.1, "relative_mae_max": 0.01, "direction_accuracy_min": 0.4},
}
"""A threshold that no forecast keeps, as soon as one session more than the demo's is scored."""

LAST = date(2013, 3, 1)


@pytest.fixture
def strict(demoed: Installation) -> Iterator[Installation]:
    """The demo's installation with thresholds that the next scored session breaks."""
    file = demoed.project / "params.yaml"
    before = file.read_text()
    file.write_text(yaml.safe_dump(yaml.safe_load(before) | {"monitoring": BREACHED}))
    yield demoed
    file.write_text(before)


def test_a_breach_launches_one_retraining(strict: Installation):
    known = _datasets(strict)
    assert strict.value("SELECT count(*) FROM model_performance_log") == SCORED
    with begin_up(strict) as services:
        services.wait_until_ready()
        _score(strict)

        (run,) = wait_until(lambda: _retrainings(strict), "the sensor launches a run")
        ticks = _ticks(strict)
        _score(strict)  # an event that wakes the sensor again
        wait_until(lambda: _status(strict, run) in ("SUCCESS", "FAILURE"), "it ends")
        assert _status(strict, run) == "SUCCESS"
        wait_until(lambda: _ticks(strict) > ticks, "the sensor wakes again")
        assert _retrainings(strict) == [run]

        (dataset,) = _datasets(strict) - known
        assert dataset.startswith(f"{LAST:%Y%m%d}_")
        assert strict.rows(
            "SELECT session, dataset_run_id FROM retraining_decisions WHERE retrain"
        ) == [(LAST, dataset)]
        ((candidate, rival, promoted),) = strict.rows(
            "SELECT candidate_version, production_version, promoted FROM model_promotions "
            f"WHERE dataset_run_id = '{dataset}'"
        )
        assert (candidate, rival, promoted) == (max(strict.versions()), 1, False)
        assert strict.alias() == 1

        services.stop(signal.SIGTERM)


def _score(installation: Installation) -> None:
    span = ("--from", LAST.isoformat(), "--to", LAST.isoformat())
    installation.succeed("backfill", "performance_log", *span)


def _retrainings(installation: Installation) -> list[str]:
    """Runs that the sensor launched."""
    tagged = "SELECT run_id FROM run_tags WHERE key = 'stock_assets/breach_session'"
    return [row[0] for row in installation.rows(tagged, "dagster")]


def _status(installation: Installation, run: str) -> str:
    found: str = installation.value(f"SELECT status FROM runs WHERE run_id = '{run}'", "dagster")
    return found


def _ticks(installation: Installation) -> int:
    """Evaluations of the sensor that an event of the log brought about."""
    found: int = installation.value(
        "SELECT count(*) FROM job_ticks WHERE tick_body LIKE '%\"retrain_on_breach\"%' "
        "AND status IN ('SUCCESS', 'SKIPPED') AND tick_body NOT LIKE '%No new materialization%'",
        "dagster",
    )
    return found


def _datasets(installation: Installation) -> set[str]:
    """Partitions of the datasets."""
    return {
        row[0] for row in installation.rows("SELECT partition FROM dynamic_partitions", "dagster")
    }
