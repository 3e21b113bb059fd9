"""Async migrations with a way back, for PostgreSQL and Firestore.

The front door: names only. Databases are imported by name, `from msr_async.postgres import PostgresHandler`, so that
`import msr_async` loads no driver.
"""

from __future__ import annotations

from .config import BackupConfig, BackupMode, Config, Policy, RollbackStrategy
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
    Issue,
    LockInfo,
    Manifest,
    Migration,
    MigrationResult,
    Plan,
    RestoreInfo,
    Script,
    VerifyInfo,
)
from .protocols import DatabaseMigrationHandler, MigrationContext, Storage
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
    "Config",
    "ConfigError",
    "ConnectionFailed",
    "ConnectionLost",
    "DatabaseError",
    "DatabaseInfo",
    "DatabaseMigrationHandler",
    "DownFailed",
    "Event",
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
    "PermissionMissing",
    "Plan",
    "Policy",
    "RecoveryFailed",
    "RestoreFailed",
    "RestoreInfo",
    "RollbackStrategy",
    "Script",
    "ScriptFailed",
    "Storage",
    "StorageError",
    "StorageFull",
    "TargetRefused",
    "ToolMissing",
    "ValidationFailed",
    "VerifyInfo",
    "__version__",
]
