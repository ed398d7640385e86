"""Fits networks and forecasts with them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from stock_assets.config import Loss, Training
from stock_assets.core.errors import StockAssetsError
from stock_assets.core.progress import bar
from stock_assets.features.windows import Windows, usable_windows
from stock_assets.models.checkpoint import Checkpoint, EpochScore, TrainingState
from stock_assets.models.data import TrainingData
from stock_assets.models.device import windows_per_pass
from stock_assets.models.networks import Network, pick_device

LOSSES: dict[Loss, Callable[..., Tensor]] = {
    "huber": functional.huber_loss,
    "mse": functional.mse_loss,
    "mae": functional.l1_loss,
}


class FitSettings(Training):
    """Settings of a training: the parameters that are not tuned, and two that are.

    Attributes
    ----------
    learning_rate : float
        Initial learning rate.
    batch_size : int
        Windows per step.
    """

    learning_rate: float
    batch_size: int

    def deciding_weights(self) -> dict[str, Any]:
        """Return the settings that decide the weights of a network."""
        return self.model_dump(exclude={"ensemble", "shrinkage"})


@dataclass(frozen=True)
class Fit:
    """The history of a training; the network has the weights of the best epoch."""

    history: tuple[EpochScore, ...]
    best_epoch: int

    @property
    def best(self) -> EpochScore:
        """The first epoch with the lowest validation loss."""
        return self.history[self.best_epoch - 1]


def fit(
    network: Network,
    data: TrainingData,
    settings: FitSettings,
    on_epoch: Callable[[EpochScore], None] | None = None,
    checkpoint: Checkpoint | None = None,
) -> Fit:
    """Fit a network in place and load the weights of its best epoch.

    AdamW (Loshchilov and Hutter 2019) on shuffled windows, with gradient clipping, a learning rate
    that is reduced on plateaus, and early stopping on the validation windows. Biases, norms and
    embeddings do not decay. (A cosine schedule needs to know the last epoch, which early stopping
    and pruning determine.) A loss counts every usable (window, ticker) pair once, for any batch
    size. On a CPU, training is deterministic bit for bit. The global random state of PyTorch does
    not change.

    Parameters
    ----------
    network : Network
        Moved to the device of the settings.
    data : TrainingData
    settings : FitSettings
    on_epoch : callable, optional
        Called with the score of each epoch. An exception that it raises ends training.
    checkpoint : Checkpoint, optional
        Written after each epoch. If the file exists, training resumes from it.

    Raises
    ------
    StockAssetsError
        A segment has no usable window, or no validation loss was finite.
    """
    device = pick_device(settings.device)
    network.to(device)
    data = mask_untrained_tickers(network, data)
    windows = data.windows.to(device)
    train = _examples(network, data, windows, data.train, "training")
    validation = _examples(network, data, windows, data.validation, "validation")
    state = _initial_state(network, settings)
    with _cpu_threads(settings.threads), _seeded(settings.seed, device):
        if checkpoint is not None:
            checkpoint.restore(state)
        epochs = bar(range(len(state.history) + 1, settings.epochs + 1), "epochs")
        for epoch in epochs:
            if epoch - state.best_epoch > settings.patience:
                break
            rate = state.optimiser.param_groups[0]["lr"]
            train_loss = _train_epoch(network, train, state.optimiser, settings)
            loss = _mean_loss(network, validation, LOSSES[settings.loss])
            score = EpochScore(epoch, train_loss, loss, rate)
            epochs.set_postfix(validation=f"{loss:.4f}")
            if on_epoch is not None:
                on_epoch(score)
            state.record_epoch(score)
            if checkpoint is not None:
                checkpoint.save(state)
    if state.best_epoch == 0:
        raise StockAssetsError(
            f"training diverged: no validation loss in {len(state.history)} epochs was finite",
            "Lower the learning rate, or check the features for extreme values",
        )
    network.load_state_dict(state.best_weights)
    return Fit(tuple(state.history), state.best_epoch)


def refit(
    network: Network,
    data: TrainingData,
    settings: FitSettings,
    rates: Sequence[float],
    checkpoint: Checkpoint | None = None,
) -> list[float]:
    """Fit a network in place for one epoch per learning rate, without a validation segment.

    With the rates of a :func:`fit` up to its best epoch and the same network, train segment and
    settings, it ends with the weights of that fit, bit for bit on a CPU.

    Parameters
    ----------
    network : Network
        Moved to the device of the settings.
    data : TrainingData
    settings : FitSettings
        ``epochs``, ``patience``, ``learning_rate`` and the plateau settings are ignored.
    rates : sequence of float
        Learning rate of each epoch.
    checkpoint : Checkpoint, optional
        See :func:`fit`.

    Returns
    -------
    list of float
        Training loss of each epoch.

    Raises
    ------
    StockAssetsError
        The train segment has no usable window, or a training loss was not finite.
    """
    device = pick_device(settings.device)
    network.to(device)
    data = mask_untrained_tickers(network, data)
    examples = _examples(network, data, data.windows.to(device), data.train, "training")
    state = _initial_state(network, settings)
    with _cpu_threads(settings.threads), _seeded(settings.seed, device):
        if checkpoint is not None:
            checkpoint.restore(state)
        for rate in bar(rates[len(state.history) :], "epochs"):
            for group in state.optimiser.param_groups:
                group["lr"] = rate
            loss = _train_epoch(network, examples, state.optimiser, settings)
            epoch = len(state.history) + 1
            state.history.append(EpochScore(epoch, loss, float("nan"), rate))
            if checkpoint is not None:
                checkpoint.save(state)
    losses = [score.train_loss for score in state.history]
    if not np.isfinite(losses).all():
        raise StockAssetsError(
            "the refit diverged: a training loss was not finite",
            "Set promotion.refit to false to promote the candidate itself",
        )
    return losses


@torch.no_grad()
def forecast_scaled(
    network: Network, windows: Windows, ends: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Forecast the scaled target for the windows with the given ends.

    Uses one CPU thread, because rounding depends on the number of threads.

    Parameters
    ----------
    network : Network
        Set to evaluation mode.
    windows : Windows
        Of the network's window length.
    ends : (B,) int64

    Returns
    -------
    (B, horizon, N) float32
        In the order of ``ends``; undefined for a ticker that is invalid at the window's end.
    """
    network.eval()
    device = next(network.parameters()).device
    windows = windows.to(device)
    per_pass = windows_per_pass(network, gradients=False)
    batches = torch.split(torch.as_tensor(ends, device=device), per_pass)
    with _cpu_threads(1):
        return torch.cat([network(*windows.batch(batch)) for batch in batches]).cpu().numpy()


