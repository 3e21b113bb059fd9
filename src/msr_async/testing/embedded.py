"""A real PostgreSQL server for as long as a block lasts: for tests, the demo and benchmarks, never for data to keep."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

import anyio.to_thread

from ..errors import DatabaseError
from .programs import checked, find_postgres, found, open_to_all, place_for_all
from .serving import KeptServer, read, server_user, tail

__all__ = ["EmbeddedPostgres", "find_postgres"]

_CLUSTER = ("-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-sync", "--no-instructions")


class EmbeddedPostgres(KeptServer):
    """A server in a temporary folder, on a free loopback port, for the superuser `postgres` without a password.

    It ends with the block, or with this process in whatever way this dies, and its folder with it. As root it runs as
    `nobody`, because PostgreSQL refuses root. `options` are server settings (`{"fsync": "off"}`).
    """

    def __init__(
        self,
        version: int = 18,
        *,
        bin_dir: str | os.PathLike[str] | None = None,
        options: Mapping[str, str | int] | None = None,
    ) -> None:
        super().__init__(f"The embedded PostgreSQL {version}")
        self.version = version
        self.options = dict(options or {})
        self._given = None if bin_dir is None else Path(bin_dir)
        self._bin_dir: Path | None = None

    def __repr__(self) -> str:
        state = f"port {self._port}" if self._keeper else "not running"
        return f"<EmbeddedPostgres {self.version}, {state}>"

    @property
    def bin_dir(self) -> Path:
        """Where this server's programs are: `postgres`, `psql`, `pg_dump`, `pg_restore`.

        Raises:
            ToolMissing: when there is no PostgreSQL of this version.
        """
        if self._bin_dir is None:
            self._bin_dir = checked(self._given, self.version) if self._given else found(self.version)
        return self._bin_dir

    def dsn(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@{self.host}:{self.port}/{quote(database, safe='')}"

    def run(self, program: str, *arguments: str, stdin: str = "") -> str:
        """Run one of this server's own client programs, connected to it, and return what it printed.

        Raises:
            DatabaseError: when it failed, with what it said.
        """
        environ = _clean_environment() | {"PGHOST": self.host, "PGPORT": str(self.port), "PGUSER": "postgres"}
        done = subprocess.run(
            [self.bin_dir / program, *arguments], input=stdin, env=environ, capture_output=True, encoding="utf-8"
        )
        if done.returncode:
            said = done.stderr.strip() or f"it ended with {done.returncode} and said nothing"
            raise DatabaseError(f"{program} failed: {said}")
        return done.stdout

    async def create_database(self, name: str) -> str:
        """Create an empty database and return its DSN."""
        await anyio.to_thread.run_sync(self.run, "createdb", "--", name)
        return self.dsn(name)

    def start(self) -> None:
        """Make a cluster and run it; takes about a second.

        Raises:
            ToolMissing: when there is no PostgreSQL of this version.
            DatabaseError: when the server did not start, with the end of its log.
        """
        programs, user = self.bin_dir, server_user()
        with self._starting("msr-postgres-", user) as folder:
            if user is not None and not open_to_all(programs.parent):
                programs = place_for_all(programs.parent, folder / "install") / "bin"
            self._initialise(programs, folder, user)
            settings = {"listen_addresses": self.host, "unix_socket_directories": "", **self.options}

            def command(port: int) -> Sequence[str]:
                given = [f"--{name}={value}" for name, value in settings.items()]
                return [str(programs / "postgres"), "-D", str(folder / "data"), "-p", str(port), *given]

            self._serve(
                folder, command, user=user, environ=_clean_environment(), hint="Check the options it was given."
            )

    def _initialise(self, programs: Path, folder: Path, user: int | None) -> None:
        where = [str(programs / "initdb"), "-D", str(folder / "data")]
        for locale in ("C.UTF-8", "C"):  # older systems have no C.UTF-8
            done = subprocess.run(
                [*where, *_CLUSTER, f"--locale={locale}"],
                cwd=folder,
                env=_clean_environment(),
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                user=user,
                group=None if user is None else pwd.getpwuid(user).pw_gid,
                extra_groups=None if user is None else [],
            )
            if done.returncode == 0:
                break
        else:
            raise DatabaseError(
                f"initdb failed: {tail(done.stderr)}",
                hint="Check the free space and the rights of the temporary folder.",
            )
        major = (folder / "data" / "PG_VERSION").read_text().strip()
        if major != str(self.version):
            raise DatabaseError(
                f"{self.bin_dir} holds PostgreSQL {major}, not {self.version}.", hint=f"Ask for version {major}."
            )

    def _ready(self, folder: Path, port: int) -> bool:
        # The eighth line is the server's own word for its state; pg_ctl reads it too.
        return read(folder / "data" / "postmaster.pid").split("\n")[7:8] == ["ready   "]


def _clean_environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return kept | {"LC_ALL": "C", "TZ": "UTC"}
