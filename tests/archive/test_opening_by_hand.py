"""A backup opens without msr_async: with Python's zipfile, with unzip and zstd, and by the lines of its own README."""

from __future__ import annotations

import io
import os
import re
import shutil
import stat
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from msr_async.archive import chunk_member, decode_manifest, encode_manifest, readme_text
from tests.archive.samples import PARTS, describe, framed, listed, verify, written

DOCUMENTS = {"pre-data.sql": b"create table orders ();\n", "post-data.sql": b"-- later\n", "catalog.json": b""}
MANIFEST, MEMBERS = describe(PARTS, DOCUMENTS)
ALL = framed(MEMBERS, MANIFEST, readme=readme_text())
DATA = written(ALL)
PAGE = Path(__file__).parents[2] / "docs" / "file-format.md"

programs = pytest.mark.skipif(
    not (shutil.which("unzip") and shutil.which("zstd")), reason="the programs unzip and zstd are not on this machine"
)


def readme_lines() -> list[str]:
    """The shell lines of the README: what is indented and comes after the words about bringing back."""
    by_hand = readme_text().decode().split("by hand", 1)[1]
    return [line[2:] for line in by_hand.splitlines() if line.startswith("  ")]


def run(*command: str | Path, stdin: bytes | None = None) -> bytes:
    return subprocess.run(command, input=stdin, capture_output=True, check=True, timeout=60).stdout


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    path = tmp_path / "BACKUP.msrbak"
    path.write_bytes(DATA)
    return path


def test_zipfile_opens_it_byte_equal() -> None:
    with zipfile.ZipFile(io.BytesIO(DATA)) as opened:
        assert opened.testzip() is None
        assert [(info.filename, opened.read(info)) for info in opened.infolist()] == ALL
        for info in opened.infolist():
            assert info.compress_type == zipfile.ZIP_STORED
            assert info.date_time == (1980, 1, 1, 0, 0, 0)
            assert info.external_attr >> 16 == stat.S_IFREG | 0o600
            assert (info.flag_bits, info.extra, info.comment) == (0, b"", b"")


@programs
def test_unzip_finds_nothing_to_complain_about(backup: Path) -> None:
    assert b"No errors detected" in run("unzip", "-t", backup)
    assert run("unzip", "-Z1", backup).decode().split() == [name for name, _ in ALL]


@programs
def test_unzip_and_zstd_give_the_same_bytes(backup: Path, tmp_path: Path) -> None:
    _, raw = verify(DATA)
    run("unzip", "-q", backup, "-d", tmp_path / "opened")
    for entry in listed(MANIFEST):
        path = tmp_path / "opened" / entry.member
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert run("zstd", "-dc", path) == raw[entry.member]
        assert b"XXH64" in run("zstd", "-lv", path)
    assert decode_manifest(run("zstd", "-dc", tmp_path / "opened" / "manifest.json.zst")) == MANIFEST


@programs
def test_zstd_gives_a_manifest_that_is_read_again(tmp_path: Path) -> None:
    # Somebody may repair a file by hand: zstd's own frames have the size and the checksum when they come from a file.
    path = tmp_path / "manifest.json"
    path.write_bytes(encode_manifest(MANIFEST))
    run("zstd", "-q", "--check", path)
    members = [*ALL[:-1], ("manifest.json.zst", (tmp_path / "manifest.json.zst").read_bytes())]
    assert verify(written(members))[0] == MANIFEST


@pytest.fixture
def shell(backup: Path, tmp_path: Path) -> Callable[[str], tuple[bytes, bytes]]:
    """Runs shell lines beside the backup; gives what they print and what they told psql.

    In the place of psql and a server stands a program that writes down how it was called and what it was given.
    """
    seen = tmp_path / "seen"
    psql = tmp_path / "bin" / "psql"
    psql.parent.mkdir()
    psql.write_text('#!/bin/sh\n{ printf "[psql %s] %s\\n" "$*" $PGCLIENTENCODING; cat; } >> "$SEEN"\n')
    psql.chmod(0o700)
    path = f"{psql.parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "SEEN": str(seen), "TARGET": "postgresql:///x"}

    def run_lines(lines: str) -> tuple[bytes, bytes]:
        command = ["sh", "-ec", lines]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=True, timeout=60)
        assert done.stderr == b""
        return done.stdout, seen.read_bytes() if seen.exists() else b""

    return run_lines


@programs
def test_the_lines_of_the_readme_do_what_they_say(shell: Callable[[str], tuple[bytes, bytes]]) -> None:
    lines = readme_lines()
    assert len(lines) == 5
    printed, told = shell("\n".join(lines))
    assert decode_manifest(printed) == MANIFEST
    assert told == (
        b"[psql -v ON_ERROR_STOP=1 postgresql:///x] UTF8\n"
        + DOCUMENTS["pre-data.sql"]
        + b"[psql postgresql:///x -c \\copy TABLE (COLUMNS) from pstdin] UTF8\n"
        + b"".join(PARTS[0])
        + b"[psql -v ON_ERROR_STOP=1 postgresql:///x] UTF8\n"
        + DOCUMENTS["post-data.sql"]
    )


@programs
@pytest.mark.skipif(shutil.which("jq") is None, reason="the program jq is not on this machine")
def test_the_page_loads_and_checks_every_part(shell: Callable[[str], tuple[bytes, bytes]]) -> None:
    by_hand, load, check, *_ = re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    _, told = shell("\n".join([by_hand.splitlines()[0], load]))
    assert told == (
        b'[psql postgresql:///x -c \\copy "public"."orders 0" ("id", "note") from pstdin] UTF8\n'
        + b"".join(PARTS[0])
        + b'[psql postgresql:///x -c \\copy "public"."orders 2" ("id", "note") from pstdin] UTF8\n'
        + b"".join(PARTS[2])
    )
    assert shell("cd opened\n" + check)[0] == b""
    with pytest.raises(subprocess.CalledProcessError) as caught:
        shell("cd opened\necho >> data/000000/000001.zst\n" + check)
    assert caught.value.stdout == b"data/000000/000001.zst: FAILED\n"


@programs
def test_chunks_in_a_row_are_what_zstd_makes_of_them_one_by_one() -> None:
    payloads = dict(ALL)
    together = b"".join(payloads[chunk_member(0, number)] for number in range(len(PARTS[0])))
    assert run("zstd", "-dc", stdin=together) == b"".join(PARTS[0])


def test_the_page_about_the_format_has_the_same_lines() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for line in readme_lines():
        assert line in page
