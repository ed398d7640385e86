"""Measurements of the whole system as JSON: ``python -m benchmarks``."""
