"""`stock-assets prove`: a proof as a tree or JSON, and its exit status."""

from __future__ import annotations

import json

import pytest

from stock_assets_tests.cli.conftest import Command, Installation

FORECAST = "2013-01-31/AAPL"


def test_a_proof_is_a_tree_with_a_tick_per_part(command: Command) -> None:
    finished = command("prove", FORECAST)
    assert finished.returncode == 0
    assert finished.stdout.startswith("AAPL as of 2013-01-31, for 2013-02-01: ")
    for part in ("record", "prices", "model", "dataset", "number"):
        assert f"─ ✓ {part}: " in finished.stdout
    assert "✗" not in finished.stdout


def test_a_sample_is_counted_and_printed_as_json(command: Command) -> None:
    assert command("prove", "--sample", "4").stdout == "4 forecasts: 4 hold to the bit.\n"
    found = json.loads(command("prove", "--sample", "4", "--json").stdout)
    assert found["holds"] is True
    assert found["outcomes"] == {"holds": 4}
    assert [proof["holds"] for proof in found["proofs"]] == [True] * 4
    assert {part["name"] for part in found["proofs"][0]["findings"]} >= {"prices", "number"}


@pytest.mark.long
def test_other_vector_instructions_hold_within_the_tolerance(looped: Installation) -> None:
    """PyTorch without vector instructions computes other last bits, as another processor does."""
    finished = looped.run("prove", FORECAST, "--retrain", "--json", ATEN_CPU_CAPABILITY="default")
    (proof,) = json.loads(finished.stdout)["proofs"]
    outcomes = {finding["name"]: finding["outcome"] for finding in proof["findings"]}
    assert finished.returncode == 0
    assert outcomes["environment"] == "differs"
    assert outcomes["dataset"] == "holds"
    assert {outcomes["model"], outcomes["number"]} <= {"holds", "within the tolerance"}


@pytest.mark.parametrize(
    "words", [[], [FORECAST, "--sample", "4"], ["2013-01-31/NONE"], ["then/AAPL"]]
)
def test_a_name_without_a_forecast_is_an_error(command: Command, words: list[str]) -> None:
    finished = command("prove", *words)
    assert finished.returncode == 1
    assert finished.stderr.startswith("error: ")
