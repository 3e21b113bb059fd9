"""Google's own Firestore emulator for as long as a block lasts: for tests and trying things, not for data to keep."""

from __future__ import annotations

import os
import re
import shutil
import socket
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import DatabaseError, ToolMissing
from .serving import HOST, KeptServer, read

__all__ = ["FirestoreEmulator", "find_emulator", "find_java"]

_CLASS = "com.google.cloud.datastore.emulator.firestore.CloudFirestore"
_IN_SDK = Path("platform/cloud-firestore-emulator")
_SDKS = (
    "/usr/lib/google-cloud-sdk",
    "/usr/share/google-cloud-sdk",
    "/opt/google-cloud-sdk",
    "/snap/google-cloud-cli/current",
    "/usr/local/share/google-cloud-sdk",
    "/opt/homebrew/share/google-cloud-sdk",
    "~/google-cloud-sdk",
)
_QUICKLY_STARTED = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
_ENDS_BY_SIGNALS = "-Xrs"  # otherwise Java answers the SIGQUIT that it gets when its keeper dies with a list of threads
_RUNNING = "is now running"
"""What it says then. An answer at the port alone may be of somebody else, who has taken it meanwhile."""


def find_emulator(environ: Mapping[str, str] = os.environ) -> Path | None:
    """The emulator's jar, or None.

    Looked up in this order: the variable `MSR_FIRESTORE_EMULATOR_JAR`, the Google Cloud SDK of `gcloud` on PATH, the
    places where packages put that SDK.

    Raises:
        ToolMissing: when the variable names no file.
    """
    if named := environ.get("MSR_FIRESTORE_EMULATOR_JAR"):
        if not Path(named).is_file():
            raise ToolMissing(
                f"MSR_FIRESTORE_EMULATOR_JAR names {named}, which is not there.",
                hint="Name the file cloud-firestore-emulator.jar, or unset the variable.",
            )
        return Path(named)
    places = [Path(place).expanduser() for place in _SDKS]
    if gcloud := shutil.which("gcloud", path=environ.get("PATH")):
        places.insert(0, Path(gcloud).resolve().parent.parent)
    for place in places:
        if jars := sorted((place / _IN_SDK).glob("*.jar")):
            return jars[-1]
    return None


def find_java(environ: Mapping[str, str] = os.environ) -> Path | None:
    """The program that runs it: `MSR_JAVA`, that of `JAVA_HOME`, or the one on PATH; or None.

    Raises:
        ToolMissing: when `MSR_JAVA` names no program.
    """
    if named := environ.get("MSR_JAVA"):
        if not os.access(named, os.X_OK) or Path(named).is_dir():
            raise ToolMissing(
                f"MSR_JAVA names {named}, which is no program.", hint="Name the program java, or unset the variable."
            )
        return Path(named)
    home = Path(environ.get("JAVA_HOME", "")) / "bin" / "java"
    if environ.get("JAVA_HOME") and os.access(home, os.X_OK):
        return home
    found = shutil.which("java", path=environ.get("PATH"))
    return Path(found) if found else None


class FirestoreEmulator(KeptServer):
    """An emulator on a loopback port; it ends with the block, or with this process in whatever way this dies.

    Its data are in its memory only. Every project id is a database of its own, so tests can share one emulator.

    Args:
        jar: found by `find_emulator` when left out.
        heap: the most memory that it takes for data, as Java writes it.
        options: more options for Java; those that are there make it start early, and are slower in the long run.
    """

    def __init__(
        self,
        *,
        jar: str | os.PathLike[str] | None = None,
        heap: str = "1g",
        options: Sequence[str] = _QUICKLY_STARTED,
    ) -> None:
        if not re.fullmatch(r"\d+[kmgKMG]", heap):
            raise ToolMissing(f"heap is {heap!r}.", hint="Write it as Java does, such as 512m or 2g.")
        super().__init__("The Firestore emulator")
        self.heap = heap
        self._options = tuple(options)
        self._jar = None if jar is None else Path(jar)

    def __repr__(self) -> str:
        return f"<FirestoreEmulator, {self.address if self._keeper else 'not running'}>"

    @property
    def address(self) -> str:
        """`host:port`, as `FirestoreHandler(emulator=...)` and FIRESTORE_EMULATOR_HOST take it."""
        return f"{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        """Of the Java process."""
        if not self._folder:
            raise self._not_running()
        return int((self._folder / "pid").read_text())

    def start(self, *, port: int | None = None) -> None:
        """Start it, empty; takes some seconds.

        Args:
            port: the same one as before, for instance; a free one when left out.

        Raises:
            ToolMissing: there is no emulator or no Java.
            DatabaseError: it did not start, with the end of what it said.
        """
        java, jar = _programs(self._jar)
        with self._starting("msr-firestore-") as folder:
            if port and not _is_free(port):
                raise DatabaseError(
                    f"The port {port} of {HOST} is taken.", hint="Leave the port out, or stop what listens there."
                )
            options = [f"-Xmx{self.heap}", _ENDS_BY_SIGNALS, *self._options, "-Duser.language=en"]

            def command(port: int) -> Sequence[str]:
                emulator = [str(java), *options, "-cp", str(jar), _CLASS, "--host", HOST, "--port", str(port)]
                # The shell notes its own process id, and then becomes the emulator.
                return ["/bin/sh", "-c", 'echo $$ > pid; exec "$@"', "sh", *emulator]

            self._serve(folder, command, port=port, hint="It needs Java 17 or newer, and a free port.")

    def kill(self) -> int:
        """End it at once, as a crash would; its port, to start it again at."""
        with self._lock:
            port = self._port
            os.kill(self.pid, 9)
            self._stop()
        return port

    def _ready(self, folder: Path, port: int) -> bool:
        return _RUNNING in read(folder / "log") and _answers(port)


def _programs(jar: Path | None) -> tuple[Path, Path]:
    if jar is not None and not jar.is_file():
        raise ToolMissing(f"There is no file {jar}.", hint="Name the file cloud-firestore-emulator.jar.")
    found = jar or find_emulator()
    if found is None:
        raise ToolMissing(
            "There is no Firestore emulator on this machine.",
            hint="Install it (gcloud components install cloud-firestore-emulator), or set MSR_FIRESTORE_EMULATOR_JAR.",
        )
    java = find_java()
    if java is None:
        raise ToolMissing(
            "The Firestore emulator needs Java, and there is none.", hint="Install Java 17 or newer, or set MSR_JAVA."
        )
    return java, found


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}/", timeout=2) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that just ended do not count
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True
