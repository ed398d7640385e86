"""A dataset from stored rows: build, verify, export."""
