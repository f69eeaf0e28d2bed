"""Settings: defaults that work, a file, the environment, and errors that say where."""

from datetime import timedelta
from pathlib import Path

import pytest

from cloud.errors import SettingsInvalid
from cloud.settings import CloudSettings, read_settings
from tests.kit.processes import REPOSITORY


@pytest.fixture
def file(tmp_path):
    return tmp_path / "cloud.yaml"


def test_no_file_and_an_empty_file_are_the_defaults(file):
    assert read_settings(None) == CloudSettings()
    file.write_text("# nothing yet\n")
    assert read_settings(file) == CloudSettings()
    assert CloudSettings().database_url == "sqlite:///roundsman-data/cloud/cloud.db"


def test_the_shipped_file_says_what_the_defaults_are():
    shipped = read_settings(REPOSITORY / "configs" / "cloud.yaml")
    assert shipped.http == CloudSettings().http
    assert shipped.limits == CloudSettings().limits


def test_a_setting_that_does_not_exist_is_named_with_its_place(file):
    file.write_text("http:\n  prt: 80\n")
    with pytest.raises(SettingsInvalid) as caught:
        read_settings(file)
    assert str(caught.value).startswith(f"{file}:2:3: http.prt: unknown key `prt`; did you mean")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("broker: {url: 'http://x'}", "broker"),
        ("broker: {url: 'mqtt://user:secret@x'}", "username"),
        ("broker: {tls: {key: a.pem}}", "certificate and key"),
        ("database: mysql://x", "sqlite:///"),
        ("http: {public_url: example.com}", "public_url"),
        ("limits: {heartbeat: soon}", "heartbeat"),
        ("http: [", "not YAML"),
    ],
)
def test_values_that_cannot_work_are_refused(file, text, said):
    file.write_text(text)
    with pytest.raises(SettingsInvalid, match=said) as caught:
        read_settings(file)
    assert str(file) in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_file_that_is_not_there_is_named():
    with pytest.raises(SettingsInvalid, match="nowhere"):
        read_settings(Path("/nowhere.yaml"))


def test_the_environment_goes_over_the_file(file, monkeypatch):
    file.write_text("http: {port: 1000, host: '::1'}\nlimits: {heartbeat: 5s}\n")
    monkeypatch.setenv("ROUNDSMAN_CLOUD__HTTP__PORT", "2000")
    monkeypatch.setenv("ROUNDSMAN_CLOUD__BROKER__PASSWORD", "hunter2")
    settings = read_settings(file)
    assert (settings.http.port, settings.http.host) == (2000, "::1")
    assert settings.limits.heartbeat == timedelta(seconds=5)
    assert settings.broker.password is not None
    assert "hunter2" not in repr(settings)


def test_a_bad_variable_is_named(monkeypatch):
    monkeypatch.setenv("ROUNDSMAN_CLOUD__HTTP__PORT", "many")
    with pytest.raises(SettingsInvalid, match="ROUNDSMAN_CLOUD__HTTP__PORT"):
        read_settings(None)
