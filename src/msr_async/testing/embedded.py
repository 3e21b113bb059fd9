"""A real PostgreSQL server for as long as a block lasts: for tests, the demo and benchmarks, never for data to keep."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import anyio
import anyio.to_thread

from ..errors import DatabaseError
from . import keeper
from .programs import checked, find_postgres, found, open_to_all, place_for_all, reachable

__all__ = ["EmbeddedPostgres", "find_postgres"]

HOST = "127.0.0.1"
START_DEADLINE = 60.0
STOP_DEADLINE = 30.0
"""Seconds; a little more than the keeper needs for its three ways of stopping a server."""

_CLUSTER = ("-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-sync", "--no-instructions")
_ATTEMPTS = 5


class EmbeddedPostgres:
    """A server in a temporary folder, on a free loopback port, for the superuser `postgres` without a password.

    It ends with the block, or with this process in whatever way this dies, and its folder with it. As root it runs as
    `nobody`, because PostgreSQL refuses root. `options` are server settings (`{"fsync": "off"}`).
    """

    host = HOST

    def __init__(
        self,
        version: int = 18,
        *,
        bin_dir: str | os.PathLike[str] | None = None,
        options: Mapping[str, str | int] | None = None,
    ) -> None:
        self.version = version
        self.options = dict(options or {})
        self._given = None if bin_dir is None else Path(bin_dir)
        self._lock = threading.Lock()
        self._folder: Path | None = None
        self._keeper: subprocess.Popen[bytes] | None = None
        self._port = 0
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

    @property
    def port(self) -> int:
        if not self._keeper:
            raise DatabaseError("The embedded PostgreSQL is not running.", hint="Use it inside its `async with` block.")
        return self._port

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

    async def __aenter__(self) -> EmbeddedPostgres:
        try:
            await anyio.to_thread.run_sync(self.start)
        except BaseException:
            # A cancelled start goes on in its thread; `stop` waits for it there.
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        with anyio.move_on_after(STOP_DEADLINE + START_DEADLINE, shield=True):
            await anyio.to_thread.run_sync(self.stop)

    # -- the blocking work --------------------------------------------------------------------------

    def start(self) -> None:
        """Make a cluster and run it; takes about a second.

        Raises:
            ToolMissing: when there is no PostgreSQL of this version.
            DatabaseError: when the server did not start, with the end of its log.
        """
        with self._lock:
            if self._keeper:
                raise DatabaseError("The embedded PostgreSQL is already running.", hint="Use one object a server.")
            programs, user = self.bin_dir, _server_user()
            self._folder = _new_folder(user)
            try:
                if user is not None and not open_to_all(programs.parent):
                    programs = place_for_all(programs.parent, self._folder / "install") / "bin"
                self._initialise(programs, self._folder, user)
                self._launch(programs, self._folder, user)
            except BaseException:
                self._stop()
                raise

    def stop(self) -> None:
        """Stop the server and remove its folder; does nothing when it does not run."""
        with self._lock:
            self._stop()

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
                f"initdb failed: {_tail(done.stderr)}",
                hint="Check the free space and the rights of the temporary folder.",
            )
        major = (folder / "data" / "PG_VERSION").read_text().strip()
        if major != str(self.version):
            raise DatabaseError(
                f"{self.bin_dir} holds PostgreSQL {major}, not {self.version}.", hint=f"Ask for version {major}."
            )

    def _launch(self, programs: Path, folder: Path, user: int | None) -> None:
        settings = {"listen_addresses": self.host, "unix_socket_directories": "", **self.options}
        for _ in range(_ATTEMPTS):  # between our look and the server's own, somebody may take the port
            port = _free_port()
            command = [str(programs / "postgres"), "-D", str(folder / "data"), "-p", str(port)]
            command += [f"--{name}={value}" for name, value in settings.items()]
            self._keeper = subprocess.Popen(
                # Isolated and without site: nothing of the user's environment runs in it, and it starts in 30 ms.
                [sys.executable, "-I", "-S", keeper.__file__, str(folder), "" if user is None else str(user), *command],
                stdin=subprocess.PIPE,
                env=_clean_environment(),
                start_new_session=True,  # Ctrl-C is for the program, which then stops the server in order
            )
            if self._ready(self._keeper, folder / "data" / "postmaster.pid"):
                self._port = port
                return
            self._dismiss()
        raise DatabaseError(
            f"PostgreSQL {self.version} did not start. The end of its log:\n{_tail(_read(folder / 'log'))}",
            hint="Check the options it was given.",
        )

    @staticmethod
    def _ready(process: subprocess.Popen[bytes], pid_file: Path) -> bool:
        deadline = time.monotonic() + START_DEADLINE
        while time.monotonic() < deadline:
            # The eighth line is the server's own word for its state; pg_ctl reads it too.
            if _read(pid_file).split("\n")[7:8] == ["ready   "]:
                return True
            if process.poll() is not None:
                return False
            time.sleep(0.02)
        return False

    def _dismiss(self) -> None:
        if self._keeper and self._keeper.stdin:
            self._keeper.stdin.close()
            try:
                self._keeper.wait(STOP_DEADLINE)
            except subprocess.TimeoutExpired:
                self._keeper.kill()  # its server dies with it
                self._keeper.wait()
        self._keeper = None

    def _stop(self) -> None:
        self._dismiss()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._folder = None


def _server_user() -> int | None:
    return pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None


def _clean_environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return kept | {"LC_ALL": "C", "TZ": "UTC"}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _new_folder(user: int | None) -> Path:
    places = [Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")]
    place = places[0] if user is None else next((item for item in places if reachable(item)), places[0])
    folder = Path(tempfile.mkdtemp(prefix="msr-postgres-", dir=place))
    if user is not None:
        os.chown(folder, user, -1)
    return folder


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except FileNotFoundError:
        return ""


def _tail(text: str, lines: int = 12) -> str:
    return "\n".join(text.strip().splitlines()[-lines:])
