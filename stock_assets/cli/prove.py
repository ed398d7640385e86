"""``stock-assets prove``: from a forecast back to rows."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.tree import Tree

from stock_assets.cli.platform import Platform

_MARKS = {
    "holds": "[green]✓[/green]",
    "within the tolerance": "[yellow]≈[/yellow]",
    "differs": "[yellow]≠[/yellow]",
    "not recorded": "[dim]–[/dim]",
    "fails": "[red]✗[/red]",
}

_COUNTED = {
    "holds": "hold to the bit",
    "within the tolerance": "hold within the tolerance",
    "not recorded": "not provable, as facts were not recorded",
    "fails": "fail",
}


def prove_forecasts(
    platform: Platform, wanted: str | int | None, *, retrain_again: bool
) -> dict[str, Any]:
    """Prove the forecast of a name, or a sample of a size; return plain values."""
    from stock_assets.pipeline.proof import Stores, prove
    from stock_assets.registry import Registry
    from stock_assets.storage.arrays import ArrayStore
    from stock_assets.storage.forecast_lookup import find_forecasts, sample_forecasts

    params = platform.params
    stores = Stores(
        platform.engine,
        ArrayStore(platform.locations.arrays_url),
        Registry(params.tracking, params.prices.renames),
        params,
    )
    if isinstance(wanted, str):
        forecasts = find_forecasts(platform.engine, wanted)
    else:
        forecasts = sample_forecasts(platform.engine, wanted or 1)
    proofs = prove(stores, forecasts, retrain=retrain_again)
    return {
        "holds": all(proof.holds for proof in proofs),
        "outcomes": Counter(proof.outcome.value for proof in proofs),
        "proofs": [
            asdict(proof) | {"holds": proof.holds, "outcome": proof.outcome} for proof in proofs
        ],
    }


def show_proofs(found: dict[str, Any], console: Console) -> None:
    """Print a proof as a tree; of many the failed ones, and how many have each outcome."""
    proofs = found["proofs"]
    shown = proofs if len(proofs) == 1 else [proof for proof in proofs if not proof["holds"]]
    for proof in shown:
        console.print(_tree(proof))
    if len(proofs) > 1:
        counts = [
            f"{found['outcomes'][outcome]:,} {words}"
            for outcome, words in _COUNTED.items()
            if found["outcomes"].get(outcome)
        ]
        console.print(f"{len(proofs):,} forecasts: {', '.join(counts)}.")


def _tree(proof: dict[str, Any]) -> Tree:
    row = proof["forecast"]
    tree = Tree(
        f"[bold]{escape(row['ticker'])}[/bold] as of {row['as_of_session']}, for "
        f"{row['target_session']}: {row['predicted_price']:.2f}"
    )
    for finding in proof["findings"]:
        _add(tree, finding)
    return tree


def _add(tree: Tree, finding: dict[str, Any]) -> None:
    mark = _MARKS[finding["outcome"]]
    unknown = finding["outcome"] == "not recorded" and not finding["parts"]
    note = "not recorded: " if unknown else ""
    branch = tree.add(f"{mark} {finding['name']}: {escape(note + finding['message'])}")
    for part in finding["parts"]:
        _add(branch, part)
