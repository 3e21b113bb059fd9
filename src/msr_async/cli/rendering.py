"""What all results share on a terminal, and the backups. A table is never cut: where it is too wide, cells fold."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..models import BackupInfo, ExportInfo, Manifest, PartEntry, RestoreInfo, VerifyInfo
from ..observers.wording import became, count, printable, rate, row_count, seconds, size

_PIPE_WIDTH = 1000


def console(stream: TextIO | None = None) -> Console:
    """A console on standard output. A pipe gets lines as long as they are: nobody reads a pipe in 80 columns."""
    file = sys.stdout if stream is None else stream
    width = None if file.isatty() else _PIPE_WIDTH
    return Console(file=file, width=width, highlight=False, markup=False, emoji=False, soft_wrap=False)


def show_backups(out: Console, backups: Sequence[BackupInfo], folder: str) -> None:
    if not backups:
        line(out, f"No backups in {folder}.")
        return
    grid = table("file", "created (UTC)", "size", "rows", "data", "holds", "tags")
    for item in backups:
        tags = ", ".join(f"{key}={value}" for key, value in item.tags.items())
        created = f"{item.created:%Y-%m-%d %H:%M:%S}"
        holds = "everything" if item.complete else "data only"
        row(grid, item.path.name, created, size(item.size), f"{item.rows:,}", size(item.raw_bytes), holds, tags)
    out.print(grid)


def show_restore(out: Console, restore: RestoreInfo, database: str) -> None:
    amount = f"{row_count(restore.rows, restore.kind)}, {size(restore.raw_bytes)} in {seconds(restore.duration)}"
    done = f" ({became(restore)})" if restore.kind == "firestore" else ""
    what = {
        "replace": f"{database} holds what {restore.path} held",
        "overwrite": f"{restore.path} was written over what {database} held, and the rest of it stays",
        "merge": f"the fields in {restore.path} were written into {database}, and all others stay",
        "create": f"{database} was given what it did not have of {restore.path}",
    }[restore.mode]
    line(out, f"{what}: {amount}{done}.", style="green")
    for warning in restore.warnings:
        line(out, f"warning: {warning}", style="yellow")


def show_export(out: Console, export: ExportInfo) -> None:
    amount = f"{count(export.rows, 'document')}, {size(export.size)} in {seconds(export.duration)}"
    line(out, f"{export.path} is written: {amount}.", style="green")


def show_verify(out: Console, verified: VerifyInfo) -> None:
    looked = {
        "quick": "the list of its content and every member's size agree",
        "full": "every byte was read, every hash and row count agrees",
    }[verified.level]
    amount = f"{count(verified.members, 'member')}, {count(verified.rows, 'row')}, {size(verified.size)}"
    pace = f"{seconds(verified.duration)}, {rate(verified.size, verified.duration)}"
    line(out, f"{verified.path} is good: {looked} ({amount}; {pace}).", style="green")


def show_manifest(
    out: Console, manifest: Manifest, *, path: str, file_size: int, collections: Mapping[str, int]
) -> None:
    source = manifest.source
    newest = f", newest {manifest.history[-1]}" if manifest.history else ""
    environment = f", {source.environment}" if source.environment else ""
    server = f"{source.kind} {source.server_version}".rstrip()
    facts = [
        ("file", f"{path}  ({size(file_size)})"),
        ("id", manifest.id),
        ("created", f"{manifest.created:%Y-%m-%d %H:%M:%S} UTC by {manifest.tool}"),
        ("source", f"{source.label} ({server}{environment})"),
        *_point_in_time(manifest),
        ("holds", _HOLDS[source.kind == "firestore", manifest.complete]),
        (
            "amount",
            f"{row_count(manifest.totals.rows, source.kind)}, {size(manifest.totals.raw_bytes)} before compression",
        ),
        ("history", count(len(manifest.history), "migration") + newest),
        *(("tag", f"{key}={value}") for key, value in manifest.tags.items()),
        *(("note", note) for note in manifest.notes),
    ]
    for name, fact in facts:
        line(out, f"{name:<8} {fact}")
    if source.kind == "firestore":
        _show_collections(out, collections)
        return
    grid = table("part", "kind", "rows", "data", "stored")
    for name, kind, entries in _by_name(manifest.parts):
        rows, raw = sum(entry.rows for entry in entries), sum(entry.raw_bytes for entry in entries)
        stored = sum(chunk.size for entry in entries for chunk in entry.chunks)
        label = f"{name} ({len(entries)} slices)" if len(entries) > 1 else name
        row(grid, label, kind, f"{rows:,}", size(raw), size(stored))
    if manifest.parts:
        out.print(grid)


_HOLDS = {
    (False, True): "data and schema",
    (False, False): "data only: it cannot undo a migration",
    (True, True): "every document",
    (True, False): "some of the documents, or changed ones: it cannot undo a migration",
}


def _point_in_time(manifest: Manifest) -> list[tuple[str, str]]:
    return [("read at", manifest.snapshot)] if manifest.source.kind == "firestore" else []


def _show_collections(out: Console, collections: Mapping[str, int]) -> None:
    grid = table("collection", "documents")
    for name, documents in collections.items():
        row(grid, name, f"{documents:,}")
    if collections:
        out.print(grid)


def show_error(out: Console, problem: str, hint: str) -> None:
    first, *rest = problem.splitlines() or [""]
    text = Text("error: ", style="bold red")
    text.append(printable(first), style="default not bold")
    out.print(text, soft_wrap=True)
    for more in rest:
        line(out, more)
    if hint:
        line(out, hint, style="cyan")


def line(out: Console, text: str, *, style: str = "") -> None:
    """One line, never wrapped: a path that is copied from a terminal stays whole."""
    out.print(Text(printable(text), style=style), soft_wrap=True)


def _by_name(parts: Iterable[PartEntry]) -> list[tuple[str, str, list[PartEntry]]]:
    """The slices of one table together, in the order of the manifest."""
    groups: dict[tuple[str, str], list[PartEntry]] = {}
    for entry in parts:
        groups.setdefault((".".join(entry.names), entry.kind), []).append(entry)
    return [(name, kind, entries) for (name, kind), entries in groups.items()]


_NUMBERS = {"size", "rows", "documents", "data", "took", "stored"}


def table(*columns: str) -> Table:
    """An empty table; `row` fills it."""
    made = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        justify: Literal["left", "right"] = "right" if column in _NUMBERS else "left"
        made.add_column(column, justify=justify, overflow="fold")
    return made


def row(table: Table, *cells: str, style: str | None = None) -> None:
    table.add_row(*(Text(printable(cell)) for cell in cells), style=style)
