"""The OpenAPI document: it is valid, says everything, and the service keeps it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import settings
from openapi_spec_validator import validate
from sqlalchemy import create_engine

from stock_assets.config import Params
from stock_assets.service.app import create_app
from stock_assets.service.app_state import AppState
from stock_assets.service.response_cache import ResponseCache
from stock_assets.service.settings import ServiceSettings
from stock_assets_tests.service.api.asking import API

pytestmark = pytest.mark.slow

EXAMPLES = 40
"""Requests per operation, half of them wrong on purpose."""


@pytest.fixture(scope="module")
def document(client: httpx.Client) -> dict[str, Any]:
    """The document as a client generator gets it."""
    answer = client.get(f"{API}/openapi.json")
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


def described() -> dict[str, Any]:
    """The same document, from an application without a database: it is needed to collect tests."""
    engine = create_engine("postgresql+psycopg2://")
    return create_app(
        AppState(engine, Params(), ServiceSettings(), ResponseCache(engine, 0))
    ).openapi()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for operation in item.values():
            yield path, operation


def own(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Operations of the versioned API."""
    for path, operation in operations(document):
        if path.startswith(API):
            yield path, operation


def schemas_of(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every schema that an answer of the versioned API leads to."""
    found: dict[str, dict[str, Any]] = {}
    pending: list[Any] = [operation["responses"]["200"] for _, operation in own(document)]
    while pending:
        part = pending.pop()
        if isinstance(part, dict):
            name = str(part.get("$ref", "")).rpartition("/")[2]
            if name and name not in found:
                found[name] = document["components"]["schemas"][name]
                pending.append(found[name])
            pending += part.values()
        elif isinstance(part, list):
            pending += part
    return found


def test_the_document_is_valid(document: dict[str, Any]) -> None:
    validate(document)
    assert document == described()
    assert document["openapi"].startswith("3.1")


def test_operations_have_names_of_their_own(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, operation in operations(document)]
    assert len(names) == len(set(names)) >= 13
    for path, operation in own(document):
        assert operation["operationId"].isidentifier(), path
        assert len(operation["tags"]) == 1, path
        assert operation["summary"], path
        assert operation["description"], path


def test_every_answer_has_a_schema_and_every_error_is_a_problem(document: dict[str, Any]) -> None:
    for path, operation in own(document):
        answers = operation["responses"]
        assert set(answers["200"]["content"]) == {"application/json"}, path
        assert "$ref" in answers["200"]["content"]["application/json"]["schema"], path
        for status, answer in answers.items():
            if status not in ("200", "304"):
                assert set(answer["content"]) == {"application/problem+json"}, (path, status)


def test_every_parameter_is_described(document: dict[str, Any]) -> None:
    for path, operation in own(document):
        for parameter in operation.get("parameters", []):
            schema = parameter["schema"]
            named = path, parameter["name"]
            assert parameter["in"] == "path" or parameter["description"], named
            assert {"type", "enum", "$ref"} & schema.keys(), named  # never a default alone
            assert "anyOf" not in schema, named  # an address has no null


def test_every_field_is_described_with_an_example(document: dict[str, Any]) -> None:
    ours = {name: schema for name, schema in schemas_of(document).items() if name != "Health"}
    assert len(ours) > 20
    for name, schema in ours.items():
        assert schema["description"], name
        for field, part in schema["properties"].items():
            assert part.get("description"), (name, field)
            nested = "$ref" in str(part) or "enum" in part
            assert "examples" in part or nested, (name, field)
        assert set(schema.get("required", [])) == set(schema["properties"]), name


def keeps_its_document(path: str) -> Callable[..., None]:
    """Make the test of one address."""

    @DOCUMENT.include(path=path).parametrize()
    @settings(max_examples=EXAMPLES)
    def test(case: schemathesis.Case, service: str) -> None:
        case.call_and_validate(base_url=service)

    made: Callable[..., None] = test
    return made


DOCUMENT = schemathesis.openapi.from_dict(described())
# Tests that schemathesis makes of one function share its id, and of several tests with one id,
# processes that share out the suite run one alone.
globals().update(
    {
        f"test_the_service_keeps_its_document_of{re.sub(r'[^a-z0-9]+', '_', path)}": (
            keeps_its_document(path)
        )
        for path in DOCUMENT.raw_schema["paths"]
    }
)


def test_every_address_is_tested() -> None:
    made = [name for name in globals() if "keeps_its_document_of" in name]
    assert len(made) == len(DOCUMENT.raw_schema["paths"]) > 15
