"""The declared rules: one per name, each reported by one asset check."""

from __future__ import annotations

from itertools import chain

from stock_assets.config import RuleName
from stock_assets.market.bars import BAR_COLUMNS
from stock_assets.market.rules import BAR_RULES, RULES_OF_CHECK


def test_each_rule_name_is_reported_by_one_asset_check():
    reported = [rule.name for rule in chain.from_iterable(RULES_OF_CHECK.values())]
    assert sorted(reported) == sorted(RuleName)


def test_a_broken_bar_rule_is_an_error_and_shows_columns_of_a_bar():
    assert {rule.severity for rule in BAR_RULES} == {"error"}
    assert all(set(rule.shown) <= set(BAR_COLUMNS) for rule in BAR_RULES)
