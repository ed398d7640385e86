"""Three recurrent networks that forecast the next session of every ticker at once.

All take a window ``x`` (B, L, N, F) with a mask ``valid`` (B, L, N), for batch, sessions, tickers
and features, and give the scaled target (B, horizon, N). What stands in ``x`` where ``valid`` is
False never reaches an output. The last linear layer starts at zero, so that an untrained network
forecasts exactly 0, which is persistence when the scaled target is a return around 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from stock_assets.config import Architecture, Device
from stock_assets.core.errors import StockAssetsError
from stock_assets.features.windows import MINIMUM_VALID_SHARE

ATTENTION_HEADS = 4

# Inputs per width of the state from which `_WideLSTM` is the faster one: it takes 0.9 of the time
# here, 0.75 at a hundred, and 1.3 at four.
_WIDE = 16


@dataclass(frozen=True)
class NetworkSpec:
    """Everything needed to build a network of the right shape for its weights.

    Attributes
    ----------
    architecture : {"lstm", "lstm_attention", "lstm_cross_attention"}
    tickers, features, window : int
        N, F and L of the inputs.
    hidden_size : int
        Width of the hidden state, a multiple of `ATTENTION_HEADS`.
    layers : int
        Stacked LSTM layers.
    dropout : float
        Share of activations dropped in training, in [0, 1).
    horizon : int
        Sessions forecast, one after the other.
    """

    architecture: Architecture
    tickers: int
    features: int
    window: int
    hidden_size: int
    layers: int
    dropout: float
    horizon: int = 1

    def to_dict(self) -> dict[str, Any]:
        """Give the fields as plain values, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> NetworkSpec:
        """Restore what `to_dict` gave."""
        return cls(**fields)


class Network(nn.Module):
    """A forecaster that remembers its specification.

    Calling it with ``x`` (B, L, N, F) float32, any value where invalid, and ``valid`` (B, L, N)
    bool gives (B, horizon, N) float32: a number for every ticker, which means nothing for one that
    is invalid in the last session.
    """

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.spec = spec

    def zero_input_weights(self, tickers: Tensor) -> None:
        """Read no feature of tickers that a training will not learn from; told before it begins.

        Weights of their own would stay as they were drawn, and move the forecasts of the others.
        Where tickers share weights there are none, and nothing is done.

        Parameters
        ----------
        tickers : (N,) bool tensor
            True where training has no usable window.
        """


class _JointNetwork(Network):
    """An LSTM over all tickers' features side by side, each with weights of its own."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__(spec)
        self.recurrent = _lstm(spec, spec.tickers * spec.features)

    @torch.no_grad()
    def zero_input_weights(self, tickers: Tensor) -> None:
        """Set to zero what their inputs weigh; with no gradient, it stays zero."""
        of_inputs = self.recurrent.get_parameter("weight_ih_l0")
        of_inputs.view(-1, *tickers.shape, self.spec.features)[:, tickers] = 0.0


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
    """A joint LSTM whose last state attends to all its states over time.

    The states carry learned positions; attention (Vaswani et al. 2017, "Attention is all you need")
    is followed by a residual connection and layer normalisation. Sessions in which no ticker is
    valid are not attended.
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
        # Only the last session is read, so only its query is computed.
        last = states[:, -1:]
        ignored = _ignored(~valid.any(dim=2))
        attended, _ = self.attention(
            last, states, states, key_padding_mask=ignored, need_weights=False
        )
        out: Tensor = self.head(self.norm(last + attended)[:, 0])
        return out.view(len(x), self.spec.horizon, self.spec.tickers)


class CrossAttentiveLSTM(Network):
    """One LSTM shared by all tickers, then attention across tickers and a shared linear head.

    A learned embedding tells the tickers apart. It starts at zero, so a ticker that training never
    saw is forecast as the typical one. A ticker that its window says too little about
    (:func:`stock_assets.features.windows.usable_windows`) is attended by nobody.
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
        enough = valid[:, -1] & (valid.double().mean(dim=1) >= MINIMUM_VALID_SHARE)
        ignored = _ignored(~enough)
        attended, _ = self.attention(
            tickers, tickers, tickers, key_padding_mask=ignored, need_weights=False
        )
        out: Tensor = self.head(self.norm(tickers + attended))
        return out.transpose(1, 2)


NETWORKS: Mapping[Architecture, type[Network]] = {
    "lstm": JointLSTM,
    "lstm_attention": AttentiveLSTM,
    "lstm_cross_attention": CrossAttentiveLSTM,
}


def build_network(spec: NetworkSpec, seed: int = 0) -> Network:
    """Build an untrained network; equal specifications and seeds give equal weights.

    PyTorch's own random state is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return NETWORKS[spec.architecture](spec)


def pick_device(wanted: Device = "auto") -> torch.device:
    """Choose where to compute: on a CUDA device if this machine has one, unless told otherwise.

    Raises
    ------
    StockAssetsError
        CUDA is wanted and PyTorch finds none.
    """
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise StockAssetsError(
            "training.device is cuda, and PyTorch finds no CUDA device",
            "Set training.device to auto or cpu, or install PyTorch's build for this GPU",
        )
    return torch.device("cuda", torch.cuda.current_device())


def _by_session(x: Tensor, valid: Tensor) -> Tensor:
    """Put sessions first, (L, B, N, F), and 0 where nothing is valid."""
    return x.transpose(0, 1).masked_fill(~valid.transpose(0, 1).unsqueeze(-1), 0.0)


def _ignored(absent: Tensor) -> Tensor:
    """Mask for attention, (B, K): softmax over nothing is NaN, so where all are absent, none is."""
    return absent & ~absent.all(dim=1, keepdim=True)


class _WideLSTM(nn.LSTM):
    """PyTorch's LSTM, equal to it but for rounding, for inputs much wider than its state.

    On a CPU, PyTorch lays out all weights anew in each pass and computes a gradient of the inputs,
    which nobody needs. So the inputs are multiplied with their weights before, and the first layer
    gets the products, with the identity for its weights.
    """

    def forward(self, x: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        """Give the states (L, B, H) of the last layer for inputs (L, B, I)."""
        if x.is_cuda:
            return super().forward(x)[0], None
        of_inputs, *others = self.parameters()
        start = x.new_zeros(self.num_layers, x.shape[1], self.hidden_size)
        states, _, _ = torch.lstm(
            functional.linear(x, of_inputs),
            (start, start),
            [torch.eye(len(of_inputs)).to(x), *others],
            has_biases=True,
            num_layers=self.num_layers,
            dropout=self.dropout,
            train=self.training,
            bidirectional=False,
            batch_first=False,
        )
        return states, None


def _lstm(spec: NetworkSpec, inputs: int) -> nn.LSTM:
    # PyTorch drops out between layers, and warns when there is no between.
    between = spec.dropout if spec.layers > 1 else 0.0
    kind = _WideLSTM if inputs >= _WIDE * spec.hidden_size else nn.LSTM
    return kind(inputs, spec.hidden_size, spec.layers, dropout=between)


def _attention(spec: NetworkSpec) -> nn.MultiheadAttention:
    return nn.MultiheadAttention(
        spec.hidden_size, ATTENTION_HEADS, dropout=spec.dropout, batch_first=True
    )


def _zeroed(linear: nn.Linear) -> nn.Linear:
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear
