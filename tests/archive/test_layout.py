"""Names of members, and which formats are read."""

from __future__ import annotations

import json

import pytest

from msr_async.archive import (
    check_format,
    check_member_name,
    chunk_member,
    document_member,
    format_json,
    readme_text,
)
from msr_async.archive.layout import check_safe_name
from msr_async.errors import BackupDamaged, BackupFailed, BackupTooNew, NotABackup

HOSTILE = [
    "",
    "/etc/passwd",
    "../up.zst",
    "data/../../up.zst",
    "data/..",
    "data/./000000.zst",
    "data//000000.zst",
    "data/",
    "data\\000000.zst",
    "data/000000\0.zst",
    "data/000000.zst\n",
    "C:/x",
    ".hidden",
    "schema/.hidden.zst",
    "schema/a..b.zst",
    "-rf",
    "schema/-rf.zst",
    "schema/ä.zst",
    "schema/" + "a" * 300 + ".zst",
    "schema/a b.zst",
    "schema/$(id).zst",
]


def altered(**changes: object) -> bytes:
    return json.dumps(json.loads(format_json()) | changes).encode()


def test_chunks_are_named_by_six_digits() -> None:
    assert chunk_member(0, 0) == "data/000000/000000.zst"
    assert chunk_member(999_999, 12) == "data/999999/000012.zst"


@pytest.mark.parametrize(("part", "chunk"), [(1_000_000, 0), (0, 1_000_000), (-1, 0), (0, -1)])
def test_a_number_of_more_than_six_digits_is_refused(part: int, chunk: int) -> None:
    with pytest.raises(BackupFailed, match="at most 1,000,000"):
        chunk_member(part, chunk)


def test_documents_are_under_schema() -> None:
    assert document_member("pre-data.sql") == "schema/pre-data.sql.zst"


@pytest.mark.parametrize("name", ["", "..", "a/b", "Upper.sql", "a b", "ä", "x" * 250, "a\n", ".x", "x."])
def test_a_document_without_a_plain_name_is_refused(name: str) -> None:
    with pytest.raises(BackupFailed, match="cannot hold a document called"):
        document_member(name)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_refused(name: str) -> None:
    with pytest.raises(BackupDamaged, match="not allowed"):
        check_safe_name(name)
    with pytest.raises(BackupDamaged, match="not allowed"):
        check_member_name(name)


@pytest.mark.parametrize("name", ["keys/data.key.age", "data/000000/000000.zst.age", "manifest.sig"])
def test_a_name_of_a_later_version_is_safe_but_not_ours_yet(name: str) -> None:
    check_safe_name(name)
    with pytest.raises(BackupDamaged, match="does not belong"):
        check_member_name(name)


@pytest.mark.parametrize(
    "name", ["data/0/0.zst", "data/0000000/000000.zst", "data/000000/000000", "schema/Upper.zst", "manifest.json", "x"]
)
def test_another_name_does_not_belong_in_a_backup(name: str) -> None:
    with pytest.raises(BackupDamaged, match="does not belong"):
        check_member_name(name)


@pytest.mark.parametrize(
    "name", ["README.txt", "format.json", "manifest.json.zst", chunk_member(7, 8), document_member("pre-data.sql")]
)
def test_the_names_of_this_version_belong(name: str) -> None:
    check_member_name(name)


def test_what_we_write_is_read() -> None:
    check_format(format_json())


def test_the_readme_is_plain_ascii_that_fits_a_terminal() -> None:
    lines = readme_text().decode("ascii").splitlines()
    assert max(map(len, lines)) <= 120
    assert b"\r" not in readme_text()


@pytest.mark.parametrize("change", [{"minor": 7}, {"later": {"x": [1]}}, {"reader": 5}], ids=str)
def test_a_higher_minor_and_unknown_keys_are_read(change: dict[str, object]) -> None:
    check_format(altered(**change))


def test_a_higher_major_is_refused_with_the_version_to_install() -> None:
    with pytest.raises(BackupTooNew, match=r"has format 2; .* pip install 'msr_async>=3\.1'") as caught:
        check_format(altered(major=2, reader="msr_async>=3.1", compression={"new": 1}, features="new"))
    assert "Install msr_async 3.1 or newer" in caught.value.hint


@pytest.mark.parametrize(
    "change", [{"features": ["holograms"]}, {"encryption": "age"}, {"compression": "brotli"}, {"features": [7]}]
)
def test_an_unknown_feature_is_refused_by_its_name(change: dict[str, object]) -> None:
    with pytest.raises(BackupTooNew, match=r"'(holograms|age|brotli|7)', which this msr_async does not know"):
        check_format(altered(**change))


@pytest.mark.parametrize(
    "reader", ["evil>=1; rm -rf /", "msr_async>=1' && x", None, ["msr_async>=2"], "msr_async>=1\n"]
)
def test_advice_in_a_file_is_not_repeated_unless_it_is_a_version(reader: object) -> None:
    with pytest.raises(BackupTooNew, match=r"Install a newer msr_async: pip install --upgrade msr_async\.$"):
        check_format(altered(major=2, reader=reader))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"{}",
        altered(format="zip"),
        altered(major="1"),
        altered(major=True),
        altered(major=0),
        altered(major=None),
        altered(features=None),
    ],
    ids=lambda data: data[:24].decode("latin-1"),
)
def test_anything_else_is_not_a_backup(data: bytes) -> None:
    with pytest.raises(NotABackup):
        check_format(data)
