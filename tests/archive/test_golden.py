"""Files of every released format are read for ever."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from msr_async.models import Column
from tests.archive.samples import index_of, verify

GOLDEN = Path(__file__).parents[1] / "golden"
FORMAT_1_0 = (GOLDEN / "format-1.0.msrbak").read_bytes()


def test_the_golden_file_of_1_0_was_not_touched() -> None:
    assert sha256(FORMAT_1_0).hexdigest() == "bc0b58f2fb52c2ee2c230d234731e28095a04c798041d6aeb70eb8b0bd45e8f3"


def test_the_golden_file_of_1_0_is_read_whole() -> None:
    manifest, raw = verify(FORMAT_1_0)
    assert manifest.id == "601de401"
    assert manifest.created == datetime(2026, 1, 2, 3, 4, 6, tzinfo=UTC)
    assert manifest.tool == "msr_async 0.1.0"
    assert manifest.source.label == "golden@localhost"
    assert manifest.source.environment == "development"
    assert manifest.snapshot == "00000003-0000001B-1"
    assert [str(line) for line in manifest.history] == ["V202601020001_create_orders"]
    assert manifest.history[0].applied_at == datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    assert manifest.fingerprint == "fedcba9876543210" * 4
    assert manifest.complete
    assert manifest.notes == ("Made by hand, for the tests.",)
    assert manifest.tags == {"release": "golden"}
    assert [entry.part.name for entry in manifest.parts] == ["public.Ördern", "public.empty"]
    assert manifest.parts[0].columns == (Column(name="id", type="integer"), Column(name="note", type="text"))
    assert (manifest.totals.parts, manifest.totals.rows, manifest.totals.raw_bytes) == (2, 3, 58)
    assert raw == {
        "schema/pre-data.sql.zst": 'CREATE TABLE public."Ördern" (id integer NOT NULL, note text);\n'.encode()
        + b"CREATE TABLE public.empty ();\n",
        "schema/post-data.sql.zst": 'ALTER TABLE ONLY public."Ördern" ADD PRIMARY KEY (id);\n'.encode(),
        "data/000000/000000.zst": b"1\tplain\n2\t\\N\n",
        "data/000000/000001.zst": "3\ttab \\t, newline \\n, backslash \\\\, snow ☃\n".encode(),
    }


def test_the_golden_file_of_1_0_lies_as_the_format_says() -> None:
    index = index_of(FORMAT_1_0)
    assert [(member.name, member.offset) for member in index.members.values()] == [
        ("README.txt", 0),
        ("format.json", 1174),
        ("schema/pre-data.sql.zst", 1338),
        ("schema/post-data.sql.zst", 1486),
        ("data/000000/000000.zst", 1609),
        ("data/000000/000001.zst", 1687),
        ("manifest.json.zst", 1797),
    ]
