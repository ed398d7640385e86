"""Plots, and pages of figures."""
