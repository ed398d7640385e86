"""The promotion decision, and what is in production."""
