"""Runs one command: signals become a cancellation, errors become a sentence and an exit code, results are printed."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import re
import signal
import sys
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio

from ..config import RollbackStrategy
from ..errors import BackupInvalid, MigrationFailed, MsrError, words_of
from ..events import Event, MigrationErred, Observer, Planned, RecoveryStarted, Restored, Warned
from ..observers.wording import doing
from .documents import Document, of_error, of_result
from .exits import Exit, exit_code
from .options import Format
from .streams import OutputFailed, let_go

if TYPE_CHECKING:
    from rich.console import Console

_SIGNALS = {
    signal.SIGINT: ("Interrupted", Exit.INTERRUPTED),
    signal.SIGTERM: ("Asked to end", Exit.TERMINATED),
    signal.SIGHUP: ("The terminal went away", Exit.HANGUP),
}


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a command found out: as data, and as a way to show it to a person."""

    document: Document
    show: Callable[[Console], None]
    code: Exit = Exit.OK


@dataclass(frozen=True, kw_only=True)
class Manners:
    """How the person wants to be spoken to."""

    format: Format = "table"
    quiet: bool = False
    debug: bool = False


class Interrupted(MsrError):
    """A signal ended the work; what had to be put back was put back first, or `code` says that this failed."""

    def __init__(
        self, number: signal.Signals, *, story: str, recovered: bool, failure: MigrationFailed | None = None
    ) -> None:
        said, code = _SIGNALS[number]
        self.failure = failure
        """How a run stands that it has stopped."""
        self.code = code if recovered else Exit.ROLLBACK
        super().__init__(f"{said} ({number.name}). {story or 'The work was stopped and cleaned up.'}")


class Run:
    """One run of a command: it hears what happens, shows it, and turns the first signal into a cancellation."""

    def __init__(self, manners: Manners) -> None:
        self._manners = manners
        self._doing = ""
        self._recovering = False
        self._goes_down = False
        self._owed = False
        """A restore is due: a recovery began that counts only when it came to that."""
        self._failure: MigrationFailed | None = None
        """The story of a run that was interrupted, which a cancellation cannot carry."""
        self._signal: signal.Signals | None = None

    @contextmanager
    def watching(self) -> Iterator[tuple[Observer, ...]]:
        """Observers for the library, for as long as the block lasts: bars on a terminal, lines elsewhere."""
        if self._manners.quiet:
            yield (self.remember,)
        elif sys.stderr.isatty():
            from ..observers.progress import ProgressObserver

            with ProgressObserver() as bars:
                yield (self.remember, _without_story(bars))
        else:
            from ..observers.lines import LinesObserver

            yield (self.remember, _without_story(LinesObserver()))

    async def supervise(self, work: Callable[[], Awaitable[Result | None]]) -> Result | None:
        """Raises:
        Interrupted: when a signal came and the work ended because of it.
        """
        loop = asyncio.get_running_loop()
        # A scope, not task.cancel(): it is the only cancellation that anyio's shields hold off, and a recovery is one.
        with anyio.CancelScope() as scope:
            for number in _SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
                    loop.add_signal_handler(number, self._arrived, number, scope)
            return await work()
        assert self._signal is not None
        story = "" if self._failure is None else str(self._failure)
        raise Interrupted(self._signal, story=story, recovered=not self._owed, failure=self._failure)

    def remember(self, event: Event) -> None:
        """An observer: what to answer to a person who interrupts."""
        now = doing(event)
        self._doing = self._doing if now is None else now
        match event:
            case Planned(plan=plan):
                self._goes_down = plan.direction == "down"
            case RecoveryStarted(strategy=strategy):
                # A run that goes down has no `down`s to go back by: under BOTH only the backup is left.
                self._recovering = True
                self._owed = strategy == RollbackStrategy.BACKUP or self._goes_down
            case MigrationErred(direction="down") if not self._goes_down:
                self._owed = True
            case Restored():
                self._owed = False
            case Warned(failure=MigrationFailed() as failure):
                self._recovering, self._failure = False, failure

    def _arrived(self, number: signal.Signals, scope: anyio.CancelScope) -> None:
        said = _SIGNALS[number][0]
        if self._signal is None:
            self._signal = number
            scope.cancel()
            while_ = f" while {self._doing}" if self._doing else ""
            then = "this is finished first" if self._recovering else "stopping and cleaning up"
            message = f"{said}{while_}: {then}, so that nothing stays half done."
        else:
            now = self._doing or "cleaning up"
            message = (
                f"{said} again, but it is still {now}, which must not be cut short. It ends by itself. "
                f"To end it at once all the same: kill -9 {os.getpid()} (PostgreSQL undoes what is not committed)."
            )
        print(message, file=sys.stderr, flush=True)


