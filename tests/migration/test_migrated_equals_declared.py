"""A database made by the migrations is the one that the tables declare."""

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlmodel import SQLModel

from cloud.storage import schema
from cloud.storage.database import open_database
from cloud.storage.upgrade import config, newest


def test_migrated_equals_declared(database_url: str):
    database = open_database(database_url)
    try:
        database.prepare_now()
        database.prepare_now()  # the second time there is nothing to do
        with database.engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            assert compare_metadata(context, SQLModel.metadata) == []
            assert _partial_indexes(connection) >= {"runs_live", "tasks_due", "tasks_open"}
    finally:
        database.close()
    assert schema.DUE


def test_the_newest_version_is_told_by_the_name_of_its_file():
    assert ScriptDirectory.from_config(config()).get_current_head() == newest()


def _partial_indexes(connection: object) -> set[str]:
    from sqlalchemy import inspect

    found: set[str] = set()
    inspector = inspect(connection)
    for table in SQLModel.metadata.tables:
        for index in inspector.get_indexes(table):
            options = index.get("dialect_options", {})
            if any(name.endswith("_where") and text is not None for name, text in options.items()):
                found.add(str(index["name"]))
    return found
