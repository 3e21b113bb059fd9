"""How a handler is made and opened: arguments, URLs, the environment, credentials; and what it says of its database."""

from __future__ import annotations

import gc
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from google.auth.credentials import AnonymousCredentials
from google.cloud.firestore import AsyncClient

from msr_async import ConfigError, ConnectionFailed, Script, ScriptFailed
from msr_async.firestore import FirestoreHandler
from msr_async.models import Directives
from msr_async.protocols import Change
from msr_async.testing.contracts.saying import entry
from tests.firestore.opened import TRANSACTION, handler_of, put
from tests.support.firestore import FirestoreTarget, only_google

EMULATOR = "127.0.0.1:8080"
VARIABLES = (
    "MSR_DATABASE_URL",
    "DATABASE_URL",
    "MSR_FIRESTORE_PROJECT",
    "GOOGLE_CLOUD_PROJECT",
    "MSR_FIRESTORE_DATABASE",
    "FIRESTORE_EMULATOR_HOST",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "MSR_ENVIRONMENT",
)
SQL = Script(path=Path("V202601010001_it.up.sql"), text="SELECT 1", language="sql")


@pytest.fixture(autouse=True)
def environ(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def said(handler: FirestoreHandler) -> tuple[str, str, str | None]:
    return handler.home.project, handler.home.database, handler._emulator


# -- arguments -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"project": None}, "No Firestore project is named"),
        ({"project": ""}, "No Firestore project is named"),
        ({"project": "a/b"}, "'a/b' is no id of a project"),
        ({"database": "A B"}, "'A B' is no id of a database"),
        ({"database": ""}, "'' is no id of a database"),
        ({"emulator": True}, "emulator is True. Give host:port"),
        ({"emulator": "localhost"}, "emulator is 'localhost'. Give host:port"),
        ({"version_collection": "a/b"}, "version_collection is 'a/b'"),
        ({"version_collection": "__a__"}, "version_collection is '__a__'"),
        ({"lease": 5.0, "heartbeat": 3.0}, "the lease at least two heartbeats"),
        ({"heartbeat": 0}, "heartbeat 0"),
        ({"max_batch_bytes": 1000}, "max_batch_bytes is 1000"),
    ],
)
def test_an_argument_that_cannot_be_used_is_refused_with_what_to_give(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        FirestoreHandler(**{"project": "my-project", "emulator": EMULATOR, **settings})


def test_the_emulators_variable_alone_is_refused_rather_than_writing_to_production(
    environ: pytest.MonkeyPatch,
) -> None:
    environ.setenv("FIRESTORE_EMULATOR_HOST", EMULATOR)
    with pytest.raises(ConfigError, match=f'Give emulator="{EMULATOR}" for the emulator, or unset the variable'):
        FirestoreHandler("my-project")
    given = FirestoreHandler("my-project", emulator="other:1")
    meant = FirestoreHandler("my-project", credentials=AnonymousCredentials())  # type: ignore[no-untyped-call]
    assert (given._emulator, meant._emulator) == ("other:1", None)


async def test_with_credentials_the_native_client_does_not_follow_the_emulators_variable(
    environ: pytest.MonkeyPatch,
) -> None:
    environ.setenv("FIRESTORE_EMULATOR_HOST", EMULATOR)
    credentials = AnonymousCredentials()  # type: ignore[no-untyped-call]
    async with FirestoreHandler("my-project", credentials=credentials) as handler:
        assert ("authorization", "Bearer owner") not in handler.db._rpc_metadata
        assert handler._opened().host == "firestore.googleapis.com"


# -- URLs and the environment --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (f"firestore://my-project?emulator={EMULATOR}", ("my-project", "(default)", EMULATOR)),
        (f"firestore://my-project/?emulator={EMULATOR}", ("my-project", "(default)", EMULATOR)),
        (f"firestore://my-project/(default)?emulator={EMULATOR}", ("my-project", "(default)", EMULATOR)),
        (f"firestore://my-project/%28default%29?emulator={EMULATOR}", ("my-project", "(default)", EMULATOR)),
        (f"firestore://my-project/orders?emulator={EMULATOR}", ("my-project", "orders", EMULATOR)),
        ("firestore://my-project/orders", ("my-project", "orders", None)),
    ],
)
def test_a_url_says_it_all(url: str, expected: tuple[str, str, str | None]) -> None:
    handler = FirestoreHandler.from_url(url, environment="staging")
    assert said(handler) == expected
    assert handler.environment == "staging"
    where = f" in the emulator at {expected[2]}" * (expected[2] is not None)
    assert handler.name == f"Firestore {expected[0]}/{expected[1]}{where}"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            {"database": None, "emulator": None, "credentials": None, "max_reads": None},
            ("my-project", "orders", EMULATOR),
        ),
        ({"emulator": None, "credentials": None}, ("my-project", "orders", EMULATOR)),
        ({"database": "other"}, ("my-project", "other", EMULATOR)),
        ({"emulator": "127.0.0.1:1"}, ("my-project", "orders", "127.0.0.1:1")),
    ],
)
def test_a_setting_goes_before_the_url_unless_it_is_none(
    settings: dict[str, Any], expected: tuple[str, str, str | None]
) -> None:
    url = f"firestore://my-project/orders?emulator={EMULATOR}"
    assert said(FirestoreHandler.from_url(url, **settings)) == expected


