"""Typed parameters: what the system does, as ``params.yaml`` says it."""

from __future__ import annotations

import re
from datetime import date, time
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from stock_assets.errors import StockAssetsError
from stock_assets.yaml_file import read_yaml

Basis = Literal["raw", "split_adjusted", "adjusted"]
FeatureGroup = Literal["raw", "trend", "momentum", "volatility", "volume", "returns", "alpha158"]
Target = Literal["log_return", "close"]
ScalerKind = Literal["standard", "minmax", "robust"]
Architecture = Literal["lstm", "lstm_attention", "lstm_cross_attention"]
Loss = Literal["huber", "mse", "mae"]
Device = Literal["auto", "cpu", "cuda"]
FoldTraining = Literal["expanding", "rolling"]
Severity = Literal["error", "warning"]
RuleName = Literal[
    "price is not a finite number",
    "price is not positive",
    "low is above open or close",
    "high is below open or close",
    "volume is negative or not finite",
    "dividend is negative or not finite",
    "split is negative or not finite",
    "ticker has two bars of one session",
    "day is not a session of the exchange",
    "jump without a corporate action",
    "stale repeat",
    "zero volume",
    "no bar",
    "no answer",
    "currency changed",
    "history shrank",
    "history was re-based",
    "history is another one",
]
"""What the rules of ``stock_assets.market.checks`` are called."""

PositiveInt = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, lt=1)]

_TICKER = re.compile(r"[A-Z0-9][A-Z0-9.^=-]*")


def _ticker(name: str) -> str:
    """Give a ticker in upper case."""
    ticker = name.strip().upper()
    if not _TICKER.fullmatch(ticker):
        raise ValueError(
            "tickers become names of files: letters, digits and then also . ^ = - make one, "
            f"not {ticker!r}"
        )
    return ticker


