"""Google's credentials from what a person gives: a file, its content, an object, or nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import google.auth
from google.auth.credentials import Credentials
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError
from google.oauth2 import credentials as user
from google.oauth2 import service_account

from ..errors import ConfigError, ConnectionFailed

_SCOPES = ("https://www.googleapis.com/auth/datastore",)
_KINDS: Mapping[Any, Callable[..., Credentials]] = {
    "service_account": service_account.Credentials.from_service_account_info,
    "authorized_user": user.Credentials.from_authorized_user_info,
}
"""What each type of file is read by. Others name addresses to ask and programs to run: the machine's setup only."""


def credentials_from(given: str | os.PathLike[str] | Mapping[str, Any] | Credentials | None) -> Credentials:
    """Blocks: it reads files, and may ask the machine it runs on.

    Raises:
        ConfigError: what was given cannot be used. Its content is never repeated.
        ConnectionFailed: nothing was given, and this machine has no default credentials.
    """
    if isinstance(given, Credentials):
        return given
    if given is None:
        try:
            found, _project = google.auth.default(scopes=_SCOPES)
        except DefaultCredentialsError as error:
            raise ConnectionFailed(
                "There are no Google credentials on this machine.",
                hint="Run gcloud auth application-default login, or give credentials=... a service account's file.",
            ) from error
        return found
    where = "The credentials" if isinstance(given, Mapping) else f"The credentials' file {os.fspath(given)}"
    hint = "Give the JSON file that Google made for the service account."
    try:
        said = given if isinstance(given, Mapping) else json.loads(Path(given).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{where} cannot be read: {error.strerror}.", hint=hint) from error
    except ValueError:
        raise ConfigError(f"{where} is not JSON.", hint=hint) from None
    if not isinstance(said, Mapping):
        raise ConfigError(f"{where} holds no credentials.", hint=hint)
    kind = said.get("type")
    if kind not in _KINDS:
        raise ConfigError(
            f"{where} holds no service account or user: its type is {str(kind)[:40]!r}.",
            hint="If you trust it, let GOOGLE_APPLICATION_CREDENTIALS name it, and give no credentials here.",
        )
    try:
        loaded: Credentials = _KINDS[kind](dict(said), scopes=_SCOPES)
    except (GoogleAuthError, ValueError, TypeError, KeyError, AttributeError):
        # What the library says may hold a piece of the key.
        raise ConfigError(f"{where} cannot be used as credentials.", hint=hint) from None
    return loaded
