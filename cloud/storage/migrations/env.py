"""Runs the versions on the connection that `upgrade` hands over."""

from alembic import context
from sqlmodel import SQLModel

from cloud.storage import schema

assert schema.RUN_LIVE  # importing it is what declares the tables
context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=SQLModel.metadata,
    render_as_batch=True,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