def _without_story(show: Observer) -> Observer:
    """The error at the end tells it."""
    return lambda event: None if isinstance(event, Warned) and event.failure is not None else show(event)


def run(work: Callable[[Run], Awaitable[Result | None]], *, command: str, manners: Manners) -> int:
    """Run a command to its end and return the exit code. Nothing is raised, whatever happens."""
    if not manners.debug:
        # The event loop logs what it finds at its end with a traceback, on standard error if nobody listens.
        logging.getLogger("asyncio").addHandler(logging.NullHandler())
    this, result = Run(manners), None
    try:
        result = asyncio.run(this.supervise(lambda: work(this)))
        if result is None:
            return Exit.OK
        _print(result, manners)
        return result.code
    except KeyboardInterrupt:  # before supervise() listened, or after
        story = "Nothing was begun." if result is None else "The command was done already."
        return report(Interrupted(signal.SIGINT, story=story, recovered=True), code=Exit.INTERRUPTED, manners=manners)
    except Interrupted as error:
        return report(error, code=error.code, manners=manners)
    except BaseException as raised:
        cause = _single(raised)
        if isinstance(cause, OutputFailed):
            return unwritten(cause, result)
        return report(cause, code=exit_code(cause, command), manners=manners)


def unwritten(error: OutputFailed, result: Result | None = None) -> Exit:
    """What cannot be written is not what the command did: its own code stays, unless that says that all is well."""
    let_go()
    if error.errno != errno.EPIPE:  # a reader who has left (`| head`) knows
        done = "" if result is None else "The command is done, and only its result is lost. "
        print(f"error: {done}Standard output cannot be written: {error.strerror}.", file=sys.stderr)
    return Exit.GENERAL if result is None else result.code or Exit.GENERAL


def report(error: BaseException, *, code: Exit, manners: Manners) -> Exit:
    """Tell of an error: a sentence on standard error, a document on standard output where one was asked for."""
    from .rendering import console, show_error

    if manners.debug:
        print(redact("".join(traceback.format_exception(error))), file=sys.stderr)
    known = error if isinstance(error, MsrError) else _bug(error)
    notes = getattr(error, "__notes__", [])
    problem = known.problem
    if isinstance(known, BackupInvalid) and known.path is not None:
        problem = f"{known.path}: {problem}"
    hint = redact(in_flags(known.hint))
    show_error(console(sys.stderr), redact("\n".join([problem, *notes])), hint)
    if manners.format == "json":
        said: Document = {"message": redact(problem), "hint": hint, "notes": notes}
        if isinstance(error, Interrupted) and error.failure is not None:
            said["result"] = of_result(error.failure.result)
        try:
            _print_json({"error": of_error(error, code)["error"] | said})
        except OutputFailed as failure:
            unwritten(failure)
    return code


def redact(text: str) -> str:
    """The text without the passwords of URLs, for what was not written by us."""
    return _PARAMETER.sub(r"\1***", _URL.sub(r"\1***@", text))


def in_flags(hint: str) -> str:
    """A hint of the library, whose settings have other names here."""
    for ours, flag in _FLAGS.items():
        hint = hint.replace(ours, flag)
    return hint


_FLAGS = {
    "raise lock_timeout": "raise --lock-timeout",
    "confirm_target=": "--confirm-target ",
    "Set backup.existing_backup_path": "Name it by --backup PATH",
    "et the config's folder to": "et --migrations to",
}
_URL = re.compile(r"(://[^\s:/@]*:)[^\s]*@")
_PARAMETER = re.compile(r"((?:password|passwd|secret|token)=)[^\s&'\"]+", re.IGNORECASE)


def _bug(error: BaseException) -> MsrError:
    text = words_of(error).strip().split("\n")[0]
    problem = f"Something unexpected happened: {type(error).__name__}{f': {text}' if text else ''}."
    return MsrError(problem, hint="This is a bug in msr_async: run it again with --debug and report what it prints.")


def _single(error: BaseException) -> BaseException:
    """The error inside of a group that holds one, which is what it should have been."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _print(result: Result, manners: Manners) -> None:
    if manners.format == "json":
        _print_json(result.document)
    else:
        from .rendering import console

        result.show(console())
        sys.stdout.flush()


def _print_json(document: Any) -> None:
    text = json.dumps(document, ensure_ascii=False, indent=2)
    try:
        text.encode(sys.stdout.encoding)
    except UnicodeEncodeError:  # a path need not be UTF-8, nor a terminal know our letters
        text = json.dumps(document, indent=2)
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
