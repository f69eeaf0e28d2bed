"""Writes the cloud's first migration from its declared tables: `python -m tests.kit.first_migration`.

Only until the first release has been made; from then on a migration is never written again.
"""

import tempfile
from pathlib import Path

from alembic import command
from sqlalchemy import create_engine

from cloud.storage.upgrade import MIGRATIONS, config

FIRST = MIGRATIONS / "versions" / "0001_the_first_tables.py"


def main() -> None:
    FIRST.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        engine = create_engine(f"sqlite:///{Path(folder) / 'empty.db'}")
        with engine.begin() as connection:
            settings = config()
            settings.attributes["connection"] = connection
            settings.set_main_option("file_template", "%%(rev)s_%%(slug)s")
            command.revision(settings, "The first tables", autogenerate=True, rev_id="0001")


if __name__ == "__main__":
    main()
