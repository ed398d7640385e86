"""The declared rules: each has a name, a meaning and an asset check that reports it."""

from __future__ import annotations

from itertools import chain
from typing import get_args

import pytest

from stock_assets.config import RuleName
from stock_assets.market.bars import BAR_COLUMNS
from stock_assets.market.rules import BAR_RULES, RULES, RULES_OF_CHECK


def test_the_rules_are_those_that_parameters_may_name():
    assert [rule.name for rule in RULES] == list(get_args(RuleName))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_is_told_in_one_sentence(rule):
    assert rule.meaning[0].isupper()
    assert rule.meaning.endswith(".")
    assert "\n" not in rule.meaning


def test_each_rule_is_reported_by_one_asset_check():
    reported = list(chain.from_iterable(RULES_OF_CHECK.values()))
    assert len(reported) == len(RULES)
    assert set(reported) == set(RULES)


def test_a_rule_of_a_bar_is_an_error_that_its_columns_show():
    assert {rule.severity for rule in BAR_RULES} == {"error"}
    assert all(set(rule.shown) <= set(BAR_COLUMNS) for rule in BAR_RULES)
