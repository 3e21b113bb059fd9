"""Python files and shell lines run as a user runs them: processes with `msr-async` on their PATH."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src"
DEADLINE = 100


def script_environment(shims: Path, **more: str) -> dict[str, str]:
    """Our environment without settings of the library; `shims` gets `msr-async` and `python`, of this interpreter."""
    shims.mkdir(exist_ok=True)
    for name, arguments in (("msr-async", "-m msr_async"), ("python", "")):
        shim = shims / name
        shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
        shim.chmod(0o755)
    settings = ("MSR_ENV", "MSR_DATABASE", "MSR_MIGRATIONS", "MSR_BACKUPS", "MSR_PG_DUMP", "PG", "DATABASE_URL")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(settings)}
    path = {"PATH": f"{shims}{os.pathsep}{kept.get('PATH', '')}"}
    installed = kept.get("PYTHONPATH", "")
    return kept | path | {"PYTHONPATH": installed, "PYTHONIOENCODING": "utf-8"} | more


def run(command: list[str], folder: Path, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """To its end, with both outputs apart."""
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
