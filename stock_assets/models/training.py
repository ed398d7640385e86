"""Fitting a network to one training segment, and forecasting with it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from stock_assets.config import Device, Loss
from stock_assets.core.errors import StockAssetsError
from stock_assets.core.progress import bar
from stock_assets.features.windows import Windows, usable_windows
from stock_assets.models.checkpoint import Checkpoint, EpochScore, Progress
from stock_assets.models.data import TrainingData
from stock_assets.models.networks import Network, pick_device
from stock_assets.models.working_memory import give_back_large_blocks, windows_at_once

LOSSES: dict[Loss, Callable[..., Tensor]] = {
    "huber": functional.huber_loss,
    "mse": functional.mse_loss,
    "mae": functional.l1_loss,
}

# Windows that pass through a network at once where no gradient limits the choice.
_FORECAST_BATCH = 256


@dataclass(frozen=True)
class FitSettings:
    """How to fit.

    Attributes
    ----------
    epochs : int
        Most passes over the training windows.
    patience : int
        Epochs without a better validation loss that end the fit.
    learning_rate : float
        At the start.
    batch_size : int
        Windows per step.
    loss : {"huber", "mse", "mae"}
        On the scaled target.
    weight_decay : float
        Of AdamW.
    gradient_clip : float
        Largest norm of the gradient.
    plateau_epochs, plateau_factor : int, float
        The learning rate is multiplied by this factor after so many epochs without improvement.
    threads : int
        CPU threads.
    device : {"auto", "cpu", "cuda"}
        Where to compute, see `pick_device`.
    seed : int
        Of dropout and the order of windows.
    """

    epochs: int
    patience: int
    learning_rate: float
    batch_size: int
    loss: Loss
    weight_decay: float
    gradient_clip: float
    plateau_epochs: int
    plateau_factor: float
    threads: int
    device: Device
    seed: int


@dataclass(frozen=True)
class Fit:
    """What happened during a fit; the network holds the weights of the best epoch."""

    history: tuple[EpochScore, ...]
    best_epoch: int

    @property
    def best(self) -> EpochScore:
        """The epoch with the lowest validation loss, the first of equals."""
        return self.history[self.best_epoch - 1]


def fit(
    network: Network,
    data: TrainingData,
    settings: FitSettings,
    on_epoch: Callable[[EpochScore], None] | None = None,
    checkpoint: Checkpoint | None = None,
) -> Fit:
    """Fit a network in place and leave it with the weights of its best epoch.

    AdamW (Loshchilov and Hutter 2019) on shuffled windows, with clipped gradients, a learning rate
    that falls on plateaus, and early stopping on the validation segment. (A cosine needs to know
    the last epoch, which early stopping and pruning decide.) A loss counts every usable
    (window, ticker) pair once, so it does not depend on the batch size. On a CPU, equal weights,
    data and settings give equal weights, bit for bit; PyTorch's own random state is left as it was.

    Parameters
    ----------
    network : Network
        Moved to the device of the settings, where it stays.
    data : TrainingData
    settings : FitSettings
    on_epoch : callable, optional
        Told each epoch's score; what it raises ends the fit.
    checkpoint : Checkpoint, optional
        Written after each epoch, and gone on from if it was there already.

    Raises
    ------
    StockAssetsError
        A segment holds no usable window, or no validation loss was finite.
    """
    device = pick_device(settings.device)
    network.to(device)
    data = mask_untrained_tickers(network, data)
    windows = data.windows.to(device)
    train = _examples(network, data, windows, data.train, "training")
    validation = _examples(network, data, windows, data.validation, "validation")
    progress = _beginning(network, settings)
    with _working(settings, device):
        if checkpoint is not None:
            checkpoint.restore(progress)
        epochs = bar(range(len(progress.history) + 1, settings.epochs + 1), "epochs")
        for epoch in epochs:
            if epoch - progress.best_epoch > settings.patience:
                break
            rate = progress.optimiser.param_groups[0]["lr"]
            train_loss = _train_epoch(network, train, progress.optimiser, settings)
            loss = _mean_loss(network, validation, LOSSES[settings.loss])
            score = EpochScore(epoch, train_loss, loss, rate)
            epochs.set_postfix(validation=f"{loss:.4f}")
            if on_epoch is not None:
                on_epoch(score)
            progress.finish_epoch(score)
            if checkpoint is not None:
                checkpoint.save(progress)
    if progress.best_epoch == 0:
        raise StockAssetsError(
            f"training diverged: no validation loss in {len(progress.history)} epochs was finite",
            "Lower the learning rate, or look for extreme values among the scaled features",
        )
    network.load_state_dict(progress.best_weights)
    return Fit(tuple(progress.history), progress.best_epoch)


def refit(
    network: Network,
    data: TrainingData,
    settings: FitSettings,
    rates: Sequence[float],
    checkpoint: Checkpoint | None = None,
) -> list[float]:
    """Fit a network in place for one epoch per learning rate, on ``data.train`` alone.

    Nothing is held out, so nothing stops it early. With the rates of a :func:`fit` up to its best
    epoch, and the same network, segment and settings, it ends with the weights of that fit, bit for
    bit on a CPU.

    Parameters
    ----------
    network : Network
        Moved to the device of the settings, where it stays.
    data : TrainingData
    settings : FitSettings
        Its ``epochs``, ``patience``, ``learning_rate`` and plateau are not looked at.
    rates : sequence of float
        The learning rate of each epoch.
    checkpoint : Checkpoint, optional
        As for :func:`fit`.

    Returns
    -------
    list of float
        The training loss of each epoch.

    Raises
    ------
    StockAssetsError
        The segment holds no usable window, or a training loss was not finite.
    """
    device = pick_device(settings.device)
    network.to(device)
    data = mask_untrained_tickers(network, data)
    examples = _examples(network, data, data.windows.to(device), data.train, "training")
    progress = _beginning(network, settings)
    with _working(settings, device):
        if checkpoint is not None:
            checkpoint.restore(progress)
        for rate in bar(rates[len(progress.history) :], "epochs"):
            progress.optimiser.param_groups[0]["lr"] = rate
            loss = _train_epoch(network, examples, progress.optimiser, settings)
            epoch = len(progress.history) + 1
            progress.history.append(EpochScore(epoch, loss, float("nan"), rate))
            if checkpoint is not None:
                checkpoint.save(progress)
    losses = [score.train_loss for score in progress.history]
    if not np.isfinite(losses).all():
        raise StockAssetsError(
            f"the refit diverged: its training losses were {losses}",
            "Set promotion.refit to false, and the candidate itself goes into production",
        )
    return losses


@torch.no_grad()
def forecast_scaled(
    network: Network, windows: Windows, ends: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Forecast the scaled target of the windows that end at ``ends``.

    On a CPU with one thread: several would round differently on machines with more cores.

    Parameters
    ----------
    network : Network
        Put into evaluation mode.
    windows : Windows
        As long as the network's.
    ends : ndarray (B,), int64

    Returns
    -------
    ndarray (B, horizon, N), float32
        In the order of ``ends``. It means nothing for a ticker that is invalid at its window's end.
    """
    network.eval()
    device = next(network.parameters()).device
    windows = windows.to(device)
    at_once = min(_FORECAST_BATCH, windows_at_once(network.spec))
    batches = torch.split(torch.as_tensor(ends, device=device), at_once)
    with _cpu_threads(1):
        return torch.cat([network(*windows.batch(batch)) for batch in batches]).cpu().numpy()