def weights_digest(network: Network) -> str:
    """Compute the SHA-256 of the names, shapes, types and bytes of all weights."""
    digest = hashlib.sha256()
    for name, weight in sorted(network.state_dict().items()):
        digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}\n".encode())
        digest.update(weight.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class _Examples:
    """The windows of a segment with a usable (window, ticker) pair, on the network's device."""

    windows: Windows
    ends: Tensor
    labels: Tensor
    counted: Tensor


def _examples(
    network: Network,
    data: TrainingData,
    windows: Windows,
    ends: NDArray[np.int64],
    segment: str,
) -> _Examples:
    """Select the windows of a segment; `windows` are those of `data`, on the device."""
    usable = usable_windows(data.windows.valid.numpy(), ends, windows.length)
    device = windows.valid.device
    steps = np.arange(network.spec.horizon)
    labels = data.target[torch.as_tensor(ends[:, None] + steps)]
    counted = torch.as_tensor(usable).unsqueeze(1) & labels.isfinite()
    kept = counted.flatten(1).any(dim=1)
    if not kept.any():
        raise StockAssetsError(
            f"the {segment} segment of {len(ends)} sessions has no usable window",
            "Lengthen it, shorten dataset.window, or check for tickers without prices",
        )
    return _Examples(
        windows,
        torch.as_tensor(ends)[kept].to(device),
        labels[kept].to(device),
        counted[kept].to(device),
    )


def mask_untrained_tickers(network: Network, data: TrainingData) -> TrainingData:
    """Mask tickers without a usable training window, in the data and in the network's weights.

    Otherwise their few valid rows would influence the forecasts of other tickers through weights
    that were not trained.
    """
    valid = data.windows.valid
    trained = usable_windows(valid.numpy(), data.train, data.windows.length).any(axis=0)
    untrained = torch.from_numpy(~trained)
    network.zero_input_weights(untrained.to(next(network.parameters()).device))
    return replace(data, windows=replace(data.windows, valid=valid & ~untrained))


@contextmanager
def _cpu_threads(count: int) -> Iterator[None]:
    """Set the number of CPU threads, and restore it afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed PyTorch, and restore its random state afterwards."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def decayed_weights(network: nn.Module) -> set[str]:
    """Return the names of the weights that decay: matrices that multiply inputs or states.

    Biases, norms and embeddings do not: a bias of 0 or an embedding of the average ticker is no
    more plausible than another.
    """
    return {
        f"{prefix}.{name}".removeprefix(".")
        for prefix, module in network.named_modules()
        if not isinstance(module, nn.Embedding)
        for name, weight in module.named_parameters(recurse=False)
        if "weight" in name and weight.ndim > 1
    }


def _initial_state(network: Network, settings: FitSettings) -> TrainingState:
    decayed = decayed_weights(network)
    weights = dict(network.named_parameters())
    groups: list[dict[str, Any]] = [
        {"params": [weight for name, weight in weights.items() if name in decayed]},
        {
            "params": [weight for name, weight in weights.items() if name not in decayed],
            "weight_decay": 0.0,
        },
    ]
    optimiser = torch.optim.AdamW(
        groups,
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        fused=True,  # without copies of the weights
    )
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimiser,
        factor=settings.plateau_factor,
        patience=settings.plateau_epochs - 1,
        threshold=0.0,  # any improvement counts, as for early stopping
    )
    return TrainingState(network, optimiser, schedule)


def _summed_loss(
    network: Network, examples: _Examples, rows: Tensor, loss: Callable[..., Tensor]
) -> Tensor:
    forecast = network(*examples.windows.batch(examples.ends[rows]))
    counted = examples.counted[rows]
    return loss(forecast[counted], examples.labels[rows][counted], reduction="sum")


def _train_epoch(
    network: Network, examples: _Examples, optimiser: torch.optim.Optimizer, settings: FitSettings
) -> float:
    """Take one step per batch, accumulating gradients over passes that fit into memory."""
    network.train()
    device, per_pass = examples.ends.device, windows_per_pass(network, gradients=True)
    order = torch.randperm(len(examples.ends)).to(device)
    total = torch.zeros((), device=device)
    for batch in torch.split(order, settings.batch_size):
        pairs = examples.counted[batch].sum()
        optimiser.zero_grad()
        for rows in torch.split(batch, per_pass):
            summed = _summed_loss(network, examples, rows, LOSSES[settings.loss])
            torch.autograd.backward(summed / pairs)
            total += summed.detach()
        torch.nn.utils.clip_grad_norm_(network.parameters(), settings.gradient_clip)
        optimiser.step()
    optimiser.zero_grad()  # frees memory for the copy of the best weights
    return float(total) / int(examples.counted.sum())


@torch.no_grad()
def _mean_loss(network: Network, examples: _Examples, loss: Callable[..., Tensor]) -> float:
    network.eval()
    per_pass = windows_per_pass(network, gradients=False)
    every = torch.arange(len(examples.ends), device=examples.ends.device)
    parts = [_summed_loss(network, examples, rows, loss) for rows in torch.split(every, per_pass)]
    return float(sum(parts)) / int(examples.counted.sum())
