"""The one entrance: `nox -s demo`, `tests`, `lint`, `typing`, `docs`, `bench`, `wheel`, `coverage`."""

from __future__ import annotations

import shutil
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
# uv where it is installed, the virtualenv that comes with nox where not: `pip install nox` is all one needs.
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.sessions = ["tests", "lint", "typing", "docs"]
nox.options.error_on_missing_interpreters = True
nox.options.error_on_external_run = True

PROJECT = nox.project.load_toml("pyproject.toml")
HERE = ".[cli,embedded]"
# Two at once: most tests wait for a server or for a process. `nox -s tests -- -n 0` runs one after the other.
AT_ONCE = ("-n", "2", "--dist", "worksteal")


def install(session: nox.Session, *what: str, groups: tuple[str, ...] = ()) -> None:
    session.install(*what, *nox.project.dependency_groups(PROJECT, *groups))


@nox.session
def demo(session: nox.Session) -> None:
    """Show on a real PostgreSQL what the library does."""
    install(session, HERE)
    session.run("msr-async", "demo", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests on the sources; arguments after `--` go to pytest."""
    install(session, "-e", HERE, groups=("test",))
    session.run("python", "-m", "pytest", *AT_ONCE, *session.posargs)


@nox.session
def coverage(session: nox.Session) -> None:
    """Run the tests and list the lines that none of them reaches."""
    install(session, "-e", HERE, groups=("test",))
    session.run("coverage", "run", "-m", "pytest", *session.posargs)
    session.run("coverage", "report", "--show-missing", "--skip-covered")


@nox.session
def lint(session: nox.Session) -> None:
    """Style, and which room may import which."""
    install(session, "--no-deps", "-e", ".")
    install(session, groups=("lint",))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports")


@nox.session
def typing(session: nox.Session) -> None:
    """Two type checkers."""
    install(session, "-e", HERE, groups=("typing", "test"))
    session.run("mypy")
    session.run("pyright")


@nox.session
def docs(session: nox.Session) -> None:
    """The examples in the pages run, and the links between the pages lead somewhere."""
    install(session, "-e", HERE, groups=("test",))
    pages = sorted(str(path) for path in Path("tests").glob("test_docs*.py"))
    session.run("python", "-m", "pytest", *pages, *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure against PostgreSQL's programs, with `-- migrations` or `-- firestore` those; more arguments go on."""
    install(session, HERE, groups=("bench",))
    if session.posargs[:1] in (["migrations"], ["firestore"]):
        session.run("python", "-m", f"benchmarks.{session.posargs[0]}", *session.posargs[1:])
    else:
        session.run("python", "-m", "benchmarks", *session.posargs)


@nox.session
def wheel(session: nox.Session) -> None:
    """Build the wheel and run the tests on it, installed."""
    target = Path(session.create_tmp()) / "dist"
    shutil.rmtree(target, ignore_errors=True)
    session.install("hatchling")
    session.run("python", "-m", "hatchling", "build", "--target", "wheel", "--directory", str(target))
    (built,) = target.glob("*.whl")
    install(session, f"{built.resolve()}[cli,embedded]", groups=("test",))
    session.run("python", "-c", "import msr_async as m; assert 'site-packages' in m.__file__, m.__file__")
    session.run("python", "-m", "pytest", *AT_ONCE, *session.posargs)
