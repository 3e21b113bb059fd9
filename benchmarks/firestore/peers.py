"""Tools of npm, installed for one run into its temporary folder where there is node, npm and a registry."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from .contestants import Action, Contestant, Where

_Command: TypeAlias = Callable[[Action, Where], Sequence[str]]
_PACKAGES = ("node-firestore-import-export@1.1.0", "firestore-backfire@2.6.0", "@google-cloud/firestore@6.8.0")
_INSTALL_DEADLINE = 300.0
_DEADLINE = 180.0
_KEY = "console.log(require('crypto').generateKeyPairSync('rsa', {modulusLength: 2048}).privateKey.export(\
{type: 'pkcs8', format: 'pem'}))"
_TUNED_EXPORT = ("--exploreInterval", "1", "--exploreChunkSize", "500", "--downloadInterval", "100")
_TUNED_IMPORT = ("--processInterval", "1", "--processLimit", "5000")


class PeersMissing(Exception):
    """There are no tools to run beside ours; the message says why."""


def peers(folder: Path, installed: Path | None = None) -> list[Contestant]:
    """The tools as contestants.

    Args:
        folder: for what they need of files.
        installed: a `node_modules` that has them; None installs them.

    Raises:
        PeersMissing: without node, without npm, or when npm could not install them.
    """
    node = shutil.which("node")
    if node is None:
        raise PeersMissing("there is no node on the PATH")
    return _Tools(
        node=node, modules=_checked(installed) if installed else _install(folder), folder=folder
    ).contestants()


@dataclass(frozen=True, kw_only=True)
class _Tools:
    node: str
    modules: Path
    folder: Path

    def contestants(self) -> list[Contestant]:
        return [
            self._contestant("node-firestore-import-export", self._import_export, "import-export.json"),
            self._contestant("firestore-backfire", self._backfire, "backfire.ndjson"),
            self._contestant("firestore-backfire, tuned", self._tuned, "backfire-tuned.ndjson"),
        ]

    def _contestant(self, name: str, command: _Command, file: str) -> Contestant:
        package = name.partition(",")[0]
        version = json.loads((self.modules / package / "package.json").read_text())["version"]
        return Contestant(
            name=name,
            program=f"{package} {version}",
            command=command,
            file=file,
            deadline=_DEADLINE,
            may_fail=True,
        )

    def _import_export(self, action: Action, where: Where) -> Sequence[str]:
        program = "firestore-export.js" if action == "backup" else "firestore-import.js"
        script = self.modules / "node-firestore-import-export" / "dist" / "bin" / program
        files = ["--accountCredentials", str(self._account(where.project)), "--backupFile", str(where.file)]
        return [self.node, str(script), *files, *(["--yes"] if action == "restore" else [])]

    def _backfire(self, action: Action, where: Where) -> Sequence[str]:
        script = self.modules / "firestore-backfire" / "dist" / "cjs" / "backfire.js"
        words = ["export", str(where.file), "--overwrite"] if action == "backup" else ["import", str(where.file)]
        return [self.node, str(script), *words, "--project", where.project, "--emulator", where.address]

    def _tuned(self, action: Action, where: Where) -> Sequence[str]:
        return [*self._backfire(action, where), *(_TUNED_EXPORT if action == "backup" else _TUNED_IMPORT)]

    def _account(self, project: str) -> Path:
        """A made-up service account: the tool takes the project's name from it, the emulator asks for none."""
        file = self.folder / f"{project}.json"
        if not file.exists():
            key = subprocess.run([self.node, "-e", _KEY], capture_output=True, text=True, check=True).stdout
            mail = f"nobody@{project}.example"
            account = {"type": "service_account", "project_id": project, "client_email": mail, "private_key": key}
            file.write_text(json.dumps(account))
        return file


def _checked(modules: Path) -> Path:
    for package in _PACKAGES:
        if not (modules / package.rpartition("@")[0]).is_dir():
            raise PeersMissing(f"{modules} holds no {package}")
    return modules


def _install(folder: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise PeersMissing("there is no npm on the PATH")
    command = [npm, "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--loglevel=error", *_PACKAGES]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_DEADLINE)
    except subprocess.TimeoutExpired:
        raise PeersMissing(f"npm was not done after {_INSTALL_DEADLINE:g} s") from None
    if done.returncode:
        raise PeersMissing(f"npm could not install them: {done.stderr.strip()[-300:]}")
    return _checked(folder / "node_modules")
