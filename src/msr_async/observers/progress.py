"""Bars on a terminal: what moves is redrawn below, what is done stays above as a line.

Importing this module imports rich.
"""

from __future__ import annotations

from collections import deque
from types import TracebackType
from typing import Literal

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TaskID, TextColumn
from rich.text import Text

from ..events import (
    BackupCreated,
    BatchFinished,
    Event,
    LockWaiting,
    MigrationErred,
    MigrationFinished,
    MigrationStarted,
    PartProgress,
    RecoveryStarted,
    Restored,
    StatementProgress,
    Step,
    TransferStarted,
)
from .wording import advance, part_label, printable, row_count, seconds, shorten, size, tell

_MARKS = {
    "done": ("✓", "+", "green"),
    "failed": ("✗", "x", "bold red"),
    "back": ("↺", "<", "bold yellow"),
    "warning": ("!", "!", "yellow"),
    "plain": (" ", " ", ""),
}


class ProgressObserver:
    """Shows a run on a terminal. Use it as a context manager: the bars live as long as the block.

    Args:
        console: where to draw; standard error if not given.
        visible_parts: how many running parts have a line of their own.
        indent: columns left free before every line that stays.
    """

    def __init__(self, console: Console | None = None, *, visible_parts: int = 6, indent: int = 0) -> None:
        self._console = console or Console(stderr=True, highlight=False)
        self._visible = visible_parts
        self._indent = " " * indent
        plain = not self._console.encoding.lower().startswith("utf")
        self._mark = 1 if plain else 0
        self._bars = Progress(
            SpinnerColumn("line" if plain else "dots", style="cyan"),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=12),
            _Amounts(),
            console=self._console,
            transient=True,
            refresh_per_second=6,
        )
        self._singles: dict[str, TaskID] = {}
        self._parts: dict[str, TaskID] = {}
        self._hidden: deque[TaskID] = deque()

    def __enter__(self) -> ProgressObserver:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def refresh(self) -> None:
        """Redraw now; it happens by itself six times a second."""
        self._bars.refresh()

    def __call__(self, event: Event) -> None:
        if isinstance(event, LockWaiting):
            if "lock" in self._singles:  # said once, above its spinner
                return
            self._singles["lock"] = self._bars.add_task("waiting for the migration lock", total=None, kind="step")
        else:
            self._end("lock")
        match event:
            case TransferStarted():
                self._clear()
                self._singles["total"] = self._bars.add_task(event.action, total=event.raw_bytes or None, kind="total")
            case PartProgress():
                self._advance(event)
            case Step():
                self._end("step")
                label = printable(shorten(event.detail, 50))
                self._singles["step"] = self._bars.add_task(label, total=None, kind="step")
            case MigrationStarted():
                self._end("step")
                self._end("migration")  # under PER_BATCH it is finished only when all are
                place = f"({event.position} of {event.total})" if event.direction == "up" else "(undoing)"
                label = printable(shorten(str(event.migration), 44))
                self._singles["migration"] = self._bars.add_task(f"{label} {place}", total=None, kind="step")
            case BatchFinished() | StatementProgress():
                self._advance_migration(event)
            case MigrationFinished() | MigrationErred():
                self._end("migration")
            case BackupCreated() | Restored() | RecoveryStarted():
                self._clear()
        told = tell(event)
        if told is not None:
            mark = _MARKS[told.mood]
            line = Text(self._indent)
            line.append(f"{mark[self._mark]} ", style=mark[2])
            line.append(printable(told.text), style="yellow" if told.mood == "warning" else "")
            self._console.print(line, soft_wrap=True)

    def _advance_migration(self, event: BatchFinished | StatementProgress) -> None:
        task = self._singles.get("migration")
        if task is not None:
            share = (event.done, event.total or None) if isinstance(event, StatementProgress) else (0, None)
            label = printable(shorten(advance(event), 70))
            self._bars.update(task, description=label, completed=share[0], total=share[1])

    def _advance(self, event: PartProgress) -> None:
        self._end("step")  # rows are moving: the phase before them is over
        key = f"{event.part.kind} {event.part}"
        task = self._parts.get(key)
        if task is None:
            crowded = len(self._parts) - len(self._hidden) >= self._visible
            task = self._parts[key] = self._bars.add_task(
                "  " + printable(shorten(part_label(event.part), 24)),
                total=event.part.estimate or None,
                visible=not crowded,
                kind="part",
                rows=0,
                of=event.part.kind,
            )
            if crowded:
                self._hidden.append(task)
        self._grow(task, event.raw_bytes, rows=event.rows)
        if "total" in self._singles:
            self._grow(self._singles["total"], event.raw_bytes)
        if event.finished:
            self._bars.remove_task(self._parts.pop(key))
            if task in self._hidden:
                self._hidden.remove(task)
            elif self._hidden:
                self._bars.update(self._hidden.popleft(), visible=True)

    def _grow(self, task_id: TaskID, amount: int, *, rows: int | None = None) -> None:
        """Advance a bar; one that outgrows its estimate gets a new one, so that no bar shows more than all."""
        task = self._bars.tasks[self._bars.task_ids.index(task_id)]
        done = task.completed + amount
        total = max(done, task.total) if task.total is not None else None
        if rows is None:
            self._bars.update(task_id, completed=done, total=total)
        else:
            self._bars.update(task_id, completed=done, total=total, rows=task.fields["rows"] + rows)

    def _clear(self) -> None:
        """Take away what belonged to a transfer; a part that ended without saying so goes too."""
        for task in self._parts.values():
            self._bars.remove_task(task)
        self._parts.clear()
        self._hidden.clear()
        self._end("total")
        self._end("step")

    def _end(self, name: Literal["total", "step", "migration", "lock"]) -> None:
        task = self._singles.pop(name, None)
        if task is not None:
            self._bars.remove_task(task)


class _Amounts(ProgressColumn):
    """The numbers behind a bar: for the total its pace and the time left, for a part its rows."""

    def render(self, task: Task) -> Text:
        kind = task.fields["kind"]
        if kind == "step":
            return Text(seconds(task.elapsed or 0.0), style="dim")
        if kind == "part":
            return Text(f"{size(task.completed)}  {row_count(task.fields['rows'], task.fields['of'])}", style="dim")
        text = size(task.completed) if task.total is None else _share(task.completed, task.total)
        if task.speed:
            text += f"  {size(task.speed)}/s"
        if task.speed and task.time_remaining:
            text += f"  {seconds(task.time_remaining)} left"
        return Text(text, style="cyan")


def _share(done: float, total: float) -> str:
    left, right = size(done), size(total)
    same = left.rpartition(" ")[2] == right.rpartition(" ")[2]
    return f"{left.rpartition(' ')[0] if same else left}/{right}"
