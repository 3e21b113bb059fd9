"""The plain way in Python: `python -m benchmarks.firestore.with_plain backup|restore ADDRESS PROJECT FILE`.

Documents become dictionaries, all of them one JSON text, and go back by a `WriteBatch` of 500. Asking each document for
its collections would cost the emulator a walk over all documents each time, so this way knows its collections by name
and streams each of them as a collection group: it is the fastest that dictionaries allow. The client takes the address
from the environment. Prints one line of JSON: the seconds of CPU that the process's start and the imports took.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from itertools import islice
from pathlib import Path

from google.cloud.firestore import AsyncClient

from .data import COLLECTIONS

_BATCH = 500


async def backup(client: AsyncClient, file: Path) -> None:
    found = {}
    for name in COLLECTIONS:
        async for document in client.collection_group(name).stream():
            found[document.reference.path] = document.to_dict()
    with file.open("w") as target:
        target.write(json.dumps(found))


async def restore(client: AsyncClient, file: Path) -> None:
    every = iter(json.loads(file.read_text()).items())
    while some := list(islice(every, _BATCH)):
        batch = client.batch()
        for path, fields in some:
            batch.set(client.document(path), fields)
        await batch.commit()


async def run(action: str, project: str, file: Path) -> None:
    client = AsyncClient(project=project)
    await {"backup": backup, "restore": restore}[action](client, file)


if __name__ == "__main__":
    print(json.dumps({"start_cpu": time.process_time()}))
    asyncio.run(run(sys.argv[1], sys.argv[3], Path(sys.argv[4])))
