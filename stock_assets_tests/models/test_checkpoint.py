"""Checkpoints: a killed training resumes to the same weights, other files are ignored."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from stock_assets.core.errors import StockAssetsError
from stock_assets.models.checkpoint import Checkpoint, CheckpointFolder, EpochScore
from stock_assets.models.networks import Network, build_network
from stock_assets.models.training import Fit, fit, weights_digest
from stock_assets_tests.conftest import ROOT
from stock_assets_tests.custom_code import NETWORK, custom_project, documented
from stock_assets_tests.models.examples import (
    fit_settings,
    learnable_data,
    spec,
    with_windows,
)

DATA = learnable_data()
# Dropout, a falling rate, and a best epoch that is not the last must all be restored.
LONG = fit_settings(epochs=9, patience=9, plateau_epochs=1, learning_rate=0.1)

TRAIN_AND_DIE = """
import os, signal, sys
from pathlib import Path
from stock_assets_tests.models.test_checkpoint import Checkpoint, train

def die(score):
    if score.epoch == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)

train(sys.argv[2], Checkpoint(Path(sys.argv[1]), "fingerprint"), die)
"""


def train(
    architecture: str, checkpoint: Checkpoint | None = None, on_epoch: object = None, **changes: int
) -> tuple[Network, Fit]:
    network = build_network(spec(architecture, dropout=0.3, layers=2), seed=3)
    return network, fit(network, DATA, LONG.model_copy(update=changes), on_epoch, checkpoint)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    return Checkpoint(tmp_path / "folder" / "training.safetensors", "fingerprint")


def kill_in_epoch(epoch: int, architecture: str, checkpoint: Checkpoint) -> None:
    command = [sys.executable, "-c", TRAIN_AND_DIE, checkpoint.path, architecture, str(epoch)]
    killed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr


@pytest.mark.parametrize(
    "architecture",
    [
        "lstm_attention",
        pytest.param("lstm", marks=pytest.mark.long),
        pytest.param("lstm_cross_attention", marks=pytest.mark.long),
    ],
)
def test_killed_training_resumes_to_the_same_weights(
    architecture: str, checkpoint: Checkpoint
) -> None:
    whole, history = train(architecture)
    kill_in_epoch(3, architecture, checkpoint)
    seen: list[int] = []

    def interrupt(score: EpochScore) -> None:
        seen.append(score.epoch)
        if score.epoch == 7:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        train(architecture, checkpoint, interrupt)
    resumed, again = train(architecture, checkpoint, lambda score: seen.append(score.epoch))
    assert seen == [3, 4, 5, 6, 7, 7, 8, 9]
    assert again == history
    assert weights_digest(resumed) == weights_digest(whole)
    rates = [score.learning_rate for score in history.history]
    assert rates[0] > rates[-1], "the schedule was not tested"


def test_finished_training_runs_no_epoch(checkpoint: Checkpoint) -> None:
    first, ended = train("lstm", checkpoint, patience=1)
    assert len(ended.history) == ended.best_epoch + 1 < LONG.epochs
    seen: list[EpochScore] = []
    second, again = train("lstm", checkpoint, seen.append, patience=1)
    assert seen == []
    assert again == ended
    assert weights_digest(second) == weights_digest(first)


def test_checkpoint_of_another_fingerprint_is_ignored(checkpoint: Checkpoint) -> None:
    train("lstm", checkpoint, epochs=2)
    seen: list[int] = []
    other = replace(checkpoint, fingerprint="another")
    train("lstm_attention", other, lambda score: seen.append(score.epoch), epochs=3)
    assert seen == [1, 2, 3]


def test_checkpoints_do_not_change_the_weights(checkpoint: Checkpoint) -> None:
    assert weights_digest(train("lstm", checkpoint)[0]) == weights_digest(train("lstm")[0])


def test_checkpoint_is_a_single_safetensors_file(checkpoint: Checkpoint) -> None:
    train("lstm", checkpoint, epochs=2)
    assert list(checkpoint.path.parent.iterdir()) == [checkpoint.path]
    header = checkpoint.path.read_bytes()[8:]
    assert header.startswith(b'{"__metadata__"')


def test_damaged_checkpoint_is_an_error(checkpoint: Checkpoint) -> None:
    checkpoint.path.parent.mkdir()
    checkpoint.path.write_bytes(b"half a file")
    with pytest.raises(StockAssetsError, match=r"training\.safetensors is damaged"):
        train("lstm", checkpoint)


def test_file_of_other_content_is_an_error(checkpoint: Checkpoint) -> None:
    checkpoint.path.parent.mkdir()
    save_file({"weights": torch.zeros(2)}, checkpoint.path)
    with pytest.raises(StockAssetsError, match=r"training\.safetensors is damaged"):
        train("lstm", checkpoint)


def test_fingerprint_depends_on_everything_that_determines_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = CheckpointFolder(tmp_path, "data")
    usual = {"name": "candidate", "architecture": "lstm", "settings": {"epochs": 3}}
    first = files.checkpoint(**usual)
    assert first.path == tmp_path / "candidate.safetensors"
    assert files.checkpoint(**usual) == first
    others = [
        files.checkpoint("candidate", "lstm", settings={"epochs": 4}),
        files.checkpoint("candidate", "lstm"),
    ]
    others.append(
        CheckpointFolder(tmp_path, "other").checkpoint("candidate", "lstm", settings={"epochs": 3})
    )
    for module in ("stock_assets.models.checkpoint.training_code", "torch.__version__"):
        with monkeypatch.context() as changed:
            changed.setattr(module, (lambda _: "other") if module.endswith("code") else "9.9")
            others.append(files.checkpoint(**usual))
    fingerprints = {first.fingerprint, *(other.fingerprint for other in others)}
    assert len(fingerprints) == 1 + len(others)


def test_only_the_code_of_its_own_network_changes_a_fingerprint(tmp_path: Path) -> None:
    files = CheckpointFolder(tmp_path / "checkpoints", "data")
    built_in = files.checkpoint("candidate", "lstm")
    with custom_project(tmp_path / "custom") as folder:
        custom = files.checkpoint("candidate", NETWORK)
        assert files.checkpoint("candidate", "lstm") == built_in
        for module in ("our_networks", "our_features"):
            before = files.checkpoint("candidate", NETWORK)
            (folder / f"{module}.py").write_text(documented(module) + "# changed\n")
            assert (files.checkpoint("candidate", NETWORK) == before) == (module == "our_features")
        assert files.checkpoint("candidate", "lstm") == built_in != custom


def test_training_without_a_best_epoch_resumes(checkpoint: Checkpoint) -> None:
    diverging = with_windows(DATA, values=DATA.windows.values.clone())
    diverging.windows.values[95:] = float("nan")
    for epochs in (2, 4):
        with pytest.raises(StockAssetsError, match=f"no validation loss in {epochs} epochs"):
            settings = LONG.model_copy(update={"epochs": epochs})
            fit(build_network(spec(), 3), diverging, settings, checkpoint=checkpoint)
