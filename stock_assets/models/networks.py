"""The contract of networks that forecast all tickers at once, and three recurrent ones.

A network of another package is a subclass of `Network` that ``params.yaml`` names, see
``docs/extending.md``. All take a window ``x`` (B, L, N, F) with a mask ``valid`` (B, L, N), for
batch, sessions, tickers and features, and return the scaled target (B, horizon, N). The last linear
layer of the built-in ones is initialised with zeros, so that an untrained network forecasts exactly
0, which is persistence if the target is a log return.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from stock_assets.config import Architecture, BuiltInArchitecture, Device
from stock_assets.config.custom_code import custom_code_error, import_custom
from stock_assets.core.errors import StockAssetsError
from stock_assets.core.module_code import is_custom
from stock_assets.features.windows import MINIMUM_VALID_SHARE
from stock_assets.models.contract import contract_fault

ATTENTION_HEADS = 4

# Inputs per hidden unit from which `_WideInputLSTM` is faster on a CPU. Measured time relative to
# nn.LSTM: 1.3 at 4 inputs per unit, 0.9 at 16, 0.75 at 100.
_WIDE_INPUT_RATIO = 16


@dataclass(frozen=True)
class NetworkSpec:
    """Architecture and sizes of a network.

    Attributes
    ----------
    architecture : str
        ``lstm``, ``lstm_attention``, ``lstm_cross_attention``, or ``package.module:NAME``.
    tickers, features, window : int
        N, F and L of the inputs.
    hidden_size : int
        Size of the hidden state, a multiple of `ATTENTION_HEADS`.
    layers : int
        Stacked LSTM layers.
    dropout : float
        Share of activations dropped in training, in [0, 1).
    horizon : int
        Sessions forecast, one after the other.
    options : mapping of str to int, float or str
        Of a custom network: what ``tuning.search_space.custom`` chooses.
    members : int
        Networks of an ensemble; 1 for a single network.
    """

    architecture: Architecture
    tickers: int
    features: int
    window: int
    hidden_size: int
    layers: int
    dropout: float
    horizon: int = 1
    options: Mapping[str, int | float | str] = field(default_factory=dict)
    members: int = 1

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; fields that earlier versions lack only if they are set.

        The digest of every registered version covers them.
        """
        plain = {one.name: getattr(self, one.name) for one in fields(self)}
        if not self.options:
            del plain["options"]
        if self.members == 1:
            del plain["members"]
        return plain


class Network(nn.Module):
    """A network with its specification, from which alone it is built.

    Calling it with ``x`` (B, L, N, F) float32 and ``valid`` (B, L, N) bool returns (B, horizon, N)
    float32. The value is undefined for a ticker that is invalid in the last session. Values of
    ``x`` where ``valid`` is False, NaN included, must not reach any other output, and outside of
    training no window may change the forecasts of another one in its batch.
    """

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.spec = spec

    def zero_input_weights(self, tickers: Tensor) -> None:
        """Set the input weights of some tickers to zero, if the network has weights per ticker.

        Call it before training for tickers without a usable window: their weights would keep their
        random initial values and add noise to the forecasts of the other tickers.

        Parameters
        ----------
        tickers : (N,) bool tensor
            True for tickers to ignore.
        """

    def bytes_per_window(self) -> int:
        """Estimate the memory that training needs per window of a batch.

        By default that of recurrent layers with a state per ticker, and attention across tickers.
        """
        return _training_bytes(self.spec, self.spec.tickers)


