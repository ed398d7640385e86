"""Figures, pages of figures, and decisions in words."""
