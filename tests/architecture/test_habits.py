"""House rules that no linter knows: names, sizes, links, and what may not stand in the project."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.kit import rows
from tests.kit.processes import REPOSITORY

PACKAGES = ["contract", "cloud", "gateway", "firmware_sim", "roundsman"]
TOP_LEVEL = {
    "pyproject.toml", "README.md", "Makefile", "CHANGELOG.md", "LICENSE", *PACKAGES,
    "tests", "configs", "benchmarks", "docs",
}  # fmt: skip
BANNED_NAMES = {"utils", "helpers", "common", "core", "manager", "handler"}
# Written in two pieces, so that this file does not name them itself.
FORBIDDEN = ["/" + "work/", "/root/" + ".pyenv", "pypi" + "-more", "NotImplemented" + "Error"]
LINK = re.compile(r"(?<!!)\[[^\]\n]*\]\(([^)\s]+)\)")
CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.MULTILINE | re.DOTALL)


def project_files() -> list[Path]:
    """Every file git knows or would add."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    paths = [REPOSITORY / line for line in listed.stdout.splitlines()]
    return [path for path in paths if path.is_file()]


@pytest.fixture(scope="module")
def files() -> list[Path]:
    return project_files()


def shown(paths) -> list[str]:
    return sorted(str(path.relative_to(REPOSITORY)) for path in paths)


def test_the_top_level_stays_as_it_was_drawn(files):
    names = {path.relative_to(REPOSITORY).parts[0] for path in files}
    assert {name for name in names if not name.startswith(".")} <= TOP_LEVEL


def test_no_module_has_a_name_that_says_nothing(files):
    ours = [path for path in files if path.relative_to(REPOSITORY).parts[0] in {*PACKAGES, "tests"}]
    bad = [
        path
        for path in ours
        if path.suffix == ".py"
        and any(
            word in BANNED_NAMES
            for part in path.relative_to(REPOSITORY).with_suffix("").parts
            for word in part.split("_")
        )
    ]
    assert shown(bad) == []


def test_every_module_of_the_packages_says_what_it_is_for(files):
    ours = [path for path in files if path.relative_to(REPOSITORY).parts[0] in PACKAGES]
    silent = [
        path
        for path in ours
        if path.suffix == ".py"
        and path.name != "__init__.py"
        and path.stat().st_size > 0
        and not re.match(r'(#.*\n)*\s*r?"""', path.read_text())
    ]
    assert shown(silent) == []


def test_nothing_names_the_machine_it_was_made_on(files):
    found = []
    for path in files:
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(REPOSITORY)}: {word}" for word in FORBIDDEN if word in text]
    assert found == []


def test_nothing_is_left_for_later(files):
    word = "TO" + "DO"
    later = [
        path
        for path in files
        if path.suffix in {".py", ".md", ".yaml", ".html", ".js"}
        and re.search(rf"\b{word}\b(?!.*#\d+)", path.read_text())
    ]
    assert shown(later) == []


def test_the_readme_is_read_in_a_minute():
    assert len((REPOSITORY / "README.md").read_text().splitlines()) < 120


def test_links_between_pages_lead_somewhere(files):
    broken = []
    for page in [path for path in files if path.suffix == ".md"]:
        for link in LINK.findall(CODE.sub("", page.read_text())):
            target, _, anchor = link.partition("#")
            if re.match(r"[a-z]+:", link):
                continue
            where = (page.parent / target).resolve() if target else page
            if not where.exists():
                broken.append(f"{page.relative_to(REPOSITORY)}: {link}")
            elif anchor and where.suffix == ".md" and anchor not in anchors(where.read_text()):
                broken.append(f"{page.relative_to(REPOSITORY)}: {link} (no such heading)")
    assert broken == []


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, by the rule of the usual forges."""
    outside_code = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+\s+(.*?)\s*$", outside_code, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_rows_named_by_tests_exist(files):
    if not rows.FEATURES.exists():
        pytest.skip("docs/features.md is not written yet")
    known = rows.known_rows(rows.FEATURES.read_text())
    marker = re.compile(r"pytest\.mark\.row\(([^)]*)\)")
    named: dict[str, list[str]] = {}
    for path in files:
        if path.suffix == ".py" and path.is_relative_to(REPOSITORY / "tests"):
            for arguments in marker.findall(path.read_text()):
                for row in re.findall(r'"([A-Z]\d+)"', arguments):
                    named.setdefault(row, []).append(path.name)
    assert rows.unknown_rows(named, known) == []
