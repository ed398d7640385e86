"""The state of a training between two epochs, and checkpoint files to resume from."""

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
    """Mean losses per (window, ticker) pair of an epoch, counted from 1.

    The validation loss is NaN without a validation segment.
    """

    epoch: int
    train_loss: float
    validation_loss: float
    learning_rate: float


@dataclass
class TrainingState:
    """The state of a training between two epochs.

    Attributes
    ----------
    network, optimiser, schedule
        State after the newest epoch.
    history : list of EpochScore
        One per completed epoch.
    best_epoch : int
        The first epoch with the lowest validation loss; 0 before the first.
    best_weights : dict of Tensor
        Weights after the best epoch.
    """

    network: Network
    optimiser: Optimizer
    schedule: ReduceLROnPlateau
    history: list[EpochScore] = field(default_factory=list)
    best_epoch: int = 0
    best_weights: dict[str, Tensor] = field(default_factory=dict)

    def record_epoch(self, score: EpochScore) -> None:
        """Record the score of an epoch, its weights if it is the best, and set the next rate."""
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
    """A file with a `TrainingState` and the random state of PyTorch: tensors and JSON, no pickle.

    A resumed training ends with the weights of an uninterrupted one, bit for bit on a CPU. The file
    is replaced atomically.

    Attributes
    ----------
    path : Path
        The file. Its folder is created if needed.
    fingerprint : str
        Digest of everything that determines the weights. A file with another fingerprint is not
        resumed from.
    """

    path: Path
    fingerprint: str

    def save(self, state: TrainingState) -> None:
        """Write the file, replacing that of the previous epoch."""
        optimiser = state.optimiser.state_dict()
        device = _device(state.network)
        random = {"cpu": torch.get_rng_state()}
        if device.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state(device)
        tensors = {
            **_add_prefix("network", state.network.state_dict()),
            **_add_prefix("best", state.best_weights),
            **_add_prefix("random", random),
            **{
                f"optimiser/{index}/{name}": value
                for index, moments in optimiser["state"].items()
                for name, value in moments.items()
            },
        }
        plain = {
            "fingerprint": self.fingerprint,
            "history": [asdict(score) for score in state.history],
            "best_epoch": state.best_epoch,
            "learning_rate": optimiser["param_groups"][0]["lr"],
            "schedule": state.schedule.state_dict(),
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_name(f"{self.path.name}.partial")
        save_file(tensors, partial, metadata={"progress": json.dumps(plain)})
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(self.path)

    def restore(self, state: TrainingState) -> None:
        """Load the file into a new training, with the random state, if it has this fingerprint.

        Raises
        ------
        StockAssetsError
            The file is damaged.
        """
        if not self.path.exists():
            return
        plain, tensors = self._read()
        if plain.get("fingerprint") != self.fingerprint:
            return
        state.network.load_state_dict(_strip_prefix("network", tensors))
        state.best_weights = _strip_prefix("best", tensors)
        state.best_epoch = plain["best_epoch"]
        state.history = [EpochScore(**score) for score in plain["history"]]
        state.schedule.load_state_dict(plain["schedule"])
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in _strip_prefix("optimiser", tensors).items():
            index, name = key.split("/")
            moments.setdefault(int(index), {})[name] = value
        groups = state.optimiser.state_dict()["param_groups"]
        for group in groups:
            group["lr"] = plain["learning_rate"]
        state.optimiser.load_state_dict({"state": moments, "param_groups": groups})
        random = _strip_prefix("random", tensors)
        torch.set_rng_state(random["cpu"])
        if "cuda" in random:
            torch.cuda.set_rng_state(random["cuda"], _device(state.network))

    def _read(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        try:
            with safe_open(self.path, "pt") as file:
                # Copies, because the file is replaced while the tensors are in use.
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (no dict)
                return json.loads(file.metadata()["progress"]), tensors
        except (SafetensorError, TypeError, KeyError) as error:  # or a file of other content
            raise StockAssetsError(
                f"the checkpoint {self.path} is damaged: {error}",
                "Delete it, and training starts from its first epoch",
            ) from None


@dataclass(frozen=True)
class CheckpointFolder:
    """The checkpoint files of a dataset.

    Attributes
    ----------
    folder : Path
    data_fingerprint : str
        Digest of the training data.
    """

    folder: Path
    data_fingerprint: str

    def checkpoint(self, name: str, architecture: str, **inputs: Any) -> Checkpoint:
        """Return the checkpoint of a training.

        Parameters
        ----------
        name : str
            File name without suffix.
        architecture : str
            Of the network; the code of a custom one counts.
        **inputs
            Plain values that determine the weights, in addition to the data, the code and the
            version of PyTorch.
        """
        environment = {"code": training_code([architecture]), "torch": torch.__version__}
        fingerprint = plain_digest({"data": self.data_fingerprint, **environment, **inputs})
        return Checkpoint(self.folder / f"{name}.safetensors", fingerprint)


def _device(network: Network) -> torch.device:
    return next(network.parameters()).device


def _add_prefix(group: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{group}/{name}": tensor for name, tensor in tensors.items()}


def _strip_prefix(group: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    start = f"{group}/"
    return {
        name.removeprefix(start): tensor
        for name, tensor in tensors.items()
        if name.startswith(start)
    }
