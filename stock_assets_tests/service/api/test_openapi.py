"""The OpenAPI document: it is valid and complete, and responses conform to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import given, settings
from openapi_spec_validator import validate

from stock_assets.service.app import create_app
from stock_assets_tests.service.api.client import API
from stock_assets_tests.service.conftest import send, state_for, unavailable_engine

EXAMPLES = 40
"""Requests per operation, half of them invalid."""


def create_document() -> dict[str, Any]:
    """Create the same document without a database, for test collection."""
    return create_app(state_for(unavailable_engine())).openapi()


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The document."""
    return create_document()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for operation in item.values():
            yield path, operation


def api_operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Operations of the versioned API."""
    for path, operation in operations(document):
        if path.startswith(API):
            yield path, operation


def schemas_of(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every schema that an answer of the versioned API leads to."""
    found: dict[str, dict[str, Any]] = {}
    pending: list[Any] = [
        operation["responses"]["200"] for _, operation in api_operations(document)
    ]
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


def test_document_is_valid_and_served(document: dict[str, Any]) -> None:
    validate(document)
    app = create_app(state_for(unavailable_engine()))
    assert send(app, f"{API}/openapi.json").json() == document
    assert document["openapi"].startswith("3.1")


def test_operations_have_unique_ids(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, operation in operations(document)]
    assert len(names) == len(set(names))
    for path, operation in api_operations(document):
        assert operation["operationId"].isidentifier(), path
        assert len(operation["tags"]) == 1, path
        assert operation["summary"], path
        assert operation["description"], path


def test_responses_have_a_schema_and_errors_are_problems(document: dict[str, Any]) -> None:
    for path, operation in api_operations(document):
        answers = operation["responses"]
        assert set(answers["200"]["content"]) == {"application/json"}, path
        assert "$ref" in answers["200"]["content"]["application/json"]["schema"], path
        for status, answer in answers.items():
            if status != "200":
                assert set(answer["content"]) == {"application/problem+json"}, (path, status)


def test_every_parameter_is_described(document: dict[str, Any]) -> None:
    for path, operation in api_operations(document):
        for parameter in operation.get("parameters", []):
            schema = parameter["schema"]
            named = path, parameter["name"]
            assert parameter["in"] == "path" or parameter["description"], named
            assert {"type", "enum", "$ref"} & schema.keys(), named
            assert "anyOf" not in schema, named  # a query string has no null


def test_every_field_is_described_with_an_example(document: dict[str, Any]) -> None:
    described = {name: schema for name, schema in schemas_of(document).items() if name != "Health"}
    for name, schema in described.items():
        assert schema["description"], name
        for field, part in schema.get("properties", {}).items():  # an enumeration has none
            assert part.get("description"), (name, field)
            nested = "$ref" in str(part) or "enum" in part
            assert "examples" in part or nested, (name, field)
        assert set(schema.get("required", [])) == set(schema.get("properties", {})), name


DOCUMENT = schemathesis.openapi.from_dict(create_document())


@pytest.mark.long
@pytest.mark.parametrize("path", DOCUMENT.raw_schema["paths"])
def test_responses_conform_to_the_document(path: str, service: str) -> None:
    @given(case=DOCUMENT[path]["GET"].as_strategy())
    @settings(max_examples=EXAMPLES)
    def check(case: schemathesis.Case) -> None:
        case.call_and_validate(base_url=service)

    check()
