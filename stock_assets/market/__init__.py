"""Prices: the exchange calendar, bars, corporate actions, adjustment, checks and sources."""
