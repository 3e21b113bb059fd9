"""What does squawk say, the linter of PostgreSQL migrations, where it is installed?

It is a program of its own (https://squawkhq.com, `squawk-cli` on PyPI) and knows rules of taste as well. It is run once
for the scripts that run in a transaction and once for the others; a `.squawk.toml` and its comments count as they do by
hand. What it takes to run a program is imported when there is one.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from ..models import Issue, Script

_DEADLINE = 20.0
# What msr_async sees to itself: timeouts, transactions, and what a run that was killed must be able to repeat. Left out
# here and not by --exclude, which would replace the user's own list, and fails on a rule that another version has not.
_OURS = {
    *("require-timeout-settings", "require-lock-timeout", "require-statement-timeout", "transaction-nesting"),
    *("prefer-robust-stmts", "ban-uncommitted-transaction", "ban-concurrent-index-creation-in-transaction"),
}


class Findings(Struct, frozen=True, kw_only=True):
    by_script: Mapping[int, tuple[Issue, ...]] = field(default_factory=dict)
    """By the script's place in the sequence that was asked about."""
    failure: str = ""
    """Why there are none, where it was installed and did not work."""


def program(environ: Mapping[str, str]) -> Path | None:
    """Where squawk is: MSR_SQUAWK (`off` for nowhere), else PATH, else where this interpreter's programs are."""
    named = environ.get("MSR_SQUAWK", "")
    if named:
        return None if named.lower() == "off" else Path(named)
    import sysconfig
    from shutil import which

    found = which("squawk", path=environ.get("PATH")) or which("squawk", path=sysconfig.get_path("scripts"))
    return Path(found) if found else None


async def squawk(
    scripts: Sequence[Script],
    *,
    server_major: int,
    environ: Mapping[str, str] | None = None,
    deadline: float = _DEADLINE,
) -> Findings:
    """What it finds, as warnings with the code `squawk:<rule>`. Nothing where it is not installed.

    Args:
        deadline: seconds, for all of it.
    """
    path = program(os.environ if environ is None else environ) if scripts else None
    if path is None:
        return Findings()
    import glob
    import shutil

    import anyio
    import anyio.to_thread

    folder = await anyio.to_thread.run_sync(_write, scripts)
    try:
        found: dict[int, tuple[Issue, ...]] = {}
        with anyio.fail_after(deadline):
            for kind in sorted({_kind(script) for script in scripts}):
                command = [str(path), "--reporter=json", f"--pg-version={server_major}.0"]
                command += ["--assume-in-transaction"] if kind == "in" else []
                # one pattern for all, for there may be more files than a command line holds
                done = await anyio.run_process(
                    [*command, f"{glob.escape(str(folder))}/{kind}/*/*.sql"], stdin=subprocess.DEVNULL, check=False
                )
                if done.returncode not in (0, 1):
                    return _failed(path, done.stderr.decode(errors="replace").strip() or f"exit code {done.returncode}")
                found |= _issues(json.loads(done.stdout), scripts)
        return Findings(by_script=found)
    except TimeoutError:
        return _failed(path, f"it was not done after {deadline:g} s")
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        return _failed(path, f"{type(error).__name__}: {error}")
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(lambda: shutil.rmtree(folder, ignore_errors=True))


def _kind(script: Script) -> str:
    return "in" if script.directives.transaction else "out"


def _write(scripts: Sequence[Script]) -> Path:
    """The very texts that would run, each under its own name, for `excluded_paths` of a `.squawk.toml`."""
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="msr_async-squawk-"))
    for index, script in enumerate(scripts):
        name = re.sub(r"[^\w.-]", "_", script.path.stem)
        file = folder / _kind(script) / str(index) / f"{name}.sql"
        file.parent.mkdir(parents=True)
        file.write_text(script.text, "utf-8", newline="")
    return folder


def _issues(findings: Any, scripts: Sequence[Script]) -> dict[int, tuple[Issue, ...]]:
    found: dict[int, list[Issue]] = {}
    for finding in findings:
        rule = finding["rule_name"]
        if rule in _OURS:
            continue
        index = int(Path(finding["file"]).parent.name)
        words = " ".join(f"{finding['message']} {finding.get('help') or ''}".split())
        line = finding["line"] + 1  # it counts from 0
        found.setdefault(index, []).append(
            Issue(code=f"squawk:{rule}", severity="warning", message=words, path=scripts[index].path, line=line)
        )
    return {index: tuple(issues) for index, issues in found.items()}


def _failed(path: Path, why: str) -> Findings:
    first = why.splitlines()[0].rstrip(".")
    return Findings(
        failure=f"squawk ({path}) could not look at the scripts: {first}. "
        "Repair it, point MSR_SQUAWK at another, or set MSR_SQUAWK=off."
    )
