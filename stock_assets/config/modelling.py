"""Parameters of features, dataset, tuning, training, folds and forecasts."""

from __future__ import annotations

import re
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from stock_assets.config.section import Count, PositiveFloat, PositiveInt, Section, Share

Basis = Literal["raw", "split_adjusted", "adjusted"]
FeatureGroup = Literal["raw", "trend", "momentum", "volatility", "volume", "returns", "alpha158"]
Target = Literal["log_return", "close"]
ScalerKind = Literal["standard", "minmax", "robust"]
BuiltInArchitecture = Literal["lstm", "lstm_attention", "lstm_cross_attention"]
Loss = Literal["huber", "mse", "mae"]
Scale = Literal["constant", "deviation", "range", "combined"]
Device = Literal["auto", "cpu", "cuda"]
FoldTraining = Literal["expanding", "rolling"]

_CUSTOM_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_CUSTOM_SCHEMA = {"type": "string", "format": "custom name"}


def _custom_name(name: str) -> str:
    if _CUSTOM_NAME.fullmatch(name) is None:
        raise ValueError("write package.module:NAME")
    return name


def _architecture(name: str) -> str:
    built_in = get_args(BuiltInArchitecture)
    if name not in built_in and _CUSTOM_NAME.fullmatch(name) is None:
        raise ValueError(f"choose {', '.join(built_in)} or a class, as package.module:NAME")
    return name


CustomName = Annotated[str, AfterValidator(_custom_name), WithJsonSchema(_CUSTOM_SCHEMA)]
"""Name of custom code, ``package.module:NAME``."""

Architecture = Annotated[
    str,
    AfterValidator(_architecture),
    WithJsonSchema({"anyOf": [{"enum": list(get_args(BuiltInArchitecture))}, _CUSTOM_SCHEMA]}),
]
"""A built-in network, or the name of a custom one."""


class Features(Section):
    """The input features of the networks."""

    groups: Annotated[list[FeatureGroup], Field(min_length=1)] = Field(
        ["returns", "momentum"], description="groups of declared features, see docs/features.md"
    )
    custom: list[CustomName] = Field(
        [], description="further features of custom code, see docs/extending.md"
    )
    basis: Basis = Field("adjusted", description="prices the features are computed from")
    correlation_threshold: Share | None = Field(
        None,
        description="drop a feature whose correlation with an earlier one exceeds this in the "
        "training sessions; none when empty",
    )


class Dataset(Section):
    """Windows, labels and the three segments of a dataset."""

    target: Target = Field("log_return", description="what a network is trained to predict")
    window: PositiveInt = Field(30, description="sessions in a window")
    prediction_length: PositiveInt = Field(1, description="longest horizon, in sessions")
    scaler: ScalerKind = Field("standard", description="per ticker and feature")
    history_sessions: PositiveInt | None = Field(
        None, description="number of newest sessions to use; all when empty"
    )
    validation_sessions: PositiveInt = Field(
        126,
        description="window ends for tuning and early stopping; the last third of them is for "
        "shrinkage and intervals only",
    )
    test_sessions: PositiveInt = Field(
        63, description="window ends for the promotion decision only"
    )
    embargo_sessions: Count = Field(
        0, description="window ends added to the purge between two segments"
    )

    @model_validator(mode="after")
    def _history_holds_three_segments(self) -> Dataset:
        # Each gap between two segments is (horizon - 1) + embargo long; the last label follows
        # the last window. Warm-up of the features comes on top.
        label = self.prediction_length
        purges = 2 * (label - 1 + self.embargo_sessions)
        needed = self.window + purges + self.validation_sessions + self.test_sessions + label
        if self.history_sessions is not None and self.history_sessions < needed:
            raise ValueError(
                f"history_sessions of {self.history_sessions} is too small: at least {needed} are "
                f"needed for one training window of {self.window}, {purges} sessions purged "
                f"between the segments, {self.validation_sessions} validation and "
                f"{self.test_sessions} test sessions, and the last label"
            )
        return self


class IntegerRange(Section):
    """Integers from low to high, both included."""

    low: int
    high: int
    step: PositiveInt = 1


class FloatRange(Section):
    """Numbers from low to high, optionally in steps or on a logarithmic scale."""

    low: float
    high: float
    step: PositiveFloat | None = None
    log: bool = False

    @model_validator(mode="after")
    def _scale_is_one_of_two(self) -> FloatRange:
        if self.log and self.step is not None:
            raise ValueError("log and step exclude each other")
        return self


OptionRange = IntegerRange | FloatRange | Annotated[list[int | float | str], Field(min_length=1)]


