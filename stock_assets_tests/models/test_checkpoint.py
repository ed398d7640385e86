"""Checkpoints: a killed training ends as one that was not, and nothing else is gone on with."""

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
from stock_assets.models.checkpoint import Checkpoint, Checkpoints, EpochScore
from stock_assets.models.networks import Network, build_network
from stock_assets.models.training import Fit, fit, weights_digest
from stock_assets_tests.conftest import ROOT
from stock_assets_tests.models.examples import (
    ARCHITECTURES,
    SETTINGS,
    learnable_data,
    spec,
    with_windows,
)

DATA = learnable_data()
# Dropout, a rate that falls, and a best epoch that is not the last: all of it has to come back.
LONG = replace(SETTINGS, epochs=9, patience=9, plateau_epochs=1, learning_rate=0.1)
each_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES)

TRAIN_AND_DIE = """
import os, signal, sys
from pathlib import Path
from stock_assets_tests.models.test_checkpoint import Checkpoint, train

def die(score):
    if score.epoch == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)

train(sys.argv[2], Checkpoint(Path(sys.argv[1]), "purpose"), die)
"""


def train(
    architecture: str, checkpoint: Checkpoint | None = None, on_epoch: object = None, **changes: int
) -> tuple[Network, Fit]:
    network = build_network(spec(architecture, dropout=0.3, layers=2), seed=3)
    return network, fit(network, DATA, replace(LONG, **changes), on_epoch, checkpoint)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    return Checkpoint(tmp_path / "folder" / "training.safetensors", "purpose")


def kill_in_epoch(epoch: int, architecture: str, checkpoint: Checkpoint) -> None:
    command = [sys.executable, "-c", TRAIN_AND_DIE, checkpoint.path, architecture, str(epoch)]
    died = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr


@each_architecture
def test_a_killed_training_goes_on_to_the_same_weights_bit_for_bit(
    architecture: str, checkpoint: Checkpoint
) -> None:
    whole, history = train(architecture)
    for epoch in (3, 7):
        kill_in_epoch(epoch, architecture, checkpoint)
    made: list[int] = []
    resumed, again = train(architecture, checkpoint, lambda score: made.append(score.epoch))
    assert made == [7, 8, 9]
    assert again == history
    assert weights_digest(resumed) == weights_digest(whole)
    rates = [score.learning_rate for score in history.history]
    assert rates[0] > rates[-1], "a schedule that never acted would prove nothing"


def test_a_training_that_has_ended_makes_no_further_epoch(checkpoint: Checkpoint) -> None:
    first, ended = train("lstm", checkpoint, patience=1)
    assert len(ended.history) == ended.best_epoch + 1 < LONG.epochs
    made: list[EpochScore] = []
    second, again = train("lstm", checkpoint, made.append, patience=1)
    assert made == []
    assert again == ended
    assert weights_digest(second) == weights_digest(first)


def test_a_checkpoint_of_another_purpose_is_not_gone_on_with(checkpoint: Checkpoint) -> None:
    train("lstm", checkpoint, epochs=2)
    made: list[int] = []
    other = replace(checkpoint, purpose="another")
    train("lstm_attention", other, lambda score: made.append(score.epoch), epochs=3)
    assert made == [1, 2, 3]


def test_checkpoints_do_not_change_a_training(checkpoint: Checkpoint) -> None:
    assert weights_digest(train("lstm", checkpoint)[0]) == weights_digest(train("lstm")[0])


def test_one_whole_file_is_left_and_it_is_no_pickle(checkpoint: Checkpoint) -> None:
    train("lstm", checkpoint, epochs=2)
    assert list(checkpoint.path.parent.iterdir()) == [checkpoint.path]
    header = checkpoint.path.read_bytes()[8:]
    assert header.startswith(b'{"__metadata__"')


def test_a_damaged_checkpoint_is_told_with_its_name(checkpoint: Checkpoint) -> None:
    checkpoint.path.parent.mkdir()
    checkpoint.path.write_bytes(b"half a file")
    with pytest.raises(StockAssetsError, match=r"training\.safetensors is damaged"):
        train("lstm", checkpoint)


def test_a_file_of_something_else_is_told_with_its_name(checkpoint: Checkpoint) -> None:
    checkpoint.path.parent.mkdir()
    save_file({"weights": torch.zeros(2)}, checkpoint.path)
    with pytest.raises(StockAssetsError, match=r"training\.safetensors is damaged"):
        train("lstm", checkpoint)


def test_what_decides_the_weights_decides_the_purpose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = Checkpoints(tmp_path, "data")
    first = files.of("candidate", settings={"epochs": 3})
    assert first.path == tmp_path / "candidate.safetensors"
    assert files.of("candidate", settings={"epochs": 3}) == first
    others = [files.of("candidate", settings={"epochs": 4}), files.of("candidate")]
    others.append(Checkpoints(tmp_path, "other").of("candidate", settings={"epochs": 3}))
    for module in ("stock_assets.models.checkpoint.training_code", "torch.__version__"):
        with monkeypatch.context() as changed:
            changed.setattr(module, (lambda: "other") if module.endswith("code") else "9.9")
            others.append(files.of("candidate", settings={"epochs": 3}))
    purposes = {first.purpose, *(other.purpose for other in others)}
    assert len(purposes) == 1 + len(others)


def test_a_training_that_never_got_better_goes_on_too(checkpoint: Checkpoint) -> None:
    diverging = with_windows(DATA, values=DATA.windows.values.clone())
    diverging.windows.values[95:] = float("nan")
    for epochs in (2, 4):
        with pytest.raises(StockAssetsError, match=f"no validation loss in {epochs} epochs"):
            settings = replace(LONG, epochs=epochs)
            fit(build_network(spec(), 3), diverging, settings, checkpoint=checkpoint)
