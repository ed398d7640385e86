"""Prices: ``raw_prices``."""
