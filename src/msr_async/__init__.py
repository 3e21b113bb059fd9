"""Async migrations with a way back, for PostgreSQL and Firestore.

The front door: names only. Databases are imported by name, `from msr_async.postgres import PostgresHandler`, so that
`import msr_async` loads no driver.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .batching import Batch, Done, batches
from .config import (
    BackupConfig,
    BackupMode,
    Config,
    OutOfOrder,
    Policy,
    RollbackStrategy,
    TransactionConfig,
    TransactionMode,
)
from .errors import (
    BackupDamaged,
    BackupFailed,
    BackupInvalid,
    BackupNotFound,
    BackupTooNew,
    ConfigError,
    ConnectionFailed,
    ConnectionLost,
    DatabaseError,
    DownFailed,
    LockNotAcquired,
    LockTimeout,
    MigrationFailed,
    MsrError,
    NotABackup,
    PermissionMissing,
    RecoveryFailed,
    RestoreFailed,
    RestoreUnfinished,
    ScriptFailed,
    StorageError,
    StorageFull,
    TargetRefused,
    ToolMissing,
    ValidationFailed,
)
from .events import Event, Observer
from .executor import MigrationScriptExecutor
from .models import VERSION as __version__
from .models import (
    AppliedMigration,
    BackupInfo,
    DatabaseInfo,
    Directives,
    Drift,
    ExportInfo,
    Issue,
    LockInfo,
    Manifest,
    Migration,
    MigrationResult,
    Plan,
    RepairResult,
    RestoreInfo,
    Script,
    UnfinishedRestore,
    VerifyInfo,
)
from .protocols import DatabaseMigrationHandler, MigrationContext, Storage

if TYPE_CHECKING:
    from .storage.local import LocalStorage

__all__ = [
    "AppliedMigration",
    "BackupConfig",
    "BackupDamaged",
    "BackupFailed",
    "BackupInfo",
    "BackupInvalid",
    "BackupMode",
    "BackupNotFound",
    "BackupTooNew",
    "Batch",
    "Config",
    "ConfigError",
    "ConnectionFailed",
    "ConnectionLost",
    "DatabaseError",
    "DatabaseInfo",
    "DatabaseMigrationHandler",
    "Directives",
    "Done",
    "DownFailed",
    "Drift",
    "Event",
    "ExportInfo",
    "Issue",
    "LocalStorage",
    "LockInfo",
    "LockNotAcquired",
    "LockTimeout",
    "Manifest",
    "Migration",
    "MigrationContext",
    "MigrationFailed",
    "MigrationResult",
    "MigrationScriptExecutor",
    "MsrError",
    "NotABackup",
    "Observer",
    "OutOfOrder",
    "PermissionMissing",
    "Plan",
    "Policy",
    "RecoveryFailed",
    "RepairResult",
    "RestoreFailed",
    "RestoreInfo",
    "RestoreUnfinished",
    "RollbackStrategy",
    "Script",
    "ScriptFailed",
    "Storage",
    "StorageError",
    "StorageFull",
    "TargetRefused",
    "ToolMissing",
    "TransactionConfig",
    "TransactionMode",
    "UnfinishedRestore",
    "ValidationFailed",
    "VerifyInfo",
    "__version__",
    "batches",
]


def __getattr__(name: str) -> Any:
    """`LocalStorage` is imported when it is asked for: it brings half of the imports, and few programs name it."""
    if name == "LocalStorage":
        from .storage.local import LocalStorage

        return LocalStorage
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
