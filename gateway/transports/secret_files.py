"""Secrets of the settings, which may stand in files of their own."""

from pathlib import Path

from gateway.errors import SettingsInvalid


def secret_of(given: str | None, file: Path | None, key: str) -> str | None:
    """A secret as it stands in the settings or in its file. Raises SettingsInvalid."""
    if file is None:
        return given
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsInvalid(f"{key}: {file}: {error}") from error