class SearchSpace(Section):
    """The ranges that tuning searches."""

    architecture: list[Architecture] = Field(
        ["lstm", "lstm_attention", "lstm_cross_attention"], min_length=1
    )
    hidden_size: IntegerRange = IntegerRange(low=32, high=256, step=32)
    layers: IntegerRange = IntegerRange(low=1, high=3)
    dropout: FloatRange = FloatRange(low=0.1, high=0.5, step=0.1)
    learning_rate: FloatRange = FloatRange(low=1e-4, high=1e-2, log=True)
    batch_size: IntegerRange = IntegerRange(low=16, high=128, step=16)
    custom: dict[CustomName, dict[str, OptionRange]] = Field(
        {},
        description="options of each custom network: ranges or choices, see docs/extending.md",
    )

    @model_validator(mode="after")
    def _ranges_are_ordered(self) -> SearchSpace:
        for name in ("hidden_size", "layers", "batch_size"):
            bounds = getattr(self, name)
            if not 1 <= bounds.low <= bounds.high:
                raise ValueError(f"{name}: low must be at least 1 and at most high")
        if not 0 <= self.dropout.low <= self.dropout.high < 1:
            raise ValueError("dropout: low must be at least 0 and at most high, high less than 1")
        if not 0 < self.learning_rate.low <= self.learning_rate.high:
            raise ValueError("learning_rate: low must be greater than 0 and at most high")
        if self.hidden_size.low % 4 or self.hidden_size.step % 4:
            raise ValueError("hidden_size: low and step must be multiples of the 4 attention heads")
        return self

    @model_validator(mode="after")
    def _options_are_of_custom_networks(self) -> SearchSpace:
        for network, options in self.custom.items():
            if network not in self.architecture:
                raise ValueError(f"custom: architecture does not list {network}")
            for name, option in options.items():
                if not name.isidentifier():
                    raise ValueError(f"custom: {network}: {name} is no name of an option")
                if not isinstance(option, list) and option.low > option.high:
                    raise ValueError(f"custom: {network}: {name}: low must be at most high")
        return self


class Tuning(Section):
    """Budget of the hyperparameter search."""

    trials: PositiveInt = Field(30, description="number of trials")
    epochs: PositiveInt = Field(
        50, description="maximum epochs of a trial; fewer than in training are less precise"
    )
    patience: PositiveInt = Field(8, description="epochs without improvement that end a trial")
    timeout_seconds: PositiveFloat | None = Field(
        None,
        description="after this no trial starts and the running one is pruned",
    )
    workers: PositiveInt = Field(
        1, description="parallel trials; from 2 on each has its own process with one CPU thread"
    )
    search_space: SearchSpace = Field(default_factory=SearchSpace)


class Training(Section):
    """How the networks are trained."""

    epochs: PositiveInt = Field(50, description="maximum epochs of the candidate")
    patience: PositiveInt = Field(8, description="epochs without improvement that end training")
    loss: Loss = Field("huber", description="on the scaled target")
    weight_decay: Annotated[float, Field(ge=0)] = Field(1e-4, description="of AdamW")
    gradient_clip: PositiveFloat = Field(1.0, description="maximum gradient norm")
    plateau_epochs: PositiveInt = Field(
        3, description="epochs without improvement that reduce the learning rate"
    )
    plateau_factor: Share = Field(0.5, description="factor of the reduced learning rate")
    threads: PositiveInt = Field(
        1, description="CPU threads; small networks train slower with more"
    )
    device: Device = Field(
        "auto", description="auto uses cuda if available; only cpu is reproducible to the bit"
    )
    ensemble: PositiveInt = Field(
        1,
        description="networks per model, trained from as many seeds; their forecasts are averaged",
    )
    seed: Count = Field(
        20130301, description="random seed for initial weights, dropout, batches and search"
    )
    shrinkage: bool = Field(
        True,
        description="multiply each forecast move by a factor from 0 to 1 fitted on the last third "
        "of validation",
    )


class WalkForward(Section):
    """Repeated divisions of history for tuning and evaluation, each as of a later session."""

    folds: PositiveInt = Field(
        1,
        description="number of divisions into segments; the last is the dataset's own, each "
        "earlier one ends test_sessions before the next",
    )
    training: FoldTraining = Field(
        "expanding",
        description="expanding: training segments start with history; rolling: all are as long as "
        "the first",
    )


class Forecast(Section):
    """The forecasts."""

    coverages: Annotated[list[Share], Field(min_length=1)] = Field(
        [0.5, 0.8, 0.9],
        description="target shares of outcomes inside the intervals, ascending; tables show the "
        "last",
    )
    scale: Literal["auto", Scale] = Field(
        "auto",
        description="volatility that the widths follow; auto: the one with the best interval score "
        "on the last third of validation",
    )

    @property
    def coverage(self) -> float:
        """The coverage that tables show."""
        return self.coverages[-1]

    @model_validator(mode="after")
    def _coverages_ascend(self) -> Forecast:
        if sorted(set(self.coverages)) != self.coverages:
            raise ValueError("coverages must be ascending")
        return self
