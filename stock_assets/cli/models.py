"""``stock-assets model``: the registered versions."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape

from stock_assets.cli.output import AsJson, output
from stock_assets.cli.platform import Platform, open_platform

commands = typer.Typer(help="Models: recover.", no_args_is_help=True, suggest_commands=False)


@commands.command("recover")
def recover_models(as_json: AsJson = False) -> None:
    """Register again what MLflow has lost, from the artifacts; exit status 1 if some is left."""
    found = recover_versions(open_platform())
    output(found, show_recovery, as_json=as_json)
    raise typer.Exit(1 if found["problems"] else 0)


def recover_versions(platform: Platform) -> dict[str, Any]:
    """Register versions again that are on record and that MLflow has lost, as plain values.

    Raises
    ------
    StockAssetsError
        The artifacts hold none of them.
    """
    from stock_assets.pipeline.recovery import recover
    from stock_assets.registry import Registry

    return asdict(recover(platform.engine, Registry(platform.params.tracking)))


def show_recovery(found: dict[str, Any], console: Console) -> None:
    """Print the versions that were registered again, production, and what could not be done."""
    from stock_assets.evaluation.production_rule import ModelVersion

    if not found["registered"] and not found["problems"]:
        console.print("Nothing to recover: MLflow knows every promotion on record.")
    for model in found["registered"]:
        text = f"{ModelVersion(**model)}, dataset {model['dataset_run_id']}"
        console.print(f"  [green]✓[/green] {text}", soft_wrap=True)
    for problem in found["problems"]:
        console.print(f"  [red]✗[/red] {escape(problem)}", soft_wrap=True)
    if found["registered"] and found["production"]:
        console.print(f"In production: {ModelVersion(**found['production'])}")
