"""Python files and shell lines run as a user runs them: processes with `msr-async` and `python` on their PATH."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.cli.command import environment

DEADLINE = 100


def script_environment(shims: Path, **more: str) -> dict[str, str]:
    """Our environment without settings of the library; the programs in `shims` run this very interpreter."""
    shims.mkdir(exist_ok=True)
    for name, arguments in (("msr-async", " -m msr_async"), ("python", "")):
        shim = shims / name
        shim.write_text(f'#!/bin/sh\nexec "{sys.executable}"{arguments} "$@"\n')
        shim.chmod(0o755)
    ours = environment()
    return ours | {"PATH": f"{shims}{os.pathsep}{ours.get('PATH', '')}"} | more


def run(command: list[str], folder: Path, environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """To its end, with both outputs apart."""
    return subprocess.run(
        command,
        cwd=folder,
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
