"""The console, and results as tables for people or JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.console import Console

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

console = Console(highlight=False)


def output(found: Any, show: Callable[[Any, Console], None], *, as_json: bool) -> None:
    """Print a result with `show`, or as JSON."""
    if as_json:
        print(json.dumps(found, indent=2, default=str, allow_nan=False))  # noqa: T201 - for programs
    else:
        show(found, console)
