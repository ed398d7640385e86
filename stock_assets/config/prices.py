"""Where bars come from, which tickers are fetched, and which bars are reported."""

from __future__ import annotations

import re
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from stock_assets.config.section import PositiveFloat, PositiveInt, Section

Severity = Literal["error", "warning"]


class RuleName(StrEnum):
    """Names of the rules in :mod:`stock_assets.market.rules`; each states what is wrong."""

    PRICE_NOT_FINITE = "price is not a finite number"
    PRICE_NOT_POSITIVE = "price is not positive"
    LOW_ORDER = "low is above open or close"
    HIGH_ORDER = "high is below open or close"
    VOLUME = "volume is negative or not finite"
    DIVIDEND = "dividend is negative or not finite"
    SPLIT = "split is negative or not finite"
    REPEATED_BAR = "ticker has two bars of one session"
    NO_SESSION = "day is not a session of the exchange"
    JUMP = "jump without a corporate action"
    STALE = "stale repeat"
    ZERO_VOLUME = "zero volume"
    NO_BAR = "no bar"
    NO_ANSWER = "no answer"
    CURRENCY_CHANGED = "currency changed"
    HISTORY_SHRANK = "history shrank"
    HISTORY_REBASED = "history was re-based"
    HISTORY_UNRELATED = "history is unrelated"


TICKER = re.compile(r"[A-Z0-9][A-Z0-9.^=-]*")
"""The pattern of a whole ticker."""


def _ticker(name: str) -> str:
    """Return a valid ticker in upper case."""
    ticker = name.strip().upper()
    if not TICKER.fullmatch(ticker):
        raise ValueError(
            f"a ticker has letters and digits, and after the first also . ^ = -, not {ticker!r}"
        )
    return ticker


class Yahoo(Section):
    """How requests are sent to Yahoo Finance."""

    workers: PositiveInt = Field(4, description="parallel requests")
    requests_per_second: PositiveFloat = Field(20.0, description="limit for all workers together")
    timeout_seconds: PositiveFloat = Field(30.0, description="longest wait for one answer")
    attempts: PositiveInt = Field(4, description="requests for one ticker before it fails")
    backoff_seconds: PositiveFloat = Field(
        2.0,
        description="wait before the second attempt, doubled for each later one; also the "
        "largest random addition to any wait",
    )
    backoff_limit_seconds: PositiveFloat = Field(60.0, description="longest wait between attempts")


class Checks(Section):
    """Limits of the price checks, and the severity of a broken rule."""

    jump_max: PositiveFloat = Field(
        0.4,
        description="largest rise from close to close that needs no corporate action, a fraction; "
        "a fall may be as large the other way, to 1 / (1 + jump_max)",
    )
    stale_sessions: PositiveInt = Field(
        3, description="bars in a row, each equal to the one before, that are stale"
    )
    severities: dict[RuleName, Severity] = Field(
        {}, description="name of a rule to error or warning, in place of the rule's own severity"
    )


class Rename(Section):
    """A ticker that changed its name at a session."""

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
    """Where bars come from, and of which tickers."""

    source: Literal["sample", "csv", "yahoo"] = Field("sample", description="the price source")
    tickers: Annotated[list[str], Field(min_length=1)] = Field(
        ["AAPL", "FB", "GOOG", "IBM", "MSFT"], description="the universe, in any order"
    )
    renames: list[Rename] = Field(
        [], description="tickers that changed their name, see docs/operations.md"
    )
    first_session: date = Field(date(2000, 3, 1), description="the first trading-day partition")
    csv_folder: Path = Field(Path("prices"), description="one TICKER.csv each, for source csv")
    overlap_sessions: PositiveInt = Field(
        5, description="stored sessions fetched again, to see corrections"
    )
    healing_sessions: PositiveInt = Field(
        60, description="newest sessions whose missing bars are fetched again"
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
                # Each run would move the rows of one company to the other.
                if other.first_session <= rename.first_session:
                    raise ValueError(
                        f"{other} must be after {rename}. If a name went from one company to "
                        "another, remove the rename that is applied already; its rows stay moved"
                    )
        return self