class _JointNetwork(Network):
    """An LSTM over the concatenated features of all tickers, with separate weights per ticker."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__(spec)
        self.recurrent = _lstm(spec, spec.tickers * spec.features)

    @torch.no_grad()
    def zero_input_weights(self, tickers: Tensor) -> None:
        """Set the input weights of some tickers to zero; without gradient, they stay zero."""
        weights = self.recurrent.get_parameter("weight_ih_l0")
        weights.view(-1, *tickers.shape, self.spec.features)[:, tickers] = 0.0

    def bytes_per_window(self) -> int:
        """Estimate the memory of training, with one state for all tickers."""
        return _training_bytes(self.spec, 1)


class JointLSTM(_JointNetwork):
    """A joint LSTM and a linear head on its last state."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__(spec)
        self.head = nn.Sequential(
            nn.Dropout(spec.dropout),
            _zeroed(nn.Linear(spec.hidden_size, spec.horizon * spec.tickers)),
        )

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Forecast the scaled target, see `Network`."""
        states, _ = self.recurrent(_by_session(x, valid).flatten(2))
        out: Tensor = self.head(states[-1])
        return out.view(len(x), self.spec.horizon, self.spec.tickers)


class AttentiveLSTM(_JointNetwork):
    """A joint LSTM whose last state attends to its states of all sessions.

    States have learned position embeddings. Attention (Vaswani et al. 2017, "Attention is all you
    need") is followed by a residual connection and layer normalisation. Sessions without a valid
    ticker are masked.
    """

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__(spec)
        self.positions = nn.Parameter(0.02 * torch.randn(spec.window, spec.hidden_size))
        self.attention = _attention(spec)
        self.norm = nn.LayerNorm(spec.hidden_size)
        self.head = nn.Sequential(
            nn.Dropout(spec.dropout),
            nn.Linear(spec.hidden_size, spec.hidden_size // 2),
            nn.ReLU(),
            _zeroed(nn.Linear(spec.hidden_size // 2, spec.horizon * spec.tickers)),
        )

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Forecast the scaled target, see `Network`."""
        by_session, _ = self.recurrent(_by_session(x, valid).flatten(2))
        states = by_session.transpose(0, 1) + self.positions
        # Only the last session is used, so only its query is computed.
        last = states[:, -1:]
        masked = _padding_mask(valid.any(dim=2))
        attended, _ = self.attention(
            last, states, states, key_padding_mask=masked, need_weights=False
        )
        out: Tensor = self.head(self.norm(last + attended)[:, 0])
        return out.view(len(x), self.spec.horizon, self.spec.tickers)


class CrossAttentiveLSTM(Network):
    """An LSTM shared by all tickers, then attention across tickers and a shared linear head.

    Tickers have a learned embedding, initialised with zeros, so that a ticker absent from training
    is forecast like the average one. A ticker without a usable window
    (:func:`stock_assets.features.windows.usable_windows`) is masked.
    """

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__(spec)
        self.recurrent = _lstm(spec, spec.features)
        self.ticker = nn.Parameter(torch.zeros(spec.tickers, spec.hidden_size))
        self.attention = _attention(spec)
        self.norm = nn.LayerNorm(spec.hidden_size)
        self.head = nn.Sequential(
            nn.Dropout(spec.dropout), _zeroed(nn.Linear(spec.hidden_size, spec.horizon))
        )

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Forecast the scaled target, see `Network`."""
        states, _ = self.recurrent(_by_session(x, valid).flatten(1, 2))
        tickers = states[-1].view(len(x), *self.ticker.shape) + self.ticker
        usable = valid[:, -1] & (valid.double().mean(dim=1) >= MINIMUM_VALID_SHARE)
        masked = _padding_mask(usable)
        attended, _ = self.attention(
            tickers, tickers, tickers, key_padding_mask=masked, need_weights=False
        )
        out: Tensor = self.head(self.norm(tickers + attended))
        return out.transpose(1, 2)


class Ensemble(Network):
    """Networks of one specification that were trained from different seeds; it averages them."""

    def __init__(self, spec: NetworkSpec, members: Iterable[Network]) -> None:
        super().__init__(spec)
        self.members = nn.ModuleList(members)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Forecast the scaled target, see `Network`."""
        return torch.stack([member(x, valid) for member in self.members]).mean(dim=0)

    def bytes_per_window(self) -> int:
        """Estimate the memory of one member: the others run before or after it."""
        return members_of(self)[0].bytes_per_window()


def members_of(network: Network) -> list[Network]:
    """Return the networks that are trained separately: the members of an ensemble, or itself."""
    if isinstance(network, Ensemble):
        return [cast(Network, member) for member in network.members]
    return [network]


NETWORKS: Mapping[BuiltInArchitecture, type[Network]] = {
    "lstm": JointLSTM,
    "lstm_attention": AttentiveLSTM,
    "lstm_cross_attention": CrossAttentiveLSTM,
}


def build_network(spec: NetworkSpec, seed: int = 0) -> Network:
    """Build an untrained network; equal specifications and seeds give equal weights.

    The members of an ensemble have the seeds ``seed``, ``seed + 1`` and so on. The global random
    state of PyTorch does not change.

    Raises
    ------
    StockAssetsError
        The class of a custom network is not named in ``params.yaml``, cannot be imported, or breaks
        the contract of `Network`.
    """
    if spec.members > 1:
        seeds = range(seed, seed + spec.members)
        return Ensemble(spec, [build_network(replace(spec, members=1), one) for one in seeds])
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        if not is_custom(spec.architecture):
            return NETWORKS[cast(BuiltInArchitecture, spec.architecture)](spec)
        return _custom_network(spec)


def _custom_network(spec: NetworkSpec) -> Network:
    """Build a network of another package and check that it keeps the contract."""
    name, found = spec.architecture, import_custom(spec.architecture, "network")
    if not (isinstance(found, type) and issubclass(found, Network)):
        raise StockAssetsError(
            f"{name} is not a subclass of {Network.__module__}.{Network.__name__}",
            "Derive it from that class, see docs/extending.md",
        )
    if f"{found.__module__}:{found.__name__}" != name:
        raise StockAssetsError(
            f"{name} is defined as {found.__module__}:{found.__name__}",
            "Name it so in params.yaml, because a model records the code of that module",
        )
    try:
        network = found(spec)
    except Exception as error:
        raise custom_code_error(
            f"{name} cannot be built", error, name, "Correct it, see docs/extending.md"
        ) from error
    fault = contract_fault(network)
    if fault:
        raise StockAssetsError(f"{name}: {fault}", "Correct it, see docs/extending.md")
    return network


def pick_device(wanted: Device = "auto") -> torch.device:
    """Return the device to compute on; ``auto`` is CUDA if available, else the CPU.

    Raises
    ------
    StockAssetsError
        ``cuda`` is requested and PyTorch finds no CUDA device.
    """
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise StockAssetsError(
            "training.device is cuda, but PyTorch finds no CUDA device",
            "Set training.device to auto or cpu, or install PyTorch's build for this GPU",
        )
    return torch.device("cuda", torch.cuda.current_device())


def _training_bytes(spec: NetworkSpec, states: int) -> int:
    """Estimate the bytes of training per window, for a number of recurrent states side by side.

    Training keeps, in float32 and per session of a window: two copies of the features, and of every
    layer 12 numbers per hidden unit (gates, cell, its tanh, output and dropout, half of them with
    gradients). Attention across states keeps a score per pair of them and head.
    """
    inputs = 2 * spec.tickers * spec.features
    units = 12 * spec.layers * spec.hidden_size * states
    scores = 3 * ATTENTION_HEADS * states**2
    return 4 * (spec.window * (inputs + units) + scores)


def _by_session(x: Tensor, valid: Tensor) -> Tensor:
    """Move sessions to the first axis, (L, B, N, F), and set invalid values to 0."""
    return x.transpose(0, 1).masked_fill(~valid.transpose(0, 1).unsqueeze(-1), 0.0)


def _padding_mask(present: Tensor) -> Tensor:
    """Mask absent keys, (B, K). If all are absent none is masked: softmax over nothing is NaN."""
    return ~present & present.any(dim=1, keepdim=True)


class _WideInputLSTM(nn.LSTM):
    """A faster nn.LSTM on a CPU for inputs much wider than the hidden state, equal up to rounding.

    On a CPU, PyTorch rearranges all weights in every pass and computes the unused gradient of the
    inputs. Here the inputs are multiplied by their weights first, and the first layer takes the
    products with an identity matrix as its input weights.
    """

    def forward(self, x: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        """Return the states (L, B, H) of the last layer for inputs (L, B, I)."""
        if x.is_cuda:
            return super().forward(x)[0], None
        input_weights, *others = self.parameters()
        start = x.new_zeros(self.num_layers, x.shape[1], self.hidden_size)
        states, _, _ = torch.lstm(
            functional.linear(x, input_weights),
            (start, start),
            [torch.eye(len(input_weights)).to(x), *others],
            has_biases=True,
            num_layers=self.num_layers,
            dropout=self.dropout,
            train=self.training,
            bidirectional=False,
            batch_first=False,
        )
        return states, None


def _lstm(spec: NetworkSpec, inputs: int) -> nn.LSTM:
    # PyTorch applies dropout between layers, and warns if there is one layer.
    dropout = spec.dropout if spec.layers > 1 else 0.0
    wide = inputs >= _WIDE_INPUT_RATIO * spec.hidden_size
    lstm = _WideInputLSTM if wide else nn.LSTM
    return lstm(inputs, spec.hidden_size, spec.layers, dropout=dropout)


def _attention(spec: NetworkSpec) -> nn.MultiheadAttention:
    return nn.MultiheadAttention(
        spec.hidden_size, ATTENTION_HEADS, dropout=spec.dropout, batch_first=True
    )


def _zeroed(linear: nn.Linear) -> nn.Linear:
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


def describe_device(network: Network | None) -> str:
    """Describe what computes forecasts: the GPU of a network by name, or the CPU and its vectors.

    Forecasts without a network are computed by the CPU.
    """
    device = torch.device("cpu") if network is None else next(network.parameters()).device
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} {platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
