"""`backup export | import | inspect` of a Firestore backup: no database is needed."""

from __future__ import annotations

import asyncio
import gzip
import json
from pathlib import Path

import pytest

from tests.cli.command import Command
from tests.firestore.filed import READ_TIME, document, filed

DOCUMENTS = {path: document(path, name=path) for path in ("users/a", "users/a/orders/1", "users/z", "zoo/b")}


@pytest.fixture
def made(cli: Command) -> Path:
    return asyncio.run(filed(cli.folder / "backups", DOCUMENTS, cuts=["users/b"])).path


def test_export_writes_a_file_and_import_makes_a_backup_of_it(cli: Command, made: Path) -> None:
    done = cli("backup", "export", "shop.msrbak", "--output", "shop.jsonl")
    assert (done.code, done.out.startswith("shop.jsonl is written: 4 documents, ")) == (0, True)
    assert (cli.folder / "shop.jsonl").read_bytes().count(b"\n") == 6
    back = cli("backup", "import", "shop.jsonl", "--tag", "why=corrected")
    assert back.code == 0
    path = cli.folder / back.out.strip()
    assert path.parent == cli.folder / "backups"
    assert cli("backup", "verify", path).code == 0
    shown = cli("backup", "inspect", path, "--format", "json").document
    assert shown["tags"] == {"release": "42", "why": "corrected"}
    assert shown["rows"] == 4


def test_export_to_standard_output_gives_the_lines_and_nothing_else(cli: Command, made: Path) -> None:
    done = cli("backup", "export", made, "--output", "-")
    assert done.code == 0
    head, *middle, tail = [json.loads(line) for line in done.out.splitlines()]
    assert [line["name"].partition("/documents/")[2] for line in middle] == list(DOCUMENTS)
    assert (head["format"], tail["rows"]) == ("msr-export", 4)


def test_documents_in_json(cli: Command, made: Path) -> None:
    exported = cli("backup", "export", made, "--output", "shop.jsonl.gz", "--format", "json").document
    assert {key: exported[key] for key in ("path", "rows")} == {"path": "shop.jsonl.gz", "rows": 4}
    assert exported["size"] == (cli.folder / "shop.jsonl.gz").stat().st_size
    assert gzip.decompress((cli.folder / "shop.jsonl.gz").read_bytes()).count(b"\n") == 6
    assert cli("backup", "import", "shop.jsonl.gz", "--format", "json").document["rows"] == 4


def test_import_puts_the_backup_where_it_is_told(cli: Command, made: Path) -> None:
    cli("backup", "export", made, "--output", "shop.jsonl")
    back = cli("backup", "import", "shop.jsonl", "--backups", "elsewhere")
    assert (cli.folder / back.out.strip()).parent == cli.folder / "elsewhere"


def test_a_file_that_is_there_is_overwritten_only_when_asked(cli: Command, made: Path) -> None:
    (cli.folder / "shop.jsonl").write_text("mine")
    refused = cli("backup", "export", made, "--output", "shop.jsonl")
    assert (refused.code, (cli.folder / "shop.jsonl").read_text()) == (1, "mine")
    assert "is there already" in refused.err
    assert cli("backup", "export", made, "--output", "shop.jsonl", "--overwrite").code == 0


def test_a_wrong_line_is_named(cli: Command, made: Path) -> None:
    cli("backup", "export", made, "--output", "shop.jsonl")
    path = cli.folder / "shop.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], lines[2][:-1], *lines[3:]]))
    done = cli("backup", "import", "shop.jsonl")
    assert (done.code, done.out) == (10, "")
    assert done.err.splitlines()[-2].startswith("error: shop.jsonl: Line 3: it is not JSON")
    assert len(list(made.parent.iterdir())) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("export", "shop.msrbak"), 2, "--output"),
        (("export", "--output", "x"), 2, "PATH"),
        (("export", "gone.msrbak", "--output", "x"), 1, "There is no backup"),
        (("import",), 2, "FILE"),
        (("import", "gone.jsonl"), 5, "There is no file gone.jsonl"),
        (("import", "backups/shop.msrbak"), 10, "is not an export of msr_async"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_cannot_be_done_is_one_sentence(
    cli: Command, made: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    done = cli("backup", *arguments)
    assert (done.code, done.out) == (code, "")
    assert words in done.err
    assert "Traceback" not in done.err


def test_inspect_shows_the_collections_and_the_read_time(cli: Command, made: Path) -> None:
    done = cli("backup", "inspect", made)
    assert done.code == 0
    assert f"read at  {READ_TIME}" in done.out
    rows = [line.split() for line in done.out.splitlines()]
    assert ["users", "2"] in rows
    assert ["orders", "1"] in rows
    assert "4 documents" in done.out
    shown = cli("backup", "inspect", made, "--format", "json").document
    assert shown["snapshot"] == READ_TIME
    assert shown["collections"] == {"orders": 1, "users": 2, "zoo": 1}
