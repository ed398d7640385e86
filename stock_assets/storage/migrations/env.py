"""Alembic's entry point: runs the migrations in one transaction."""

from __future__ import annotations

from alembic import context
from sqlalchemy import create_engine, text

import stock_assets.storage.histories  # noqa: F401 - defines tables of the metadata
from stock_assets.storage.tables import metadata

LOCK = "SELECT pg_advisory_xact_lock(hashtext('stock_assets.migrations'))"

engine = create_engine(context.config.attributes["url"])
with engine.begin() as connection:
    connection.execute(text(LOCK))  # two commands started together must not both migrate
    context.configure(connection=connection, target_metadata=metadata)
    context.run_migrations()
engine.dispose()
