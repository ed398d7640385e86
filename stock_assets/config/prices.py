"""Where bars come from, for whom, and what is odd about them."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from stock_assets.config.section import PositiveFloat, PositiveInt, Section

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

TICKER = re.compile(r"[A-Z0-9][A-Z0-9.^=-]*")
"""What the whole name of a ticker matches."""


def _ticker(name: str) -> str:
    """Give a ticker in upper case."""
    ticker = name.strip().upper()
    if not TICKER.fullmatch(ticker):
        raise ValueError(
            "tickers become names of files: letters, digits and then also . ^ = - make one, "
            f"not {ticker!r}"
        )
    return ticker


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
