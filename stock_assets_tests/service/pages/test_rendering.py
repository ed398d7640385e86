"""Values on their way into a page."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stock_assets.service.pages.model_status import edge_of
from stock_assets.service.pages.rendering import address, as_json, templates, ticker_address

JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON)
def test_json_in_a_page_is_the_value_and_cannot_end_its_element(value: object) -> None:
    text = str(as_json(value))
    assert json.loads(text) == value
    assert not {"<", ">", "&"} & set(text)


def test_nan_is_not_json() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        as_json(float("nan"))


def test_templates_escape_what_they_are_given() -> None:
    page = templates().from_string("<p>{{ name }}</p>").render(name="<script>")
    assert page == "<p>&lt;script&gt;</p>"


def test_addresses_are_quoted() -> None:
    assert ticker_address("BRK/B?") == "/ticker/BRK%2FB%3F"
    assert address("/", q="a&b", sort=None) == "/?q=a%26b"


def test_the_sentence_about_the_edge_is_told_in_its_own_words() -> None:
    edge = "No significant edge over persistence (+0.0070% of price, p = 0.44 over 63 sessions)"
    assert edge_of(f"Promoted: the relative MAE is 1.005, and so on. {edge}") == edge
    assert edge_of("Not promoted: the relative MAE is nan, which is undefined") == ""
