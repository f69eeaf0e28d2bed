"""Brings a database to the newest version, also an empty one. Versions only ever go forward.

Alembic is imported when there is something to do, and most starts find a database that is new.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, inspect

if TYPE_CHECKING:
    from alembic.config import Config

MIGRATIONS = Path(__file__).parent / "migrations"


def config() -> "Config":
    from alembic.config import Config

    found = Config()
    found.set_main_option("script_location", str(MIGRATIONS))
    return found


def newest() -> str:
    """The newest version, by the names of the files: `0001_the_first_tables.py` is `0001`."""
    return max(path.name.split("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*_*.py"))


def upgrade(engine: Engine) -> None:
    """Apply what is missing, in one transaction; a second process waits for the first."""
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            # Released with the transaction. The number is ours, and means nothing else.
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7266173)")
        if _versions(connection) == [newest()]:
            return
        from alembic import command

        settings = config()
        settings.attributes["connection"] = connection
        command.upgrade(settings, "head")


def _versions(connection: Connection) -> list[str]:
    """What the database says it is; one that is empty says nothing."""
    if not inspect(connection).has_table("alembic_version"):
        return []
    return list(connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalars())
