"""Check results: one per run and check, and the newest of each."""

from __future__ import annotations

from dataclasses import asdict, replace

from sqlalchemy import Engine, text

from stock_assets.storage.check_results import CheckRecord, failed_checks, save_check_results
from stock_assets.storage.serving.checks import list_checks, newest_checks

SOUND = CheckRecord(
    "run-1", "raw_prices", "bars_are_sound", "2013-01-02", "2013-01-04", True, "warning", "nothing"
)
AGREE = replace(
    SOUND, check_name="histories_agree", passed=False, severity="error", message="2 rows"
)


def record_of(row: dict[str, object]) -> CheckRecord:
    return CheckRecord(**{name: row[name] for name in asdict(SOUND)})  # type: ignore[arg-type]


def test_saved_results_are_read_unchanged(engine: Engine) -> None:
    save_check_results(engine, [SOUND, AGREE])
    assert [*map(record_of, list_checks(engine, None, None, 10))] == [SOUND, AGREE]
    assert [*map(record_of, list_checks(engine, "raw_prices", False, 10))] == [AGREE]
    assert list_checks(engine, "predictions", None, 10) == []


def test_a_repeated_check_replaces_its_result(engine: Engine) -> None:
    save_check_results(engine, [AGREE])
    (before,) = list_checks(engine, None, None, 10)
    fixed = replace(AGREE, passed=True, message="nothing")
    save_check_results(engine, [fixed])
    (after,) = list_checks(engine, None, None, 10)
    assert record_of(after) == fixed
    assert after["checked_at"] > before["checked_at"]


def test_newest_checks_are_those_of_the_last_run(engine: Engine) -> None:
    save_check_results(engine, [SOUND, AGREE])
    later = replace(SOUND, dagster_run_id="run-0", first_partition="2013-01-07")
    save_check_results(engine, [later])
    assert [*map(record_of, newest_checks(engine))] == [later, AGREE]


def test_without_results_nothing_is_stored(engine: Engine) -> None:
    save_check_results(engine, [])
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM check_results")) == 0


def test_a_partition_is_refused_while_the_newest_result_of_a_blocking_check_failed(
    engine: Engine,
) -> None:
    days = [f"2013-01-0{day}" for day in (1, 2, 3, 4)]
    save_check_results(engine, [SOUND, AGREE, replace(AGREE, first_partition="2013-02-01")])
    assert [found.partition for found in failed_checks(engine, "raw_prices", days)] == days[1:]
    warning = replace(SOUND, dagster_run_id="run-2", passed=False)
    fixed = replace(AGREE, dagster_run_id="run-2", passed=True, last_partition="2013-01-03")
    save_check_results(engine, [warning, fixed])
    (left,) = failed_checks(engine, "raw_prices", days)
    assert (left.partition, left.check_name, left.message) == (days[3], "histories_agree", "2 rows")
    assert failed_checks(engine, "predictions", days) == []
