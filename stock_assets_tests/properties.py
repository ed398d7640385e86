"""Numbers of examples of property tests; the long suite tries five times as many."""

from __future__ import annotations

from hypothesis import settings

SLOW_EXAMPLES = settings.default.max_examples // 6
"""Examples of a property of which each takes a second or more."""
