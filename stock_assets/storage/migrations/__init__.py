"""Migrations of the ``stock_assets`` database."""