def test_credentials_go_the_same_way() -> None:
    url = "firestore://my-project/orders?credentials=key.json"
    assert FirestoreHandler.from_url(url, credentials=None)._credentials == "key.json"
    assert FirestoreHandler.from_url(url, credentials="other.json")._credentials == "other.json"


@pytest.mark.parametrize(
    ("url", "settings"),
    [
        (f"firestore://my-project?emulator={EMULATOR}&credentials=key.json", {}),
        (f"firestore://my-project?emulator={EMULATOR}", {"credentials": "key.json"}),
        ("firestore://my-project?credentials=key.json", {"emulator": EMULATOR}),
    ],
)
def test_an_emulator_and_credentials_together_are_refused_rather_than_one_being_ignored(
    url: str, settings: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match="An emulator takes no credentials, and both were given"):
        FirestoreHandler.from_url(url, **settings)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://my-project",
        "firestore://",
        "firestore://user:secret@my-project",
        "firestore://my-project/orders/more",
        "firestore://my-project?emulater=127.0.0.1:8080",
        "firestore://my-project#part",
        "firestore://my-project?emulator=",
    ],
)
def test_a_url_that_says_something_else_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        FirestoreHandler.from_url(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"MSR_DATABASE_URL": "firestore://one/orders"}, ("one", "orders", None)),
        ({"DATABASE_URL": "firestore://one", "FIRESTORE_EMULATOR_HOST": EMULATOR}, ("one", "(default)", EMULATOR)),
        (
            {"DATABASE_URL": "firestore://one?emulator=near:1", "FIRESTORE_EMULATOR_HOST": EMULATOR},
            ("one", "(default)", "near:1"),
        ),
        (
            {"DATABASE_URL": "firestore://one?credentials=key.json", "FIRESTORE_EMULATOR_HOST": EMULATOR},
            ("one", "(default)", None),
        ),
        ({"DATABASE_URL": "postgresql://localhost/db", "GOOGLE_CLOUD_PROJECT": "two"}, ("two", "(default)", None)),
        (
            {"MSR_FIRESTORE_PROJECT": "one", "GOOGLE_CLOUD_PROJECT": "two", "MSR_FIRESTORE_DATABASE": "orders"},
            ("one", "orders", None),
        ),
        ({"MSR_FIRESTORE_PROJECT": "one", "FIRESTORE_EMULATOR_HOST": EMULATOR}, ("one", "(default)", EMULATOR)),
    ],
)
def test_the_environment_names_the_database(
    environ: pytest.MonkeyPatch, variables: dict[str, str], expected: tuple[str, str, str | None]
) -> None:
    environ.setenv("MSR_ENVIRONMENT", "production")
    for name, value in variables.items():
        environ.setenv(name, value.replace("one", "my-one").replace("two", "my-two"))
    handler = FirestoreHandler.from_env()
    assert said(handler) == (f"my-{expected[0]}", *expected[1:])
    assert handler.environment == "production"


def test_an_environment_that_names_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="Set MSR_FIRESTORE_PROJECT"):
        FirestoreHandler.from_env()


# -- credentials ---------------------------------------------------------------------------------


def service_account() -> dict[str, str]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()
    return {
        "type": "service_account",
        "project_id": "my-project",
        "private_key_id": "1",
        "private_key": pem,
        "client_email": "runner@my-project.example",
        "token_uri": "https://oauth2.invalid/token",
    }


