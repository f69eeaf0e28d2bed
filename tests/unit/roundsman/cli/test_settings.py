"""Flags go over the environment, the environment over the config file."""

from pathlib import Path

import pytest

from roundsman.cli.failures import Failure
from roundsman.cli.options import Flags
from roundsman.cli.settings import DEFAULT_URL, Connection, read_connection

CONFIG = """
server = "lab"
[servers.lab]
url = "https://lab.example"
token = "of-the-lab"
[servers.plant]
url = "https://plant.example"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(CONFIG)
    path.chmod(0o600)
    return path


def connection(folder: Path, named: Flags | None = None, **environment: str) -> Connection:
    given = {"ROUNDSMAN_CONFIG_DIR": str(folder), **environment}
    return read_connection(named or Flags(), given)


def test_without_anything_it_is_the_laptops_own(tmp_path):
    found = connection(tmp_path)
    assert (found.url, found.token) == (DEFAULT_URL, None)


def test_the_config_file_names_a_server(config):
    found = connection(config.parent)
    assert (found.url, found.token) == ("https://lab.example", "of-the-lab")
    assert found.url_from == str(config)


def test_another_server_may_be_named(config):
    assert connection(config.parent, Flags(server="plant")).url == "https://plant.example"
    assert connection(config.parent, ROUNDSMAN_SERVER="plant").token is None


def test_environment_goes_over_the_file_and_a_flag_over_both(config):
    env = {"ROUNDSMAN_URL": "http://env", "ROUNDSMAN_TOKEN": "of-env"}
    assert connection(config.parent, None, **env).token == "of-env"
    found = connection(config.parent, Flags(url="http://flag"), **env)
    assert (found.url, found.url_from, found.token) == ("http://flag", "--url", "of-env")


def test_a_token_that_others_can_read_is_refused(config):
    config.chmod(0o644)
    with pytest.raises(Failure, match="others can read it") as raised:
        connection(config.parent)
    assert raised.value.help == f"chmod 600 {config}"


def test_a_server_that_is_not_there_and_a_broken_file_are_named(config):
    with pytest.raises(Failure, match="no server `moon`") as raised:
        connection(config.parent, Flags(server="moon"))
    assert "lab, plant" in raised.value.help
    config.write_text("server = ")
    with pytest.raises(Failure, match=r"config\.toml"):
        connection(config.parent)
