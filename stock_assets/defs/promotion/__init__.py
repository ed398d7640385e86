"""The promotion decision, and the history of production."""
