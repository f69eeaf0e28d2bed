"""The PostgreSQL of the test kit is a real one, and its databases are apart."""

import sqlalchemy

from tests.kit.postgres import PostgresServer


def test_each_database_is_empty_and_apart(postgres: PostgresServer):
    first, second = postgres.create_database(), postgres.create_database()
    engines = [sqlalchemy.create_engine(url) for url in (first, second)]
    with engines[0].begin() as connection:
        connection.execute(sqlalchemy.text("CREATE TABLE marks (id int)"))
    assert sqlalchemy.inspect(engines[0]).get_table_names() == ["marks"]
    assert sqlalchemy.inspect(engines[1]).get_table_names() == []
    for url in (first, second):
        postgres.drop_database(url)  # also under the engines' open connections
    for engine in engines:
        engine.dispose()


def test_the_database_fixture_works_on_both_kinds(database_url):
    engine = sqlalchemy.create_engine(database_url)
    with engine.begin() as connection:
        assert connection.execute(sqlalchemy.text("SELECT 1")).scalar() == 1
    engine.dispose()
    assert engine.dialect.name in database_url
