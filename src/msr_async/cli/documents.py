"""Results and errors as plain data: what `--format json` prints. Pure; keys are only ever added."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

from ..errors import (
    LockNotAcquired,
    MigrationFailed,
    MsrError,
    RecoveryFailed,
    ScriptFailed,
    ValidationFailed,
    words_of,
)
from ..models import (
    AppliedMigration,
    BackupInfo,
    DatabaseInfo,
    ExportInfo,
    Issue,
    LockInfo,
    Manifest,
    Migration,
    MigrationResult,
    PartEntry,
    Plan,
    RepairResult,
    RestoreInfo,
    UnfinishedRestore,
    VerifyInfo,
)
from .plans import Step

Document: TypeAlias = dict[str, Any]


def of_plan(plan: Plan, database: str) -> Document:
    return {
        "database": database,
        "direction": plan.direction,
        "target": plan.target,
        "applied": [of_applied(item) for item in plan.applied],
        "pending": [of_migration(item) for item in plan.pending],
        "reapplied": [item.id for item in plan.reapplied],
        "issues": [of_issue(item) for item in plan.issues],
    }


def of_steps(steps: Sequence[Step]) -> Document:
    """What would be run, hooks included, in its order."""
    return {
        "steps": [
            {
                "id": step.migration.id if step.migration.kind != "hook" else None,
                "name": step.migration.name,
                "kind": step.migration.kind,
                "path": None if step.path is None else str(step.path),
                "transaction": step.transaction,
            }
            for step in steps
        ]
    }


def of_new(paths: Sequence[Path]) -> Document:
    return {"paths": [str(path) for path in paths]}


def of_result(result: MigrationResult) -> Document:
    return {
        "success": result.success,
        "direction": result.direction,
        "dry_run": result.dry_run,
        "executed": [of_migration(item) for item in result.executed],
        "skipped": [of_migration(item) for item in result.skipped],
        "failed": of_migration(result.failed) if result.failed else None,
        "backup": of_backup(result.backup) if result.backup else None,
        "restored": result.restored,
        "undone": [of_migration(item) for item in result.undone],
        "duration": result.duration,
    }


def of_baseline(lines: Sequence[AppliedMigration], database: str) -> Document:
    return {"database": database, "recorded": [of_applied(item) for item in lines]}


def of_repair(result: RepairResult, database: str) -> Document:
    return {
        "database": database,
        "dry_run": result.dry_run,
        "rechecksummed": [of_applied(item) for item in result.rechecksummed],
        "forgotten": [of_applied(item) for item in result.forgotten],
    }


def of_lock(holder: LockInfo | None, database: str) -> Document:
    return {"database": database, "held": holder is not None, "holder": _holder(holder)}


def of_release(ended: LockInfo | None, database: str, *, given_up: UnfinishedRestore | None = None) -> Document:
    """Who held the lock, or which unfinished restore was given up."""
    return {"database": database, "ended": _holder(ended), "given_up": _unfinished(given_up)}


def _unfinished(restore: UnfinishedRestore | None) -> Document | None:
    if restore is None:
        return None
    since = None if restore.since is None else _time(restore.since)
    return {"backup": restore.backup, "mode": restore.mode, "holder": restore.holder, "since": since}


def _holder(holder: LockInfo | None) -> Document | None:
    if holder is None:
        return None
    since = None if holder.since is None else _time(holder.since)
    return {"name": holder.holder, "pid": holder.pid, "since": since, "doing": holder.doing}


def of_migration(migration: Migration) -> Document:
    return {
        "id": migration.id if migration.kind != "hook" else None,
        "version": migration.version,
        "name": migration.name,
        "kind": migration.kind,
        "path": str(migration.up.path),
        "has_down": migration.down is not None,
    }


def of_applied(applied: AppliedMigration) -> Document:
    return {
        "id": applied.id,
        "version": applied.version,
        "name": applied.name,
        "checksum": applied.checksum,
        "applied_at": _time(applied.applied_at),
        "applied_by": applied.applied_by,
        "duration": applied.duration,
        "baseline": applied.baseline,
        "run": applied.run,
        "fingerprint": applied.fingerprint,
    }


def of_issue(issue: Issue) -> Document:
    return {
        "code": issue.code,
        "severity": issue.severity,
        "message": issue.message,
        "path": None if issue.path is None else str(issue.path),
        "line": issue.line,
    }


def of_backup(backup: BackupInfo) -> Document:
    return {
        "path": str(backup.path),
        "size": backup.size,
        "id": backup.id,
        "created": _time(backup.created),
        "parts": backup.parts,
        "rows": backup.rows,
        "raw_bytes": backup.raw_bytes,
        "complete": backup.complete,
        "notes": list(backup.notes),
        "tags": dict(backup.tags),
        "duration": backup.duration,
        "kind": backup.kind,
    }


def of_backups(backups: Sequence[BackupInfo]) -> Document:
    return {"backups": [of_backup(item) for item in backups]}


def of_export(export: ExportInfo) -> Document:
    return {"path": str(export.path), "rows": export.rows, "size": export.size, "duration": export.duration}


def of_restore(restore: RestoreInfo) -> Document:
    return {
        "path": str(restore.path),
        "parts": restore.parts,
        "rows": restore.rows,
        "raw_bytes": restore.raw_bytes,
        "duration": restore.duration,
        "warnings": list(restore.warnings),
        "kind": restore.kind,
        "mode": restore.mode,
        "written": restore.written,
        "unchanged": restore.unchanged,
        "deleted": restore.deleted,
        "kept": restore.kept,
    }


def of_verify(verified: VerifyInfo) -> Document:
    return {
        "path": str(verified.path),
        "id": verified.id,
        "level": verified.level,
        "members": verified.members,
        "rows": verified.rows,
        "raw_bytes": verified.raw_bytes,
        "size": verified.size,
        "duration": verified.duration,
    }


def of_manifest(manifest: Manifest, *, path: str, size: int, collections: Mapping[str, int]) -> Document:
    """A manifest without its hashes: whoever wants those reads `manifest.json` out of the file.

    Args:
        collections: documents by collection id, in a backup of Firestore.
    """
    return {
        "path": path,
        "size": size,
        "id": manifest.id,
        "created": _time(manifest.created),
        "tool": manifest.tool,
        "source": _database(manifest.source),
        "snapshot": manifest.snapshot,
        "fingerprint": manifest.fingerprint,
        "complete": manifest.complete,
        "notes": list(manifest.notes),
        "tags": dict(manifest.tags),
        "history": [of_applied(item) for item in manifest.history],
        "documents": [{"name": item.name, "size": item.raw_size} for item in manifest.documents],
        "parts": [_part(item) for item in manifest.parts],
        "collections": dict(collections),
        "rows": manifest.totals.rows,
        "raw_bytes": manifest.totals.raw_bytes,
        "stored_bytes": manifest.totals.stored_bytes,
    }


def collections_in(contents: Mapping[str, bytes]) -> dict[str, int]:
    """Documents by collection id, as a backup of Firestore says of itself; empty for others."""
    about = contents.get("collections.json")
    found: dict[str, int] = json.loads(about)["collections"] if about else {}
    return dict(sorted(found.items()))


def of_error(error: BaseException, code: int) -> Document:
    """`{"error": {...}}`: the sentences of the error, and its data where it carries any."""
    body: Document = {"type": type(error).__name__, "message": words_of(error), "hint": "", "exit_code": code}
    if isinstance(error, MsrError):
        body |= {"message": error.problem, "hint": error.hint}
    if isinstance(error, ValidationFailed):
        body["issues"] = [of_issue(item) for item in error.issues]
    if isinstance(error, ScriptFailed):
        body |= _place(error)
    if isinstance(error, MigrationFailed):
        body["result"] = of_result(error.result)
        body["cause"] = of_error(error.error, code)["error"]
    if isinstance(error, RecoveryFailed):
        body["recovery_cause"] = of_error(error.recovery_error, code)["error"]
    if isinstance(error, LockNotAcquired):
        body |= {"holder": str(error.holder) if error.holder else None, "waited": error.waited}
    return {"error": body}


def _place(error: ScriptFailed) -> Document:
    path = None if error.path is None else str(error.path)
    return {"path": path, "line": error.line, "column": error.column}


def _database(info: DatabaseInfo) -> Document:
    return {
        "kind": info.kind,
        "name": info.name,
        "host": info.host,
        "server_version": info.server_version,
        "environment": info.environment,
    }


def _part(entry: PartEntry) -> Document:
    return {
        "kind": entry.kind,
        "name": ".".join(entry.names),
        "slice": entry.slice,
        "columns": [{"name": column.name, "type": column.type} for column in entry.columns],
        "rows": entry.rows,
        "raw_bytes": entry.raw_bytes,
        "size": sum(chunk.size for chunk in entry.chunks),
        "chunks": len(entry.chunks),
    }


def _time(moment: datetime) -> str:
    return moment.isoformat()
