"""The service: a read-only JSON API and dashboard of the results."""