class Section(BaseModel):
    """A part of ``params.yaml``: unknown keys are errors and nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Yahoo(Section):
    """How Yahoo Finance is asked."""

    workers: PositiveInt = Field(4, description="requests under way at the same time")
    requests_per_second: PositiveFloat = Field(20.0, description="of all workers together")
    timeout_seconds: PositiveFloat = Field(30.0, description="give up on one request after this")
    attempts: PositiveInt = Field(
        4, description="requests for one ticker before it counts as failed"
    )
    backoff_seconds: PositiveFloat = Field(
        2.0, description="rest before the second attempt, and its jitter; then twice as long each"
    )
    backoff_limit_seconds: PositiveFloat = Field(60.0, description="longest rest")


class Checks(Section):
    """What is odd about prices, and how serious a broken rule is."""

    jump_max: PositiveFloat = Field(
        0.4,
        description="largest rise from close to close that needs no corporate action, a fraction; "
        "a fall may be as large the other way, to 1 / (1 + jump_max)",
    )
    stale_sessions: PositiveInt = Field(
        3, description="bars in a row, each equal to the one before, that are stale"
    )
    severities: dict[RuleName, Severity] = Field(
        {}, description="a rule's name to error or warning, where that is not the rule's own"
    )


class Rename(Section):
    """A ticker that has another name since a session."""

    old: str
    new: str
    first_session: date = Field(description="the first session under the new name")

    @field_validator("old", "new")
    @classmethod
    def _is_a_ticker(cls, name: str) -> str:
        return _ticker(name)

    @model_validator(mode="after")
    def _changes_the_name(self) -> Rename:
        if self.old == self.new:
            raise ValueError(f"{self.old} is renamed to itself")
        return self

    def __str__(self) -> str:
        return f"{self.old} → {self.new} ({self.first_session})"


class Prices(Section):
    """Where bars come from and for whom."""

    source: Literal["sample", "csv", "yahoo"] = Field("sample", description="the price source")
    tickers: Annotated[list[str], Field(min_length=1)] = Field(
        ["AAPL", "FB", "GOOG", "IBM", "MSFT"], description="the universe, in any order"
    )
    renames: list[Rename] = Field(
        [], description="tickers that have another name since a session, see docs/operations.md"
    )
    first_session: date = Field(date(2000, 3, 1), description="the first trading-day partition")
    csv_folder: Path = Field(Path("prices"), description="one TICKER.csv each, for source csv")
    overlap_sessions: PositiveInt = Field(
        5, description="stored sessions asked for again, so that corrections are seen"
    )
    healing_sessions: PositiveInt = Field(
        60, description="newest sessions of which a missing bar is asked for again"
    )
    minimum_share: Annotated[float, Field(ge=0, le=1)] = Field(
        0.8, description="share of the listed tickers whose newest bar must arrive"
    )
    yahoo: Yahoo = Field(default_factory=Yahoo)
    checks: Checks = Field(default_factory=Checks)

    @field_validator("tickers")
    @classmethod
    def _sorted_and_distinct(cls, tickers: list[str]) -> list[str]:
        names = [_ticker(ticker) for ticker in tickers]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"tickers must be distinct names; repeated: {repeated}")
        return sorted(names)

    @model_validator(mode="after")
    def _renames_lead_to_tickers(self) -> Prices:
        dated = [(rename.old, rename.first_session) for rename in self.renames]
        for rename, key in zip(self.renames, dated, strict=True):
            if dated.count(key) > 1:
                raise ValueError(f"{rename.old} is renamed twice on {rename.first_session}")
            further = [other for other in self.renames if other.old == rename.new]
            if rename.new not in self.tickers and not further:
                raise ValueError(f"{rename}: {rename.new} is not among tickers")
            for other in further:
                # The rows of one company would go with those of another, and again every time.
                if other.first_session <= rename.first_session:
                    raise ValueError(
                        f"{other} is not after {rename}, which brings that name. Where a name "
                        "went from one company to another, remove the rename that is applied: "
                        "what it moved stays moved"
                    )
        return self


class Features(Section):
    """What a model sees of each ticker and session."""

    groups: Annotated[list[FeatureGroup], Field(min_length=1)] = Field(
        ["returns", "momentum"], description="groups of declared features, see docs/features.md"
    )
    basis: Basis = Field("adjusted", description="prices the features are computed from")
    correlation_threshold: Share | None = Field(
        None,
        description="a feature that correlates more with an earlier one, in the training sessions, "
        "is left out; no feature is when empty",
    )


class Dataset(Section):
    """How history becomes windows, labels and three stretches of time."""

    target: Target = Field("log_return", description="what a network is trained to predict")
    window: PositiveInt = Field(30, description="sessions a network looks back over")
    prediction_length: PositiveInt = Field(1, description="sessions forecast, one after the other")
    scaler: ScalerKind = Field("standard", description="per ticker and feature")
    history_sessions: PositiveInt | None = Field(
        None, description="newest sessions to use; all of them when empty"
    )
    validation_sessions: PositiveInt = Field(126, description="labels for tuning and stopping")
    test_sessions: PositiveInt = Field(63, description="labels for the promotion decision alone")
    embargo_sessions: Count = Field(0, description="extra gap beside the purge")

    @model_validator(mode="after")
    def _history_holds_three_stretches(self) -> Dataset:
        # Each gap between two stretches holds a window, the steps of a label past its first and
        # the embargo; the last label follows the last window. Warm-up of the features comes on top.
        label = self.prediction_length
        purges = 2 * (self.window + label - 1 + self.embargo_sessions)
        needed = self.window + purges + self.validation_sessions + self.test_sessions + label
        if self.history_sessions is not None and self.history_sessions < needed:
            raise ValueError(
                f"history_sessions of {self.history_sessions} is too small: at least {needed} are "
                f"needed for one training window of {self.window}, {purges} sessions purged "
                f"between the stretches, {self.validation_sessions} validation and "
                f"{self.test_sessions} test sessions, and the last label"
            )
        return self


class IntegerRange(Section):
    """Integers from low to high, both included."""

    low: int
    high: int
    step: PositiveInt = 1


class FloatRange(Section):
    """Numbers from low to high; on a logarithmic scale, or in steps, if asked."""

    low: float
    high: float
    step: PositiveFloat | None = None
    log: bool = False

    @model_validator(mode="after")
    def _scale_is_one_of_two(self) -> FloatRange:
        if self.log and self.step is not None:
            raise ValueError("log and step exclude each other")
        return self


class SearchSpace(Section):
    """What tuning may choose from."""

    architecture: Annotated[list[Architecture], Field(min_length=1)] = [
        "lstm",
        "lstm_attention",
        "lstm_cross_attention",
    ]
    hidden_size: IntegerRange = IntegerRange(low=32, high=256, step=32)
    layers: IntegerRange = IntegerRange(low=1, high=3)
    dropout: FloatRange = FloatRange(low=0.1, high=0.5, step=0.1)
    learning_rate: FloatRange = FloatRange(low=1e-4, high=1e-2, log=True)
    batch_size: IntegerRange = IntegerRange(low=16, high=128, step=16)

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


class Tuning(Section):
    """The budget and the space of the hyperparameter search."""

    trials: PositiveInt = Field(30, description="hyperparameter sets tried")
    epochs: PositiveInt = Field(20, description="most epochs of one trial")
    patience: PositiveInt = Field(5, description="epochs without improvement that end a trial")
    timeout_seconds: PositiveFloat | None = Field(None, description="no new trial after this")
    workers: PositiveInt = Field(
        1, description="trials at the same time; from two on, each in a process with one CPU thread"
    )
    search_space: SearchSpace = Field(default_factory=SearchSpace)


class Training(Section):
    """How a network is fitted."""

    epochs: PositiveInt = Field(50, description="most epochs of the candidate")
    patience: PositiveInt = Field(8, description="epochs without improvement that end training")
    loss: Loss = Field("huber", description="on the scaled target")
    weight_decay: Annotated[float, Field(ge=0)] = Field(1e-4, description="of AdamW")
    gradient_clip: PositiveFloat = Field(1.0, description="largest gradient norm")
    plateau_epochs: PositiveInt = Field(
        3, description="epochs without improvement after which the learning rate falls"
    )
    plateau_factor: Share = Field(0.5, description="what the learning rate is then multiplied by")
    threads: PositiveInt = Field(1, description="CPU threads; small networks lose with more")
    device: Device = Field(
        "auto", description="auto is cuda where there is one; only a cpu repeats every bit"
    )
    seed: Count = Field(20130301, description="of initialisation, dropout, order and search")


class WalkForward(Section):
    """How often tuning and evaluation divide history, each time as of a later session."""

    folds: PositiveInt = Field(
        1,
        description="divisions into training, validation and test; the last is the dataset's own, "
        "each one before ends test_sessions earlier",
    )
    training: FoldTraining = Field(
        "expanding",
        description="expanding: training starts with history; rolling: all folds train on as many "
        "sessions as the first",
    )


class Forecast(Section):
    """What is said about the coming sessions."""

    coverage: Share = Field(0.9, description="share of outcomes the interval is meant to hold")


class Thresholds(Section):
    """The model is retrained when its recent scores are worse than any of these."""

    mape_max: PositiveFloat = Field(0.10, description="mean absolute percentage error, a fraction")
    mase_max: PositiveFloat = Field(1.10, description="error over persistence's error")
    direction_accuracy_min: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.40, description="share of moves whose sign was right"
    )


class Monitoring(Section):
    """When scores call for retraining."""

    window_sessions: PositiveInt = Field(20, description="newest scored sessions that count")
    minimum_forecasts: PositiveInt = Field(50, description="fewer than this decide nothing")
    cooldown_sessions: Count = Field(20, description="sessions between two retrainings")
    thresholds: Thresholds = Field(default_factory=Thresholds)


class Promotion(Section):
    """When a candidate replaces production."""

    metric: Literal["mae", "rmse", "mape", "mase"] = Field("mase", description="lower is better")
    minimum_improvement: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="share by which the candidate must be better than production"
    )
    significance: Share | None = Field(
        None,
        description="p-value of the Diebold-Mariano test below which the candidate must differ "
        "from production; not asked for when empty, see docs/evaluation.md",
    )
    refit: bool = Field(
        False,
        description="train a promoted candidate again on every session up to its as-of session "
        "before it goes into production, see docs/evaluation.md",
    )


class Schedule(Section):
    """When the daily job runs, in New York."""

    daily_at: time = Field(time(18, 30), description="after the close and Yahoo's corrections")

    @field_validator("daily_at", mode="before")
    @classmethod
    def _is_quoted(cls, value: object) -> object:
        if isinstance(value, int):
            raise ValueError('YAML reads a time without quotes as a number; write "18:30"')
        return value


class Tracking(Section):
    """Names in MLflow."""

    experiment: str = Field("stock_price_forecasting", description="MLflow experiment")
    model_name: str = Field("StockPricePredictor", description="registered model")


class Params(Section):
    """Everything in ``params.yaml``."""

    prices: Prices = Field(default_factory=Prices)
    features: Features = Field(default_factory=Features)
    dataset: Dataset = Field(default_factory=Dataset)
    tuning: Tuning = Field(default_factory=Tuning)
    training: Training = Field(default_factory=Training)
    walk_forward: WalkForward = Field(default_factory=WalkForward)
    forecast: Forecast = Field(default_factory=Forecast)
    monitoring: Monitoring = Field(default_factory=Monitoring)
    promotion: Promotion = Field(default_factory=Promotion)
    schedule: Schedule = Field(default_factory=Schedule)
    tracking: Tracking = Field(default_factory=Tracking)

    @model_validator(mode="after")
    def _monitoring_can_decide(self) -> Params:
        tickers, sessions = len(self.prices.tickers), self.monitoring.window_sessions
        length = self.dataset.prediction_length
        if tickers * length * sessions < self.monitoring.minimum_forecasts:
            raise ValueError(
                f"monitoring can never decide: prices.tickers ({tickers}) times "
                f"dataset.prediction_length ({length}) times "
                f"monitoring.window_sessions ({sessions}) is less than "
                f"monitoring.minimum_forecasts ({self.monitoring.minimum_forecasts})"
            )
        return self


def load_params(path: Path) -> Params:
    """Read and check a parameter file.

    Raises
    ------
    StockAssetsError
        The file is missing, is not YAML, or holds an unknown key or a value of the wrong kind; the
        message names the key.
    """
    content = read_yaml(path)
    try:
        return Params.model_validate(content or {})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the file"
        told = first["type"] == "extra_forbidden" or isinstance(first["input"], dict)
        given = "" if told else f" (got {first['input']!r})"
        wrong = first["msg"].removeprefix("Value error, ")
        raise StockAssetsError(
            f"{path}: {key}: {wrong}{given}",
            "Correct this key; docs/configuration.md lists all of them",
        ) from None
