"""Prices as they traded: the exchange calendar, bars, adjustment, and where they come from."""
