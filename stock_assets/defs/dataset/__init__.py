"""A dataset: panel, scalers and segments."""
