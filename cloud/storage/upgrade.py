"""Brings a database to the newest version, also an empty one. Versions only ever go forward."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine

MIGRATIONS = Path(__file__).parent / "migrations"


def config() -> Config:
    found = Config()
    found.set_main_option("script_location", str(MIGRATIONS))
    return found


def upgrade(engine: Engine) -> None:
    """Apply what is missing, in one transaction; a second process waits for the first."""
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            # Released with the transaction. The number is ours, and means nothing else.
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7266173)")
        settings = config()
        settings.attributes["connection"] = connection
        command.upgrade(settings, "head")