def weights_digest(network: Network) -> str:
    """SHA-256, in hexadecimal, of the names, shapes, types and bytes of all weights."""
    digest = hashlib.sha256()
    for name, weight in sorted(network.state_dict().items()):
        digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}\n".encode())
        digest.update(weight.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class _Examples:
    """The windows of one segment with at least one label that counts, on the network's device."""

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
    """Choose the windows of a segment; `windows` are those of the data, on the device."""
    usable, device = (
        usable_windows(data.windows.valid.numpy(), ends, windows.length),
        windows.valid.device,
    )
    steps = np.arange(network.spec.horizon)
    labels = data.target[torch.as_tensor(ends[:, None] + steps)]
    counted = torch.as_tensor(usable).unsqueeze(1) & labels.isfinite()
    kept = counted.flatten(1).any(dim=1)
    if not kept.any():
        raise StockAssetsError(
            f"the {segment} segment of {len(ends)} sessions holds no usable window",
            "Lengthen it, shorten dataset.window, or look for tickers without prices",
        )
    return _Examples(
        windows,
        torch.as_tensor(ends)[kept].to(device),
        labels[kept].to(device),
        counted[kept].to(device),
    )


def mask_untrained_tickers(network: Network, data: TrainingData) -> TrainingData:
    """Leave out the tickers that no usable window teaches anything about.

    Their few rows would teach the others to listen to them, and weigh what nobody was taught.
    """
    valid = data.windows.valid
    known = usable_windows(valid.numpy(), data.train, data.windows.length).any(axis=0)
    strangers = torch.from_numpy(~known)
    network.zero_input_weights(strangers.to(next(network.parameters()).device))
    return replace(data, windows=replace(data.windows, valid=valid & ~strangers))


@contextmanager
def _cpu_threads(count: int) -> Iterator[None]:
    """Compute with so many CPU threads, and as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _working(settings: FitSettings, device: torch.device) -> Iterator[None]:
    """Fit under the threads and the seed of the settings, and in little memory."""
    give_back_large_blocks()
    with _cpu_threads(settings.threads), _seeded(settings.seed, device):
        yield


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Draw from a seed, and leave PyTorch's own random state as it was."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _beginning(network: Network, settings: FitSettings) -> Progress:
    optimiser = torch.optim.AdamW(
        network.parameters(),
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        fused=True,  # one pass over the weights, without copies of them
    )
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimiser,
        factor=settings.plateau_factor,
        patience=settings.plateau_epochs - 1,
        threshold=0.0,  # whatever is better counts, as it does for early stopping
    )
    return Progress(network, optimiser, schedule)


def _summed_loss(
    network: Network, examples: _Examples, rows: Tensor, loss: Callable[..., Tensor]
) -> Tensor:
    forecast = network(*examples.windows.batch(examples.ends[rows]))
    counted = examples.counted[rows]
    return loss(forecast[counted], examples.labels[rows][counted], reduction="sum")


def _train_epoch(
    network: Network, examples: _Examples, optimiser: torch.optim.Optimizer, settings: FitSettings
) -> float:
    """Take a step per batch; the gradients of a batch too large for memory are summed in parts."""
    network.train()
    device, at_once = examples.ends.device, windows_at_once(network.spec)
    order = torch.randperm(len(examples.ends)).to(device)
    total = torch.zeros((), device=device)
    for batch in torch.split(order, settings.batch_size):
        pairs = examples.counted[batch].sum()
        optimiser.zero_grad()
        for rows in torch.split(batch, at_once):
            summed = _summed_loss(network, examples, rows, LOSSES[settings.loss])
            torch.autograd.backward(summed / pairs)
            total += summed.detach()
        torch.nn.utils.clip_grad_norm_(network.parameters(), settings.gradient_clip)
        optimiser.step()
    optimiser.zero_grad()  # their memory is for the copy of the best weights
    return float(total) / int(examples.counted.sum())


@torch.no_grad()
def _mean_loss(network: Network, examples: _Examples, loss: Callable[..., Tensor]) -> float:
    network.eval()
    at_once = min(_FORECAST_BATCH, windows_at_once(network.spec))
    every = torch.arange(len(examples.ends), device=examples.ends.device)
    parts = [_summed_loss(network, examples, rows, loss) for rows in torch.split(every, at_once)]
    return float(sum(parts)) / int(examples.counted.sum())
