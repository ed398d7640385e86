"""Values in templates and addresses."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stock_assets.service.pages.rendering import address, as_json, templates, ticker_address

JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON)
def test_json_cannot_end_its_element(value: object) -> None:
    text = str(as_json(value))
    assert json.loads(text) == value
    assert not {"<", ">", "&"} & set(text)


def test_nan_is_an_error() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        as_json(float("nan"))


def test_templates_escape_values() -> None:
    page = templates().from_string("<p>{{ name }}</p>").render(name="<script>")
    assert page == "<p>&lt;script&gt;</p>"


def test_addresses_are_quoted() -> None:
    assert ticker_address("BRK/B?") == "/ticker/BRK%2FB%3F"
    assert address("/", q="a&b", sort=None) == "/?q=a%26b"
