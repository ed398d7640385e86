"""Measurements of the whole system, printed as JSON: ``python -m benchmarks``."""
