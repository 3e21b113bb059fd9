"""The examples of Firestore run as they are, as processes, and the page about the emulator does what it says."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.firestore import FirestoreTarget, target
from tests.support.scripts import run, script_environment

EXAMPLES = Path(__file__).parents[1] / "examples"
HOW_TO = EXAMPLES.parent / "docs" / "how-to"
SHOP: dict[str, dict[str, Any]] = {
    "users/ada": {"name": "Ada", "id": "her own"},
    "users/ada/orders/1": {"what": "tea"},
    "orders/1": {"cents": 2**60},
    "secrets/1": {"key": "x"},
}


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A folder to work in, and a server with the projects of production and development."""

    folder: Path
    target: FirestoreTarget
    production: str
    development: str

    def run(self, command: list[str], **more: str) -> subprocess.CompletedProcess[str]:
        settings = {
            "PROD_PROJECT": self.production,
            "DEV_PROJECT": self.development,
            "MSR_FIRESTORE_PROJECT": self.production,
            "FIRESTORE_EMULATOR_HOST": self.target.address,
        }
        return run(command, self.folder, script_environment(self.folder / "bin", **settings | more))

    async def write(self, project: str, documents: Mapping[str, Mapping[str, Any]]) -> None:
        async with self.target.client(project) as client:
            for path, values in documents.items():
                await client.document(path).set(dict(values))

    async def read(self, project: str, *collections: str) -> dict[str, dict[str, Any]]:
        async with self.target.client(project) as client:
            return {
                item.reference.path: item.to_dict() or {}
                for name in collections
                async for item in client.collection_group(name).stream()
            }


@pytest.fixture
async def stage(emulator_address: str, one_loop: None, tmp_path: Path) -> Stage:
    here = target(emulator_address, None)
    made = Stage(folder=tmp_path, target=here, production=here.project, development=f"{here.project}-dev")
    await made.write(made.production, SHOP)
    await made.write(made.development, {"users/rubbish": {"x": 1}, "kept/1": {"x": 1}})
    return made


EVERYTHING = ("users", "orders", "secrets", "kept")
COPY = [sys.executable, str(EXAMPLES / "firestore_backup.py")]
MIGRATE = [sys.executable, str(EXAMPLES / "firestore_migrations" / "run.py")]


async def test_chosen_collections_come_from_production_to_development(stage: Stage) -> None:
    done = stage.run([*COPY, "users", "orders"])
    assert done.returncode == 0, done.stderr
    (backup,) = (stage.folder / "backups" / "firestore").glob("prod-backup-*.msrbak")
    assert f"backup: {backup} (3 documents, {backup.stat().st_size:,} bytes)" in done.stdout
    assert "restored: 3 documents in " in done.stdout
    expected = {path: values for path, values in SHOP.items() if path != "secrets/1"} | {"kept/1": {"x": 1}}
    assert await stage.read(stage.development, *EVERYTHING) == expected
    assert await stage.read(stage.production, *EVERYTHING) == SHOP


async def test_without_a_project_there_is_one_sentence(stage: Stage) -> None:
    done = stage.run(COPY, DEV_PROJECT="")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: DEV_PROJECT is not set. Set it to the name of a Google Cloud project.\n"


async def test_the_migrations_run_in_batches_and_once(stage: Stage) -> None:
    products = {f"products/{number:03}": {"price": number + 0.5} for number in range(450)}
    await stage.write(stage.production, products)
    done = stage.run(MIGRATE)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "batch 1: 400 documents",
        "batch 2: 50 documents",
        "applied: V202611220900_shop_settings, V202611221000_prices_in_cents",
    ]
    found = await stage.read(stage.production, "products", "settings")
    assert found.pop("settings/shop") == {"currency": "EUR"}
    assert found == {path: {**values, "cents": round(values["price"] * 100)} for path, values in products.items()}
    assert stage.run(MIGRATE).stdout == "applied: nothing was pending\n"


async def test_a_migration_that_fails_leaves_everything_as_it_was(stage: Stage) -> None:
    await stage.write(stage.production, {"products/1": {"price": 1.5}, "products/2": {"price": "dear"}})
    done = stage.run(MIGRATE)
    assert done.returncode == 3
    assert "was restored" in done.stderr
    assert await stage.read(stage.production, "products", "settings", *EVERYTHING) == {
        **SHOP,
        "products/1": {"price": 1.5},
        "products/2": {"price": "dear"},
    }


def test_the_page_shows_the_migrations() -> None:
    page = (HOW_TO / "firestore.md").read_text("utf-8")
    for path in (EXAMPLES / "firestore_migrations" / "migrations").glob("*.py"):
        shown = page.partition(f"# migrations/{path.name}\n")[2].partition("```")[0]
        assert calls(shown) == calls(path.read_text("utf-8")) != []


def calls(text: str) -> list[str]:
    """The lines of Python that do something, without comments."""
    lines = [line.partition("  #")[0].strip() for line in text.splitlines()]
    return [line for line in lines if re.match(r"(db\.|products = |page = |found = |for |return |@batches)", line)]


async def test_production_is_loaded_into_the_emulator_as_the_page_says(stage: Stage) -> None:
    page = (HOW_TO / "load-production-into-the-emulator.md").read_text("utf-8")
    blocks = re.findall(r"^```console\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    from_a_file, both, _ = [[line.removeprefix("$ ") for line in block.splitlines()] for block in blocks]

    # Production and the copy on the machine are two projects of one server here.
    def here(line: str, project: str) -> str:
        return line.replace("127.0.0.1:8080", stage.target.address).replace("my-app-prod", shlex.quote(project))

    create, restore = both
    for line in (here(create, stage.production), here(restore, stage.development)):
        done = stage.run(["sh", "-c", line])
        assert done.returncode == 0, done.stderr
    assert await stage.read(stage.development, *EVERYTHING) == SHOP
    await stage.write(stage.development, {"users/mine": {"x": 1}, "users/ada": {"name": "changed"}})
    (stage.folder / "prod.msrbak").symlink_to((stage.folder / "path.txt").read_text().strip())
    (line,) = from_a_file
    again = stage.run(["sh", "-c", here(line, stage.development)])
    assert again.returncode == 0, again.stderr
    assert await stage.read(stage.development, *EVERYTHING) == SHOP
