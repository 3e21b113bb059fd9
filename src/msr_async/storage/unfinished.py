"""How a file comes into being: opened under a temporary name, published under its own, or removed. Blocking calls only.

The writer holds a lock (`flock`) on its unfinished file, so another process can tell one that is being written from one
that a killed process left behind.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import sys
import time
from pathlib import Path

from ..errors import StorageError, StorageFull

ENDING = ".partial"
_STALE_AFTER = 24 * 3600.0
_OURS = re.compile(r"(^|-)[0-9a-f]{8}(-[^/]*)?\.[^/]+\.partial$")
"""The names that backups get: others may keep files with this ending in the folder."""
_NO_HARD_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL}
_ATTEMPTS = 8


def open_unfinished(partial: Path, mode: int) -> int:
    """Make the unfinished file, lock it and return its descriptor; one that nobody writes any more is replaced.

    Raises:
        FileExistsError: when another process is writing it.
        OSError: as `open` does.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    for _ in range(_ATTEMPTS):
        try:
            descriptor = os.open(partial, flags, 0o600)
        except FileExistsError:
            if not remove_if_abandoned(partial):
                raise
            continue
        try:
            # Between our open and our lock another process may have taken the file for an abandoned one.
            if _lock(descriptor) and _is_at(descriptor, partial):
                os.fchmod(descriptor, mode)
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(partial))


def remove_if_abandoned(partial: Path, *, older_than: float = 0.0) -> bool:
    """Remove an unfinished file that no process holds and that was not written to for `older_than` seconds.

    Returns:
        True when there is none any more.
    """
    try:
        descriptor = os.open(partial, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        if time.time() - os.fstat(descriptor).st_mtime < older_than or not _lock(descriptor):
            return False
        # Only who holds the lock of the file that stands there may remove it: another may have replaced it just now.
        if _is_at(descriptor, partial):
            os.unlink(partial)
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)


def remove_old(folder: Path) -> None:
    """Clear away what killed processes left behind more than a day ago; never fails."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        old = [
            Path(entry.path)
            for entry in entries
            if entry.name.endswith(ENDING) and entry.is_file(follow_symlinks=False) and _OURS.search(entry.name)
        ]
        for partial in old:
            remove_if_abandoned(partial, older_than=_STALE_AFTER)


def publish(partial: Path, final: Path) -> None:
    """Give a synced file its name without ever overwriting, and make the name survive a power cut.

    Raises:
        FileExistsError: when the name is taken.
        OSError: as `link` and `rename` do.
    """
    try:
        os.link(partial, final, follow_symlinks=False)
    except OSError as error:
        # NFS asks again when an answer was lost, and hears then that the name is taken: by this very file.
        if not _are_one(partial, final):
            if error.errno not in _NO_HARD_LINKS:
                raise
            # exFAT, some network and container file systems have no hard links. A rename overwrites, so look first:
            # what is left is the instant between the two calls, and names of backups are random.
            if os.path.lexists(final):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(final)) from None
            os.rename(partial, final)
    try:
        remove(partial)
        sync_folder(final.parent)
    except BaseException:
        remove(final)
        raise


def remove(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def sync_file(descriptor: int) -> None:
    """Everything written so far is on the disk when this returns."""
    if sys.platform == "darwin":
        with contextlib.suppress(OSError):  # not every file system has it; fsync below is what is left then
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            return
    os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (
            errno.EINVAL,
            errno.ENOTSUP,
        ):  # some file systems cannot sync a folder; they do it themselves
            raise
    finally:
        os.close(descriptor)


def translated(error: OSError, doing: str, path: Path) -> StorageError:
    """Our error for an operating system's one. `doing` is a verb: `write`, `read`."""
    problem = f"Cannot {doing} {path}: {error.strerror or error}."
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            which = "The disk quota is used up" if error.errno == errno.EDQUOT else "No space is left on the device"
            return StorageFull(
                f"{which} while writing {path}; the unfinished file was removed.",
                hint="Make room or choose another folder for backups.",
            )
        case errno.EFBIG:
            return StorageFull(
                f"{path} grew larger than a file may be here; the unfinished file was removed.",
                hint="Raise the limit (ulimit -f), or choose a folder on a file system that takes larger files.",
            )
        case errno.EACCES | errno.EPERM:
            hint = "Give this user access to the folder, or choose another folder for backups."
        case errno.EROFS:
            hint = "The file system is read-only: choose another folder for backups."
        case errno.ENOENT | errno.ENOTDIR | errno.ELOOP:
            hint = "Check the folder that was given for backups: every part of its path must be a folder."
        case errno.EEXIST:
            problem, hint = (
                f"{path} is there already and is not overwritten.",
                "Choose another name, or remove it first.",
            )
        case errno.ENAMETOOLONG:
            hint = "Choose a shorter prefix, custom text or suffix."
        case _:
            hint = "Check the disk, or choose another folder for backups."
    return StorageError(problem, hint=hint)


def _lock(descriptor: int) -> bool:
    """False when another process has it. Where the file system has no locks it counts as ours: names are random."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
            raise
    return True


def _are_one(partial: Path, final: Path) -> bool:
    try:
        return os.path.samestat(os.lstat(partial), os.lstat(final))
    except OSError:
        return False


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False
