"""A Firestore backup opens without msr_async, by the lines of the page about the format."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from msr_async.framing import framed
from tests.firestore.filed import ROOT, document, filed

PAGE = Path(__file__).parents[2] / "docs" / "file-format.md"
DOCUMENTS = {path: document(path, name=path) for path in ("users/a", "users/a/orders/1", "users/z", "zoo/b")}

pytestmark = pytest.mark.skipif(
    not (shutil.which("unzip") and shutil.which("zstd")), reason="the programs unzip and zstd are not on this machine"
)


async def test_the_lines_of_the_page_show_every_document(tmp_path: Path) -> None:
    await filed(tmp_path, DOCUMENTS, cuts=["users/b"])
    section = PAGE.read_text("utf-8").partition("### A Firestore backup\n")[2].partition("\n## ")[0]
    by_protoc, by_python = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    subprocess.run(["unzip", "-q", "shop.msrbak", "-d", "opened"], cwd=tmp_path, check=True)
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "python").symlink_to(sys.executable)
    (programs / "protoc").write_text('#!/bin/sh\n[ "$1" = --decode_raw ] && cat\n')
    (programs / "protoc").chmod(0o700)
    # The interpreter's own prefix would be that of the link's folder.
    environ = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": os.pathsep.join(sys.path)}

    def shell(lines: str) -> bytes:
        command = ["sh", "-ec", lines]
        return subprocess.run(command, cwd=tmp_path / "opened", env=environ, capture_output=True, check=True).stdout

    assert shell(by_protoc) == b"".join(framed(row) for row in DOCUMENTS.values())
    names = [line.split()[0] for line in shell(by_python).decode().splitlines() if line.startswith(ROOT)]
    assert names == [ROOT + path for path in DOCUMENTS]
