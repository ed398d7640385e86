"""A bad model in production: the alarm, the shadow, the second decision and the next forecast."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from stock_assets_tests.cli.conftest import Installation, copy_of, new_installation, wait_until
from stock_assets_tests.cli.services import begin_up
from stock_assets_tests.prepared import SECTIONS

pytestmark = pytest.mark.long

SCRAMBLED = """
import dataclasses
import mlflow
from stock_assets.cli.platform import open_platform
from stock_assets.models.bundle import Bundle
from stock_assets.registry import Registry
from stock_assets.storage.prices import read_bars

platform = open_platform()
registry = Registry(platform.params.tracking)
bundle = registry.load(1)
recipe, scaler = bundle.recipe, bundle.recipe.target_scaler
wild = dataclasses.replace(scaler, centre=scaler.centre + 0.05)
bars = read_bars(platform.engine, recipe.first_session, recipe.as_of, recipe.tickers)
registry.ensure_experiment()
mlflow.set_experiment(platform.params.tracking.experiment)
with mlflow.start_run():
    scrambled = Bundle(dataclasses.replace(recipe, target_scaler=wild), bundle.network)
    print(registry.register(scrambled, bars).version)
"""
"""Register a model that always forecasts 5% more."""

CHANGED = {
    "dataset": SECTIONS["loop"]["dataset"] | {"test_sessions": 12},
    "promotion": {"refit": True, "floor": "none", "shadow_sessions": 3},
    "monitoring": {
        "sessions_between_false_alarms": 20,
        "thresholds": {"relative_mae_max": None},
    },
}
"""So short a test segment begins after the alarm, and so the shadow decides."""

ALARM = "2013-02-14"
"""The newest scored session when the daemon starts."""


@pytest.fixture
def installation() -> Iterator[Installation]:
    with new_installation(bare=True, **(SECTIONS["loop"] | CHANGED)) as made:
        copy_of("loop", made)
        yield made


def backfill(installation: Installation, first: str, last: str, scored: tuple[str, str]) -> None:
    installation.succeed("backfill", "predictions", "--from", first, "--to", last)
    installation.succeed("backfill", "performance_log", "--from", scored[0], "--to", scored[1])


def ended(installation: Installation, tag: str) -> str | None:
    """The status of the run with a tag, once it has ended."""
    found = installation.rows(
        f"SELECT status FROM runs JOIN run_tags USING (run_id) WHERE key = '{tag}'", "dagster"
    )
    statuses = {status for (status,) in found}
    return statuses.pop() if statuses and statuses <= {"SUCCESS", "FAILURE"} else None


def test_from_a_bad_model_through_the_shadow_to_the_next_forecast(
    installation: Installation,
) -> None:
    made = subprocess.run(
        [sys.executable, "-c", SCRAMBLED],
        env=installation.environment,
        cwd=installation.project,
        capture_output=True,
        text=True,
        check=True,
    )
    scrambled = int(made.stdout.splitlines()[-1])
    installation.succeed("model", "promote", f"{scrambled}", "--why", "a fault of the test")
    backfill(installation, "2013-01-31", "2013-02-13", ("2013-02-01", ALARM))
    with begin_up(installation) as services:
        services.wait_until_ready()
        wait_until(lambda: ended(installation, "stock_assets/breach_session"), "the retraining")
        assert ended(installation, "stock_assets/breach_session") == "SUCCESS"
        ((alarm, dataset),) = installation.rows(
            "SELECT decision->>'outcome', dataset_run_id FROM retraining_decisions WHERE retrain"
        )
        assert alarm == "alarm"
        decisions = (
            "SELECT decision->>'outcome', candidate_version, refit_version, production_version "
            f"FROM model_promotions WHERE dataset_run_id = '{dataset}' ORDER BY decided_at"
        )
        ((outcome, candidate, refit, rival),) = installation.rows(decisions)
        assert (outcome, rival) == ("shadow", scrambled)
        assert installation.alias() == scrambled

        backfill(installation, "2013-02-14", "2013-02-20", ("2013-02-15", "2013-02-21"))
        wait_until(lambda: ended(installation, "stock_assets/shadow_session"), "the decision")
        assert ended(installation, "stock_assets/shadow_session") == "SUCCESS"
        _, (outcome, same, winner, rival) = installation.rows(decisions)
        assert outcome in ("shadow_better", "shadow_lower_loss")
        assert (same, rival) == (candidate, scrambled)
        assert winner not in (candidate, refit)
        assert installation.alias() == winner

        installation.succeed("predict", "--date", "2013-02-21")
        forecasts = installation.rows(
            "SELECT DISTINCT model_version, role FROM predictions "
            "WHERE as_of_session = '2013-02-21'"
        )
        assert forecasts == [(winner, "production")]
        roles = installation.rows(
            "SELECT DISTINCT model_version, role FROM model_performance_log "
            "WHERE session >= '2013-02-15' ORDER BY 1"
        )
        assert roles == [(scrambled, "production"), (refit, "shadow")]
