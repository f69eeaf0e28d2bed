"""Who may import whom, and what each program loads when it stands alone."""

import subprocess
import sys

import pytest

from tests.kit.processes import REPOSITORY

HEAVY = {"fastapi", "starlette", "sqlmodel", "sqlalchemy", "pydantic_settings", "typer", "rich"}
SLOW_TO_LOAD = {*HEAVY, "pydantic", "httpx", "yaml", "jinja2", "cryptography", "asyncio"} - {
    "typer"
}

# Every module of the package, but those that run something when imported.
LOAD_ALL = """
import importlib, pkgutil, sys
package = importlib.import_module(sys.argv[1])
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    if not module.name.endswith("__main__") and ".migrations." not in module.name:
        importlib.import_module(module.name)
print("\\n".join(sys.modules))
"""


def loaded(code: str, *arguments: str) -> set[str]:
    """The top-level names of all modules a fresh interpreter holds after `code`."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return {name.split(".")[0] for name in done.stdout.split()}


def test_the_import_contracts_hold():
    lint = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"]
    done = subprocess.run(lint, cwd=REPOSITORY, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_gateway_loads_nothing_heavy():
    assert loaded(LOAD_ALL, "gateway") & HEAVY == set()


@pytest.mark.parametrize("program", ["contract", "cloud", "gateway", "firmware_sim", "roundsman"])
def test_each_program_imports_alone(program):
    others = {"cloud", "gateway", "firmware_sim", "roundsman"} - {program}
    assert loaded(LOAD_ALL, program) & others == set()


@pytest.mark.parametrize(
    ("module", "unused"),
    [
        ("gateway.__main__", {"jinja2", "cbor2", "pymodbus", "serial", "psycopg", "uvloop"}),
        ("cloud.app", {"alembic", "mako", "jsonschema", "referencing", "re2"}),
        ("roundsman.cli.jobs", {"jinja2"}),
    ],
)
def test_what_few_need_is_loaded_by_those_who_need_it(module, unused):
    code = f"import sys, {module}; print('\\n'.join(sys.modules))"
    assert loaded(code) & unused == set()


def test_help_loads_nothing_slow():
    pytest.importorskip("roundsman.cli.app", reason="the command line comes with roundsman.cli.app")
    code = """
import sys
from roundsman.cli.app import main
sys.argv = ["roundsman", "--help"]
out, sys.stdout = sys.stdout, sys.stderr
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print("\\n".join(sys.modules), file=out)
"""
    assert loaded(code) & SLOW_TO_LOAD == set()