async def test_a_service_account_is_taken_as_a_file_and_as_its_content(tmp_path: Path) -> None:
    account = service_account()
    path = tmp_path / "key.json"
    path.write_text(json.dumps(account))
    for given in (path, str(path), account):
        async with FirestoreHandler("my-project", credentials=given) as handler:
            assert isinstance(handler.db, AsyncClient)
            credentials: Any = handler.db._credentials
            assert credentials.service_account_email == "runner@my-project.example"
    async with FirestoreHandler.from_url(f"firestore://my-project?credentials={path}") as handler:
        assert handler.db.project == "my-project"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, r"key\.json cannot be read: No such file or directory\. Give the JSON file"),
        ("secret{", r"key\.json is not JSON"),
        ('"secret"', r"key\.json holds no credentials"),
        ('{"private_key": "secret"}', r"key\.json holds no service account or user: its type is 'None'"),
        (
            '{"type": "external_account", "token_url": "secret"}',
            r"type is 'external_account'\. If you trust it, let GOOGLE_APPLICATION_",
        ),
        ('{"type": "authorized_user", "client_id": "secret"}', r"key\.json cannot be used as credentials"),
        ('{"type": "service_account", "private_key": "secret"}', r"key\.json cannot be used as credentials"),
    ],
)
async def test_a_credentials_file_that_cannot_be_used_is_told_by_its_name_and_not_by_its_content(
    tmp_path: Path, text: str | None, words: str
) -> None:
    path = tmp_path / "key.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=words) as caught:
        await FirestoreHandler("my-project", credentials=path).__aenter__()
    assert "secret" not in str(caught.value)


async def test_a_machine_without_credentials_is_told_what_to_do(environ: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environ.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    environ.setenv("NO_GCE_CHECK", "true")
    with pytest.raises(ConnectionFailed, match="gcloud auth application-default login"):
        await FirestoreHandler("my-project").__aenter__()


# -- an open handler -----------------------------------------------------------------------------


async def test_it_says_which_database_it_is_and_shows_no_secret(firestore_target: FirestoreTarget) -> None:
    async with handler_of(firestore_target, environment="staging") as handler:
        await handler.check_connection()
        info = await handler.describe()
        assert (info.kind, info.name, info.host) == (
            "firestore",
            f"{firestore_target.project}/(default)",
            firestore_target.address,
        )
        assert info.identity == f"firestore:{firestore_target.address}:{handler.home.path}"
        assert (info.environment, info.empty) == ("staging", True)
        where = f"in the emulator at {firestore_target.address}"
        assert repr(handler) == f"<FirestoreHandler Firestore {firestore_target.project}/(default) {where}>"


async def test_only_documents_beside_the_locks_make_it_not_empty(firestore_target: FirestoreTarget) -> None:
    async with handler_of(firestore_target) as handler:
        async with handler.lock.hold(timeout=5, waiting=lambda holder, waited: None):
            assert (await handler.describe()).empty
        await put(handler, "deep/missing/things/a", value=1)
        assert not (await handler.describe()).empty


async def test_databases_of_one_project_are_apart(firestore_target: FirestoreTarget) -> None:
    async with (
        handler_of(firestore_target) as handler,
        handler_of(firestore_target, database="orders") as other,
    ):
        await put(handler, "things/a", value=1)
        assert (await other.describe()).empty
        assert (await other.describe()).identity != (await handler.describe()).identity


async def test_scripts_of_another_language_are_refused(firestore_target: FirestoreTarget) -> None:
    done: list[float] = []
    async with handler_of(firestore_target) as handler:
        assert [(issue.code, issue.severity, issue.path) for issue in handler.inspect(SQL)] == [
            ("no-sql", "error", SQL.path)
        ]
        assert await handler.review([SQL]) == ()
        with pytest.raises(ScriptFailed, match=r"V202601010001_it\.up\.sql: Firestore has no SQL"):
            await handler.apply([Change(script=SQL, entry=entry())], "up", TRANSACTION, done.append)
        assert (done, handler.joins(SQL)) == ([], False)
        with pytest.raises(ScriptFailed, match="Write this migration in Python"):
            await handler.execute(handler.db, SQL)
        outside = Script(path=Path("it.py"), text="", language="py", directives=Directives(transaction=False))
        assert (handler.outside(outside), handler.outside(SQL)) == (True, False)
        assert handler.inspect(outside) == ()
        assert (await handler.catalog(), await handler.progress()) == (None, None)


@only_google
async def test_closing_leaves_nothing_open(firestore_target: FirestoreTarget) -> None:
    handler = handler_of(firestore_target)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always", ResourceWarning)
        async with handler:
            await put(handler, "things/a", value=1)
        del handler
        gc.collect()
    assert [str(warning.message) for warning in heard] == []


async def test_what_is_not_open_says_so(firestore_target: FirestoreTarget) -> None:
    handler = handler_of(firestore_target)
    with pytest.raises(ConnectionFailed, match="Use it inside `async with"):
        _ = handler.db
    async with handler:
        assert isinstance(handler.db, AsyncClient)
    with pytest.raises(ConnectionFailed, match="The handler is not open"):
        await handler.describe()


async def test_a_client_that_does_not_take_our_connection_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AsyncClient, "_firestore_api", property(lambda client: "its own"))
    with pytest.raises(ConfigError, match="does not take the connection"):
        async with FirestoreHandler("my-project", emulator="127.0.0.1:1"):
            raise AssertionError
