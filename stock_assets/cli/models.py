"""``stock-assets model``: the registered versions, and which one is in force."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from stock_assets.cli.output import AsJson, output
from stock_assets.cli.platform import Platform, open_platform

commands = typer.Typer(
    help="Models: list, show, compare, promote, rollback, recover.",
    no_args_is_help=True,
    suggest_commands=False,
)
Version = Annotated[int, typer.Argument(metavar="VERSION", min=1, help="For example 4.")]
AnyVersion = Annotated[
    int, typer.Argument(metavar="VERSION", min=0, help="For example 4; 0 is persistence.")
]


@commands.command("list")
def list_models(as_json: AsJson = False) -> None:
    """List the versions, newest first, with their data, scores and times in force."""
    from stock_assets.cli import versions

    output(versions.gather_models(open_platform()), versions.show_models, as_json=as_json)


@commands.command("show")
def show_model(version: AnyVersion, as_json: AsJson = False) -> None:
    """Show a version, its decision, and when and why it was in force."""
    from stock_assets.cli import versions

    output(versions.gather_model(open_platform(), version), versions.show_model, as_json=as_json)


@commands.command("compare")
def compare_models(first: Version, second: Version, as_json: AsJson = False) -> None:
    """Compare two versions on the stored sessions that neither was trained on."""
    from stock_assets.cli import versions

    found = versions.compare(open_platform(), first, second)
    output(found, versions.show_comparison, as_json=as_json)


@commands.command("promote")
def promote_model(
    version: AnyVersion,
    why: Annotated[str, typer.Option(help="The reason, for the history of production.")],
    as_json: AsJson = False,
) -> None:
    """Put a version in force."""
    from stock_assets.cli import versions

    if not why.strip():
        raise typer.BadParameter("the reason is empty", param_hint="--why")
    found = versions.promote(open_platform(), version, why.strip())
    output(found, versions.show_change, as_json=as_json)


@commands.command("rollback")
def rollback_model(
    why: Annotated[
        str | None, typer.Option(help="The reason, for the history of production.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Go back to the previous version; the one that it replaces is not used again."""
    from stock_assets.cli import versions

    output(versions.rollback(open_platform(), why), versions.show_change, as_json=as_json)


@commands.command("recover")
def recover_models(as_json: AsJson = False) -> None:
    """Restore versions that MLflow lost or that were deleted; exit status 1 if some are left."""
    found = recover_versions(open_platform())
    output(found, show_recovery, as_json=as_json)
    raise typer.Exit(1 if found["problems"] else 0)


def recover_versions(platform: Platform) -> dict[str, Any]:
    """Restore versions on record that MLflow has lost or that were deleted, as plain values.

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
        console.print("Nothing to recover: MLflow has every version that was in force.")
    for model in found["registered"]:
        text = f"{ModelVersion(**model)}, dataset {model['dataset_run_id']}"
        console.print(f"  [green]✓[/green] {text}", soft_wrap=True)
    for problem in found["problems"]:
        console.print(f"  [red]✗[/red] {escape(problem)}", soft_wrap=True)
    if found["registered"] and found["production"]:
        console.print(f"In production: {ModelVersion(**found['production'])}")
