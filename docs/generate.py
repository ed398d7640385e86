"""Write the generated tables of ``docs/``: ``python docs/generate.py``.

Text between ``<!-- generated: NAME -->`` and ``<!-- end -->`` is replaced by the table NAME; all
other text of a page stays.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from stock_assets.config import Params
from stock_assets.features.feature import Feature
from stock_assets.features.indicators import FEATURES
from stock_assets.market.rules import RULES_OF_CHECK
from stock_assets.service.settings import VARIABLES, ServiceSettings

DOCS = Path(__file__).parent
ROOT = DOCS.parent

_BLOCK = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)

_HYPERPARAMETERS = {
    "architecture": "networks to choose from",
    "hidden_size": "units of the recurrent state; multiples of 4, the number of attention heads",
    "layers": "stacked recurrent layers",
    "dropout": "share of units dropped in training",
    "learning_rate": "of AdamW in the first epoch",
    "batch_size": "windows per optimiser step",
}
"""Descriptions of the hyperparameters; their fields have none."""

_INLINE_TYPES = {
    "IntegerRange": "integers `{low, high, step}`, both ends included",
    "FloatRange": "numbers `{low, high, step, log}`, both ends included",
    "Rename": "`{old, new, first_session}`",
}


def parameters() -> str:
    """Return one table per section of ``params.yaml``, nested sections after their parent."""
    shipped = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    schema = Params.model_json_schema()
    return "\n".join(_section(schema, schema, "", shipped))


def _section(
    schema: dict[str, Any], section: dict[str, Any], path: str, shipped: Any
) -> Iterator[str]:
    """Yield the table of a section, then those of its nested sections."""
    nested: list[tuple[str, dict[str, Any]]] = []
    rows: list[str] = []
    for name, field in section["properties"].items():
        key = f"{path}.{name}" if path else name
        target = _target(schema, field)
        if target is not None and target["title"] not in _INLINE_TYPES:
            nested.append((key, target))
            continue
        meaning = field.get("description") or _HYPERPARAMETERS[name]
        default = _plain(field.get("default"))
        value = _plain(shipped[name]) if isinstance(shipped, dict) and name in shipped else "–"
        rows.append(f"| `{key}` | {_kind(schema, field)} | {default} | {value} | {meaning} |")
    if path:
        yield f"### `{path}`"
        yield ""
        yield section["description"]
        yield ""
    if rows:
        yield "| key | type, choices | default in code | shipped | meaning |"
        yield "|---|---|---|---|---|"
        yield from rows
        yield ""
    for key, target in nested:
        inner = shipped.get(key.rpartition(".")[2]) if isinstance(shipped, dict) else None
        yield from _section(schema, target, key, inner)


def _target(schema: dict[str, Any], field: dict[str, Any]) -> dict[str, Any] | None:
    """Return the schema of the model that a field refers to, or None."""
    reference = field.get("$ref")
    if reference is None:
        return None
    found: dict[str, Any] = schema["$defs"][reference.rpartition("/")[2]]
    return found


def _kind(schema: dict[str, Any], field: dict[str, Any]) -> str:
    """Describe the type and bounds of a field."""
    target = _target(schema, field)
    if target is not None:
        return _INLINE_TYPES[target["title"]]
    if "anyOf" in field:
        options = [option for option in field["anyOf"] if option.get("type") != "null"]
        empty = ", or empty" if len(options) < len(field["anyOf"]) else ""
        return " or ".join(_kind(schema, option) for option in options) + empty
    if "enum" in field:
        return " · ".join(f"`{choice}`" for choice in field["enum"])
    if field["type"] == "array":
        return f"list of {_kind(schema, field['items'])}"
    if field["type"] == "object":
        return f"mapping of names to {_kind(schema, field['additionalProperties'])}"
    if "format" in field:
        return {
            "date": "date",
            "time": "time of day",
            "path": "path",
            "custom name": "`package.module:NAME`",
        }[field["format"]]
    words = {"boolean": "true or false", "integer": "integer", "number": "number", "string": "text"}
    bounds = [
        f"{sign} {field[bound]:g}"
        for bound, sign in (
            ("minimum", "≥"),
            ("exclusiveMinimum", ">"),
            ("maximum", "≤"),
            ("exclusiveMaximum", "<"),
        )
        if bound in field
    ]
    return ", ".join([words[field["type"]], *bounds])


def _plain(value: Any) -> str:
    """Format a value as in ``params.yaml``, on one line."""
    if value is None:
        return "empty"
    if isinstance(value, list):
        return f"`[{', '.join(map(str, value))}]`"
    if isinstance(value, dict):
        items = {name: inner for name, inner in value.items() if inner not in (None, False)}
        return f"`{{{', '.join(f'{n}: {_number(v)}' for n, v in items.items())}}}`"
    return f"`{_number(value)}`"


def _number(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value).removesuffix(":00")


def features() -> str:
    """Return one table per group of declared features."""
    lines: list[str] = []
    for group in dict.fromkeys(feature.group for feature in FEATURES.values()):
        members = [feature for feature in FEATURES.values() if feature.group == group]
        warm_up = max(feature.warm_up for feature in members)
        lines += [
            f"### Group `{group}`",
            "",
            f"{len(members)} features; the group's warm-up is {warm_up} rows.",
            "",
            "| feature | inputs | window | warm-up | scale-free | recursive | formula |",
            "|---|---|---|---|---|---|---|",
            *(_feature_row(feature) for feature in members),
            "",
        ]
    return "\n".join(lines)


def _feature_row(feature: Feature) -> str:
    window = "–" if feature.window is None else str(feature.window)
    formula = feature.formula.__name__
    source = f"`{feature.formula.__module__.rpartition('.')[2]}.{formula}`"
    if feature.formula.__module__.startswith("talib"):
        source = f"TA-Lib `{formula}`"
    if feature.group == "alpha158":
        source = "Qlib `Alpha158`"
    cells = (
        f"`{feature.name}`",
        ", ".join(dict.fromkeys(feature.inputs)),
        window,
        str(feature.warm_up),
        "yes" if feature.scale_free else "no",
        "yes" if feature.recursive else "no",
        source,
    )
    return f"| {' | '.join(cells)} |"


def rules() -> str:
    """Return one table of rules per asset check."""
    lines: list[str] = []
    for check, members in RULES_OF_CHECK.items():
        lines += [f"### `{check}`", "", "| rule | severity | requirement |", "|---|---|---|"]
        lines += [f"| {rule.name} | {rule.severity} | {rule.meaning} |" for rule in members]
        lines.append("")
    return "\n".join(lines)


def service() -> str:
    """Return the environment variables of the service with their defaults."""
    lines = ["| variable | default | meaning |", "|---|---|---|"]
    for name, variable in VARIABLES.items():
        field = ServiceSettings.model_fields[name]
        default = f"`{field.default}`" if field.default else "empty"
        lines.append(f"| `{variable}` | {default} | {field.description} |")
    return "\n".join(lines)


def endpoints() -> str:
    """Return one table of endpoints per tag of the OpenAPI document."""
    from sqlalchemy import create_engine

    from stock_assets.service.app import create_app
    from stock_assets.service.app_state import AppState

    engine = create_engine("postgresql+psycopg2://")  # never connected
    app = create_app(AppState(engine, Params(), ServiceSettings()))
    rows: dict[str, list[str]] = {}
    for path, item in app.openapi()["paths"].items():
        operation = item["get"]
        query = [p["name"] for p in operation.get("parameters", []) if p["in"] == "query"]
        meaning = operation["description"].partition("\n")[0].rstrip(".")
        cells = (f"`{path}`", meaning, ", ".join(f"`{name}`" for name in query) or "none")
        rows.setdefault(operation["tags"][0], []).append(f"| {' | '.join(cells)} |")
    lines: list[str] = []
    for tag, cells_of_tag in rows.items():
        lines += [
            f"### {tag.capitalize()}",
            "",
            "| address | meaning | parameters |",
            "|---|---|---|",
        ]
        lines += [*cells_of_tag, ""]
    return "\n".join(lines)


TABLES: dict[str, Callable[[], str]] = {
    "parameters": parameters,
    "features": features,
    "rules": rules,
    "service": service,
    "endpoints": endpoints,
}
"""The generated tables by name."""


def render(page: str) -> str:
    """Return the text of a page with up-to-date generated tables."""
    return _BLOCK.sub(
        lambda block: f"{block[1]}\n{TABLES[block[2]]().rstrip()}\n\n{block[3]}", page
    )


def main() -> None:
    """Update every page and print the changed ones."""
    for path in sorted(DOCS.glob("*.md")):
        text = path.read_text(encoding="utf-8")
        if (updated := render(text)) != text:
            path.write_text(updated, encoding="utf-8")
            sys.stdout.write(f"{path.relative_to(ROOT)} written\n")


if __name__ == "__main__":
    main()
