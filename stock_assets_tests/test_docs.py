"""The pages of ``docs/`` say what the code does: tables, names, commands and queries."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer.main

from stock_assets.config import Params
from stock_assets_tests.conftest import ROOT

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
TEXTS = {page.name: page.read_text(encoding="utf-8") for page in PAGES}


def load_generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def blocks(language: str) -> list[str]:
    """Code blocks of a language on all pages."""
    fence = re.compile(rf"^```{language}\n(.*?)^```", re.DOTALL | re.MULTILINE)
    return [block for text in TEXTS.values() for block in fence.findall(text)]


def spans(text: str) -> list[str]:
    """Words in backticks outside code blocks."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.M))


def fields(section: Any, path: str = "") -> set[str]:
    """Every key of the parameters, sections included, with dots."""
    found = set()
    for name, field in section.model_fields.items():
        key = f"{path}{name}"
        found.add(key)
        if hasattr(field.annotation, "model_fields"):
            found |= fields(field.annotation, f"{key}.")
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_generated_tables_are_what_the_generator_gives(page: Path) -> None:
    assert TEXTS[page.name] == load_generator().render(TEXTS[page.name]), "python docs/generate.py"


def test_every_generated_table_stands_on_some_page() -> None:
    asked = re.findall(r"<!-- generated: (\w+) -->", "".join(TEXTS.values()))
    assert sorted(asked) == sorted(load_generator().TABLES)


def test_every_parameter_has_its_row() -> None:
    rows = set(re.findall(r"^\| `([a-z_.]+)` \|", TEXTS["configuration.md"], re.MULTILINE))
    leaves = {
        key for key in fields(Params) if not any(k.startswith(f"{key}.") for k in fields(Params))
    }
    ends = {"low", "high", "step", "log"}
    assert {key for key in leaves if key.rpartition(".")[2] not in ends} <= rows


def test_every_parameter_that_a_page_names_exists() -> None:
    known = fields(Params)
    sections = "|".join(Params.model_fields)
    earlier = re.findall(
        r"^\| (.*?) \|", TEXTS["configuration.md"].rpartition("## What became")[2], re.M
    )
    for name, text in TEXTS.items():
        for row in earlier:
            text = text.replace(f"| {row} |", "|", 1)
        named = {s for s in spans(text) if re.fullmatch(rf"(?:{sections})(?:\.[a-z_]+)+", s)}
        files = {s for s in named if s.endswith((".py", ".md"))}
        paths = {"performance.model", "performance.persistence", "performance.last_session"}
        assert named - files - paths - {"prices.last_session"} <= known, name


def test_every_environment_variable_is_described() -> None:
    pattern = re.compile(r"\b(?:STOCK_ASSETS_[A-Z_]+|MLFLOW_TRACKING_URI|DAGSTER_HOME)\b")
    sources = [*(ROOT / "stock_assets").rglob("*.py"), ROOT / "dagster.yaml"]
    used = {name for path in sources for name in pattern.findall(path.read_text(encoding="utf-8"))}
    described = set(pattern.findall("\n".join(spans(TEXTS["configuration.md"]))))
    assert described == used


def test_the_diagram_has_the_edges_of_the_graph() -> None:
    from stock_assets.definitions import defs

    graph = defs.get_repository_def().asset_graph
    edges = {
        (parent.to_user_string(), node.key.to_user_string())
        for node in graph.asset_nodes
        for parent in node.parent_keys
    }
    (diagram,) = blocks("mermaid")
    assert set(re.findall(r"(\w+) -->(?:\|[^|]*\|)? (\w+)", diagram)) == edges
    for kind, heading in (("trading_days", "day"), ("datasets", "dataset"), (None, "one")):
        inside = re.search(rf"subgraph {heading}\[.*?\n(.*?)\bend\b", diagram, re.DOTALL)
        assert inside is not None
        assert set(inside[1].split()) == {
            node.key.to_user_string() for node in graph.asset_nodes if partition_of(node) == kind
        }


def partition_of(node: Any) -> str | None:
    from stock_assets.defs.partitions import datasets, trading_days

    named = {"trading_days": trading_days, "datasets": datasets}
    return next((name for name, d in named.items() if node.partitions_def == d), None)


