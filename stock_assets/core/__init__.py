"""Shared by all floors: errors, locations, progress, fingerprints."""
