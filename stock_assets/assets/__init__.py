"""The stages of the loop as assets: one module a stage, its checks beside it."""
