"""Watchers: each is one callable that takes one event. Those for terminals are imported by name, from their modules."""

from __future__ import annotations

from .log import log_event

__all__ = ["log_event"]
