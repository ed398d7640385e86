"""Faults of the record, and the newest links that runs saw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Fault:
    """A place where the record does not hold.

    Attributes
    ----------
    part : str
        What was checked: guards, links, histories, tables, arrays, models or runs.
    message : str
        What is wrong, for people.
    table : str, optional
        The table, a history by its own name.
    key : dict, optional
        The key of the row, as text.
    column : str, optional
        The first column that differs.
    link : int, optional
        The link whose rows or digest are wrong, or the first that is missing.
    file : str, optional
        The array file, or the model version.
    """

    part: str
    message: str
    table: str | None = None
    key: Mapping[str, str] | None = None
    column: str | None = None
    link: int | None = None
    file: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that are set."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class KnownHead:
    """The newest link of the record when a run materialized partitions of an asset.

    Attributes
    ----------
    link : int
    digest : str
    run_id : str
    asset : str
    partitions : str
        The partition, or the first and the last, such as ``2013-02-01 to 2013-02-28``; empty for an
        asset without partitions.
    """

    link: int
    digest: str
    run_id: str
    asset: str
    partitions: str = ""

    def __str__(self) -> str:
        """Return the asset with its partitions, for messages."""
        return f"{self.asset} {self.partitions}".strip()
