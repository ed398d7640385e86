"""The console, and results as tables for people or JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

console = Console(highlight=False)


def print_facts(facts: Iterable[tuple[str, str]], console: Console) -> None:
    """Print headings and their texts as a table; one without a text is left out."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for heading, text in facts:
        if text:
            table.add_row(heading, text)
    console.print(table)


def output(found: Any, show: Callable[[Any, Console], None], *, as_json: bool) -> None:
    """Print a result with `show`, or as JSON."""
    if as_json:
        print(json.dumps(found, indent=2, default=str, allow_nan=False))  # noqa: T201 - for programs
    else:
        show(found, console)