def test_jobs_schedules_sensors_and_checks_are_named() -> None:
    from stock_assets.definitions import defs

    repository = defs.get_repository_def()
    things = [
        *("daily", "retraining"),
        *(schedule.name for schedule in repository.schedule_defs),
        *(sensor.name for sensor in repository.sensor_defs),
        *(check.name for check in repository.asset_graph.asset_check_keys),
    ]
    named = set(spans(TEXTS["architecture.md"]))
    assert set(things) <= named | {"default_automation_condition_sensor"}


def test_the_folders_are_those_of_the_import_rule() -> None:
    rule = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    floors = rule["tool"]["importlinter"]["contracts"][0]["layers"]
    listed = re.findall(r"^  (\w+)(?:/|\.py) ", TEXTS["architecture.md"], re.MULTILINE)
    assert [f"stock_assets.{name}" for name in listed] == floors


def test_every_table_of_the_database_is_described() -> None:
    from stock_assets.storage.tables import metadata

    assert set(metadata.tables) <= set(spans(TEXTS["architecture.md"]))


def test_every_test_that_a_page_names_exists() -> None:
    named = {
        span
        for text in TEXTS.values()
        for span in spans(text)
        if re.fullmatch(r"\S+\.py::\w+", span)
    }
    assert len(named) > 15
    for span in named:
        file, _, test = span.removeprefix("stock_assets_tests/").partition("::")
        assert f"def {test}(" in (ROOT / "stock_assets_tests" / file).read_text(encoding="utf-8"), (
            span
        )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_paths_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", TEXTS[page.name]):
        assert (DOCS / target).exists(), target
    for span in spans(TEXTS[page.name]):
        if re.fullmatch(r"(?:stock_assets|stock_assets_tests|docs|deploy)/[\w/.]+", span):
            assert (ROOT / span.rstrip("/")).exists() or span.endswith("/.env"), span


def commands() -> set[tuple[str, ...]]:
    """Every ``stock-assets`` command line on the pages, without what stands in for arguments."""
    lines = [line for block in blocks("bash") for line in block.splitlines()]
    lines += [span for text in TEXTS.values() for span in spans(text)]
    found = set()
    for line in lines:
        for call in re.findall(r"(?<![\w./=])stock-assets( [^|)#\"]*|$)", line):
            found.add(tuple(call.replace("…", "").split()))
    return found - {()}


def test_every_command_exists_with_its_options() -> None:
    from stock_assets.cli.main import app

    assert len(commands()) > 10
    for words in commands():
        group: Any = typer.main.get_command(app)
        known = option_names(group)
        for word in words:
            if word in getattr(group, "commands", {}):
                group = group.commands[word]
                known |= option_names(group)
        assert not hasattr(group, "commands") or set(words) <= known, words
        assert {word for word in words if word.startswith("--")} <= known, words


def option_names(command: Any) -> set[str]:
    return {name for parameter in command.params for name in parameter.opts}


def test_every_query_runs(platform: Any) -> None:
    from sqlalchemy import text

    queries = [block for block in blocks("sql") if not block.startswith("CREATE DATABASE")]
    assert len(queries) >= 5
    with platform.engine.connect() as connection:
        for query in queries:
            connection.execute(text(query.rstrip().rstrip(";"))).all()


def test_the_databases_to_create_are_those_there_are() -> None:
    from stock_assets.storage.server import DATABASES

    created = re.findall(r"^CREATE DATABASE (\w+);", TEXTS["operations.md"], re.MULTILINE)
    looped = re.findall(r"^for database in (.*); do$", TEXTS["operations.md"], re.MULTILINE)
    assert tuple(created) == DATABASES
    assert {tuple(line.split()) for line in looped} == {DATABASES}


FOREIGN = ("params.yaml: ", "Dagster", "dg ", "dagster ", "pg_dump")


def test_every_error_message_is_one_that_the_code_gives() -> None:
    sources = " ".join(p.read_text(encoding="utf-8") for p in (ROOT / "stock_assets").rglob("*.py"))
    given = re.sub(r'"\s*\n\s*f?"', "", sources)
    table = TEXTS["operations.md"].rpartition("## Troubleshooting")[2]
    messages = [span for row in re.findall(r"^\| (.*?) \|", table, re.M) for span in spans(row)]
    own = [message for message in messages if not message.startswith(FOREIGN)]
    assert len(own) > 15
    for message in own:
        for piece in message.split("…"):
            assert piece.strip() in given, message
