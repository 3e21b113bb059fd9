"""Which migrations does a folder hold? Reads it in a worker thread and says what it could not make sense of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from ..errors import ConfigError
from ..models import Issue, Migration, Script
from ..shielding import in_thread
from .checksums import checksum, tree_checksum
from .directives import python_directives, sql_directives
from .finding import File, find
from .parsing import definition, is_batched, parse


class Folder(Struct, frozen=True, kw_only=True):
    """A folder of migrations as it was read. Doubles are kept: planning judges them."""

    migrations: tuple[Migration, ...] = ()
    """The versioned ones by version, then the repeatable ones by name."""
    before: Migration | None = None
    """The hook `before_migrate`."""
    after: Migration | None = None
    """The hook `after_migrate`."""
    issues: tuple[Issue, ...] = ()
    """What is wrong with the files themselves."""


async def load(folder: Path) -> Folder:
    """Read a folder and its sub-folders.

    Raises:
        ConfigError: when there is no such folder.
    """
    return await in_thread(partial(_load, folder))


def _load(folder: Path) -> Folder:
    if not folder.is_dir():
        found = "is not a folder" if folder.exists() else "does not exist"
        raise ConfigError(
            f"The migrations folder {folder} {found}.", hint="Make it, or set the config's folder to where they are."
        )
    issues: list[Issue] = []
    versioned: list[File] = []
    repeatable: list[File] = []
    hooks: dict[str, list[File]] = {"before_migrate": [], "after_migrate": []}
    for file in find(folder, issues):
        if file.kind == "versioned":
            versioned.append(file)
        elif file.kind == "repeatable":
            repeatable.append(file)
        else:
            hooks[file.name].append(file)
    versioned.sort(key=lambda file: (file.version or 0, file.path))
    repeatable.sort(key=lambda file: (file.name, file.path))
    migrations = [*_versioned(versioned, issues), *(_alone(file, issues) for file in repeatable)]
    issues.extend(_mixed_digits(versioned))
    return Folder(
        migrations=tuple(migrations),
        before=_hook(hooks["before_migrate"], issues),
        after=_hook(hooks["after_migrate"], issues),
        issues=tuple(issues),
    )


def _versioned(files: Sequence[File], issues: list[Issue]) -> Iterator[Migration]:
    downs = _Downs([file for file in files if file.side == "down"])
    ups = [file for file in files if file.side == "up"]
    wanting = [file for file in ups if file.language == "sql"]
    beside = [(file, downs.beside(file)) for file in wanting]  # for all of them, before any takes one from elsewhere
    paired = {file.path: down or downs.anywhere(file) for file, down in beside}
    for file in ups:
        down = paired.get(file.path)
        yield _migration(file, None if down is None else _sql(down))
    for file in downs.left():
        message = (
            f"There is no V{file.version:0{file.digits}}_{file.name}.up.sql for this down script. "
            "Give both the same version and name."
        )
        issues.append(_issue("down-without-up", message, file.path))


class _Downs:
    """The down scripts that are not given to an up yet."""

    def __init__(self, files: Sequence[File]) -> None:
        self._folders: dict[tuple[int | None, int, str], dict[str, File]] = defaultdict(dict)
        for file in reversed(files):
            self._folders[_key(file)][_folder(file)] = file

    def beside(self, up: File) -> File | None:
        """The one in the same folder."""
        return self._folders[_key(up)].pop(_folder(up), None)

    def anywhere(self, up: File) -> File | None:
        """The first one left: folders `up/` and `down/` work too."""
        left = self._folders[_key(up)]
        return left.popitem()[1] if left else None

    def left(self) -> list[File]:
        return sorted((file for same in self._folders.values() for file in same.values()), key=lambda file: file.path)


def _key(file: File) -> tuple[int | None, int, str]:
    return file.version, file.digits, file.name


def _folder(file: File) -> str:
    return file.path.rpartition("/")[0]


def _alone(file: File, issues: list[Issue]) -> Migration:
    """A repeatable script or a hook: it goes one way only."""
    migration = _migration(file, None)
    if migration.down is None:
        return migration
    what = "A repeatable script" if file.kind == "repeatable" else "A hook"
    message = f"{what} has no way down: its `down` would never be run. Take it out."
    issues.append(_issue(f"{file.kind}-down", message, file.path))
    return replace(migration, down=None)


def _hook(files: Sequence[File], issues: list[Issue]) -> Migration | None:
    if not files:
        return None
    if len(files) > 1:
        message = f"There are {' and '.join(Path(file.path).name for file in files)}. Keep one of them."
        issues.append(_issue("duplicate-hook", message, files[0].path))
    return _alone(files[0], issues)


def _migration(file: File, down: Script | None) -> Migration:
    if file.language == "py":
        return _python(file)
    return Migration(
        version=file.version,
        name=file.name,
        up=_sql(file),
        down=down,
        checksum=checksum(file.text),
        kind=file.kind,
    )


def _sql(file: File) -> Script:
    path = Path(file.path)
    directives, _ = sql_directives(file.text, path)  # what is wrong with them is told of pending scripts only
    return Script(path=path, text=file.text, language="sql", directives=directives)


def _python(file: File) -> Migration:
    path = Path(file.path)
    tree = parse(file.text, path)
    if isinstance(tree, SyntaxError):  # it is refused when it is to run; until then it may have a `down` or not
        script = Script(path=path, text=file.text, language="py")
        down = script if file.kind == "versioned" else None
        return Migration(
            version=file.version, name=file.name, up=script, down=down, checksum=checksum(file.text), kind=file.kind
        )
    directives, _ = python_directives(tree, file.text, path)
    script = Script(path=path, text=file.text, language="py", directives=directives)
    return Migration(
        version=file.version,
        name=file.name,
        up=script,
        down=script if definition(tree, "down") is not None else None,
        checksum=tree_checksum(tree),
        kind=file.kind,
        batched=is_batched(tree),
    )


def _mixed_digits(files: Sequence[File]) -> Iterator[Issue]:
    by_length = {file.digits: file.path for file in reversed(files)}
    if len(by_length) > 1:
        lengths = " and ".join(str(length) for length in sorted(by_length))
        message = (
            f"Versions of {lengths} digits are mixed; they are ordered as numbers, so a shorter one comes first. "
            "Use one length."
        )
        yield Issue(code="mixed-digits", severity="warning", message=message, path=Path(by_length[max(by_length)]))


def _issue(code: str, message: str, path: str) -> Issue:
    return Issue(code=code, severity="error", message=message, path=Path(path))
