"""README and the pages of ``docs/`` agree with the code."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer.main

from stock_assets.config import Params
from stock_assets_tests.conftest import ROOT

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
TEXTS = {page.name: page.read_text(encoding="utf-8") for page in PAGES}
FILE = re.compile(r"(?:[\w.]+/)*\w+\.(?:py|md|yaml|yml)|(?:[\w.]+/)+")


def load_generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def code_blocks(language: str) -> list[str]:
    """Code blocks of a language on all pages."""
    fence = re.compile(rf"^```{language}\n(.*?)^```", re.DOTALL | re.MULTILINE)
    return [block for text in TEXTS.values() for block in fence.findall(text)]


def spans(text: str) -> set[str]:
    """Texts in backticks outside code blocks."""
    return set(re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.M)))


def parameter_keys(section: Any, path: str = "") -> set[str]:
    """Dotted keys of all parameters, sections included."""
    keys = set()
    for name, field in section.model_fields.items():
        keys.add(f"{path}{name}")
        if hasattr(field.annotation, "model_fields"):
            keys |= parameter_keys(field.annotation, f"{path}{name}.")
    return keys


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_generated_tables_are_up_to_date(page: Path) -> None:
    assert TEXTS[page.name] == load_generator().render(TEXTS[page.name]), "run make docs"


def test_every_generated_table_is_on_a_page() -> None:
    placed = re.findall(r"<!-- generated: (\w+) -->", "".join(TEXTS.values()))
    assert sorted(placed) == sorted(load_generator().TABLES)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_parameters_exist(page: Path) -> None:
    sections = "|".join(Params.model_fields)
    without_earlier_keys = TEXTS[page.name].partition("## Parameters of the earlier pipeline")[0]
    named = {
        span
        for span in spans(without_earlier_keys)
        if re.fullmatch(rf"(?:{sections})(?:\.[a-z_]+)+", span)
    }
    assert {name for name in named if not FILE.fullmatch(name)} <= parameter_keys(Params)


def test_the_environment_variables_are_those_that_the_code_reads() -> None:
    pattern = re.compile(r"\b(?:STOCK_ASSETS_[A-Z_]+|MLFLOW_TRACKING_URI|DAGSTER_HOME)\b")
    sources = [*(ROOT / "stock_assets").rglob("*.py"), ROOT / "dagster.yaml"]
    used = {name for path in sources for name in pattern.findall(path.read_text(encoding="utf-8"))}
    described = set(pattern.findall("\n".join(spans(TEXTS["configuration.md"]))))
    assert described == used


def asset_graph() -> Any:
    from stock_assets.definitions import defs

    return defs().get_repository_def().asset_graph


def test_the_diagram_has_the_edges_and_partitions_of_the_graph() -> None:
    from stock_assets.config import Params
    from stock_assets.defs.partitions import datasets, trading_days

    nodes = {node.key.to_user_string(): node for node in asset_graph().asset_nodes}
    edges = {
        (parent.to_user_string(), name) for name in nodes for parent in nodes[name].parent_keys
    }
    (diagram,) = (block for block in code_blocks("mermaid") if block.startswith("flowchart TD"))
    assert set(re.findall(r"(\w+) -->(?:\|[^|]*\|)? (\w+)", diagram)) == edges
    for heading, partitions in (
        ("day", trading_days(Params())),
        ("dataset", datasets),
        ("one", None),
    ):
        inside = re.search(rf"subgraph {heading}\[.*?\n(.*?)\bend\b", diagram, re.DOTALL)
        assert inside is not None
        assert set(inside[1].split()) == {
            name for name, node in nodes.items() if node.partitions_def == partitions
        }


def test_jobs_schedules_sensors_and_checks_are_described() -> None:
    from stock_assets.definitions import defs

    repository = defs().get_repository_def()
    names = {
        *("daily", "retraining"),
        *(schedule.name for schedule in repository.schedule_defs),
        *(sensor.name for sensor in repository.sensor_defs),
        *(check.name for check in repository.asset_graph.asset_check_keys),
    }
    assert names - {"default_automation_condition_sensor"} <= spans(TEXTS["architecture.md"])


def test_the_layout_lists_the_folders_of_the_package() -> None:
    package = ROOT / "stock_assets"
    children = {
        path.name
        for path in package.iterdir()
        if (path.suffix == ".py" and path.stem != "__init__") or (path / "__init__.py").exists()
    }
    (tree,) = (block for block in code_blocks("text") if block.startswith("stock_assets/\n"))
    assert set(re.findall(r"^  ([\w.]+)", tree, re.MULTILINE)) == children


def test_every_database_table_is_described() -> None:
    from stock_assets.storage.histories import HISTORIES
    from stock_assets.storage.tables import metadata

    histories = {history.name for history in HISTORIES.values()}  # described as {table}_history
    assert set(metadata.tables) - histories <= spans(TEXTS["architecture.md"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_resolve(page: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)", TEXTS[page.name]):
        file = page.parent / target if target else page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}
            assert anchor in slugs, f"{target}#{anchor}"


# Files of an installation or of another project.
OUTSIDE = {
    "our_networks.py",
    "our_features.py",
    ".env",
    "deploy/.env",
    "index.html",
    "arrays/",
    "checkpoints/",
    "historical/",
}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_files_exist(page: Path) -> None:
    roots = (ROOT, DOCS, ROOT / "stock_assets", ROOT / "stock_assets_tests")
    named = {span for span in spans(TEXTS[page.name]) if FILE.fullmatch(span)} - OUTSIDE
    missing = {name for name in named if not any((root / name).exists() for root in roots)}
    assert not missing


def named_commands() -> set[tuple[str, ...]]:
    """Words of every ``stock-assets`` command line on the pages, without placeholders."""
    lines = [line for block in code_blocks("(?:bash|console)") for line in block.splitlines()]
    lines += [span for text in TEXTS.values() for span in spans(text)]
    commands = set()
    for line in lines:
        for call in re.findall(r"(?<![\w./=])stock-assets( [^|)#\"]*|$)", line):
            commands.add(tuple(re.sub(r"[…\[\]\\]", "", call).split()))
    return commands - {()}


def test_named_commands_and_options_exist() -> None:
    from stock_assets.cli.main import app

    assert named_commands()
    for words in named_commands():
        command: Any = typer.main.get_command(app)
        known = option_names(command) | {"--help"}
        for word in words:
            if word in getattr(command, "commands", {}):
                command = command.commands[word]
                known |= option_names(command)
        assert not hasattr(command, "commands") or set(words) <= known, words
        assert {word for word in words if word.startswith("--")} <= known, words


def option_names(command: Any) -> set[str]:
    return {name for parameter in command.params for name in parameter.opts}


def test_named_make_targets_exist() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {name for text in TEXTS.values() for name in re.findall(r"`make ([\w-]+)`", text)}
    assert named <= targets


def test_every_query_runs(platform: Any) -> None:
    from sqlalchemy import text

    queries = [block for block in code_blocks("sql") if not block.startswith("CREATE DATABASE")]
    with platform.engine.connect() as connection:
        for query in queries:
            connection.execute(text(query.rstrip().rstrip(";"))).all()


def test_the_databases_to_create_are_those_of_the_server() -> None:
    from stock_assets.storage.server import DATABASES

    created = re.findall(r"^CREATE DATABASE (\w+);", TEXTS["operations.md"], re.MULTILINE)
    dumped = re.findall(r"^for database in (.*); do$", TEXTS["operations.md"], re.MULTILINE)
    assert tuple(created) == DATABASES
    assert {tuple(line.split()) for line in dumped} == {DATABASES}
