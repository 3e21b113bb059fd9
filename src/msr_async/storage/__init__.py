"""Where bytes rest. A *file* is complete or not there; an *unfinished* one stands beside it as `<name>.partial`."""

from __future__ import annotations

from .local import LocalStorage

__all__ = ["LocalStorage"]
