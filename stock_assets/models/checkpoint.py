"""Where a training stands between two epochs, in memory and in a file to go on from."""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from stock_assets.core.errors import StockAssetsError
from stock_assets.core.fingerprints import plain_digest, training_code
from stock_assets.models.networks import Network


@dataclass(frozen=True)
class EpochScore:
    """Losses of one epoch, counted from 1, each a mean over its (window, ticker) pairs.

    The validation loss is NaN where nothing is held out.
    """

    epoch: int
    train_loss: float
    validation_loss: float
    learning_rate: float


@dataclass
class Progress:
    """A fit between two epochs.

    Attributes
    ----------
    network, optimiser, schedule
        As the newest epoch left them.
    history : list of EpochScore
        One per epoch that is done.
    best_epoch : int
        The epoch with the lowest validation loss, the first of equals; 0 before there is one.
    best_weights : dict of Tensor
        The network's weights after that epoch.
    """

    network: Network
    optimiser: Optimizer
    schedule: ReduceLROnPlateau
    history: list[EpochScore] = field(default_factory=list)
    best_epoch: int = 0
    best_weights: dict[str, Tensor] = field(default_factory=dict)

    def finish_epoch(self, score: EpochScore) -> None:
        """Take note of an epoch: its score, its weights if it is the best, the next rate."""
        best_loss = (
            self.history[self.best_epoch - 1].validation_loss if self.best_epoch else math.inf
        )
        self.history.append(score)
        if score.validation_loss < best_loss:
            self.best_epoch = score.epoch
            weights = self.network.state_dict()
            self.best_weights = {name: weight.detach().clone() for name, weight in weights.items()}
        self.schedule.step(score.validation_loss)


@dataclass(frozen=True)
class Checkpoint:
    """A file that holds a `Progress` and PyTorch's random state: tensors and JSON, no pickle.

    A fit that goes on from it ends with the weights of one that was never interrupted, bit for bit
    on a CPU. The file is written under another name first, so that it is whole or not there.

    Attributes
    ----------
    path : Path
        The file; its folder is made when needed.
    purpose : str
        Digest of all that decides the weights. A file of another purpose is not gone on from.
    """

    path: Path
    purpose: str

    def save(self, progress: Progress) -> None:
        """Write the file, over that of the epoch before."""
        state = progress.optimiser.state_dict()
        device = _device(progress.network)
        random = {"cpu": torch.get_rng_state()}
        if device.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state(device)
        tensors = {
            **_prefixed("network", progress.network.state_dict()),
            **_prefixed("best", progress.best_weights),
            **_prefixed("random", random),
            **{
                f"optimiser/{index}/{name}": value
                for index, moments in state["state"].items()
                for name, value in moments.items()
            },
        }
        plain = {
            "purpose": self.purpose,
            "history": [asdict(score) for score in progress.history],
            "best_epoch": progress.best_epoch,
            "learning_rate": state["param_groups"][0]["lr"],
            "schedule": progress.schedule.state_dict(),
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_name(f"{self.path.name}.partial")
        save_file(tensors, partial, metadata={"progress": json.dumps(plain)})
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(self.path)

    def restore(self, progress: Progress) -> None:
        """Bring a fresh fit to where the file says, if there is one of this purpose.

        PyTorch's random state is set too.

        Raises
        ------
        StockAssetsError
            The file is damaged.
        """
        if not self.path.exists():
            return
        plain, tensors = self._read()
        if plain["purpose"] != self.purpose:
            return
        progress.network.load_state_dict(_under("network", tensors))
        progress.best_weights = _under("best", tensors)
        progress.best_epoch = plain["best_epoch"]
        progress.history = [EpochScore(**score) for score in plain["history"]]
        progress.schedule.load_state_dict(plain["schedule"])
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in _under("optimiser", tensors).items():
            index, name = key.split("/")
            moments.setdefault(int(index), {})[name] = value
        groups = progress.optimiser.state_dict()["param_groups"]
        groups[0]["lr"] = plain["learning_rate"]
        progress.optimiser.load_state_dict({"state": moments, "param_groups": groups})
        random = _under("random", tensors)
        torch.set_rng_state(random["cpu"])
        if "cuda" in random:
            torch.cuda.set_rng_state(random["cuda"], _device(progress.network))

    def _read(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        try:
            with safe_open(self.path, "pt") as file:
                # The file is replaced while what was read from it is still in use: copies.
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (no dict)
                return json.loads(file.metadata()["progress"]), tensors
        except (SafetensorError, TypeError, KeyError) as error:  # or nothing that was saved here
            raise StockAssetsError(
                f"the checkpoint {self.path} is damaged: {error}",
                "Delete it; training then starts from its first epoch",
            ) from None


@dataclass(frozen=True)
class Checkpoints:
    """The files of the trainings of one dataset.

    Attributes
    ----------
    folder : Path
    data : str
        Tells the data apart from other data that a file may be of, a digest say.
    """

    folder: Path
    data: str

    def of(self, name: str, **decisive: Any) -> Checkpoint:
        """Give the file of one training.

        Parameters
        ----------
        name : str
            Of the training within its dataset.
        **decisive
            Plain values that decide its weights, beside the data, the code and the version of
            PyTorch.
        """
        build_environment = {"code": training_code(), "torch": torch.__version__}
        purpose = plain_digest({"data": self.data, **build_environment, **decisive})
        return Checkpoint(self.folder / f"{name}.safetensors", purpose)


def _device(network: Network) -> torch.device:
    return next(network.parameters()).device


def _prefixed(group: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{group}/{name}": tensor for name, tensor in tensors.items()}


def _under(group: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    start = f"{group}/"
    return {
        name.removeprefix(start): tensor
        for name, tensor in tensors.items()
        if name.startswith(start)
    }
