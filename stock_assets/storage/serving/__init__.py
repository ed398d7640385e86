"""Queries of the service, each one statement with bound parameters."""
