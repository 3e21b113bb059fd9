"""Google's emulator on a port of its own: how it is found, that it starts and ends in every way, and what it says."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import pytest

from msr_async.errors import DatabaseError, ToolMissing
from msr_async.testing import emulator as module
from msr_async.testing import serving
from msr_async.testing.emulator import FirestoreEmulator, find_emulator, find_java
from tests.support.firestore import require_emulator, running_elsewhere

JAR = "platform/cloud-firestore-emulator/cloud-firestore-emulator.jar"


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """No place of packages is looked at."""
    monkeypatch.setattr(module, "_SDKS", ())


@pytest.fixture(scope="module")
def needed() -> None:
    """For a test that starts one."""
    require_emulator()


@pytest.fixture
def temporary(needed: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary folder of the test's own, so that leftovers are seen; made after `tmp_path`, which is not to be in it."""
    with tempfile.TemporaryDirectory(prefix="msr-test-") as name:
        monkeypatch.setattr("tempfile.tempdir", name)
        yield Path(name)


def sdk(folder: Path) -> Path:
    """A folder as the Google Cloud SDK's; its jar."""
    jar = folder / JAR
    jar.parent.mkdir(parents=True)
    jar.touch()
    return jar


def program(path: Path, text: str = "#!/bin/sh\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def answers(address: str) -> bool:
    with urllib.request.urlopen(f"http://{address}/", timeout=10) as answer:
        return bool(answer.status == 200)


def lives(pid: int) -> bool:
    listed = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(listed.strip()) and not listed.startswith("Z")


def wait_until(true: Callable[[], bool], *, seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.05)
    return true()


# -- where it is looked for ------------------------------------------------------------------------


def test_the_variable_comes_first(tmp_path: Path) -> None:
    named = tmp_path / "named.jar"
    named.touch()
    sdk(tmp_path / "sdk")
    program(tmp_path / "sdk" / "bin" / "gcloud")
    environ = {"MSR_FIRESTORE_EMULATOR_JAR": str(named), "PATH": str(tmp_path / "sdk" / "bin")}
    assert find_emulator(environ) == named


@pytest.mark.parametrize("name", ["gone.jar", "."])
def test_a_variable_that_names_no_file_is_an_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(ToolMissing, match=r"MSR_FIRESTORE_EMULATOR_JAR names .* unset the variable"):
        find_emulator({"MSR_FIRESTORE_EMULATOR_JAR": str(tmp_path / name)})


def test_then_comes_the_folder_of_gcloud_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sdk(tmp_path / "package")
    monkeypatch.setattr(module, "_SDKS", (str(tmp_path / "package"),))
    jar = sdk(tmp_path / "own")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "gcloud").symlink_to(program(tmp_path / "own" / "bin" / "gcloud"))
    assert find_emulator({"PATH": str(tmp_path / "bin")}) == jar


def test_then_come_the_places_of_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(module, "_SDKS", (str(tmp_path / "empty"), "~/google-cloud-sdk"))
    jar = sdk(tmp_path / "google-cloud-sdk")
    program(tmp_path / "bin" / "gcloud")  # an SDK without the emulator does not end the search
    assert find_emulator({"PATH": str(tmp_path / "bin")}) == jar


@pytest.mark.usefixtures("nowhere")
def test_without_one_there_is_none(tmp_path: Path) -> None:
    assert find_emulator({"PATH": str(tmp_path)}) is None


def test_java_is_the_one_that_is_named_then_that_of_java_home_then_the_one_on_path(tmp_path: Path) -> None:
    named, home, on_path = (program(tmp_path / name / "bin" / "java") for name in ("named", "home", "path"))
    environ = {"MSR_JAVA": str(named), "JAVA_HOME": str(home.parents[1]), "PATH": str(on_path.parent)}
    assert find_java(environ) == named
    del environ["MSR_JAVA"]
    assert find_java(environ) == home
    environ["JAVA_HOME"] = str(tmp_path / "gone")
    assert find_java(environ) == on_path
    assert find_java({"PATH": str(tmp_path)}) is None


@pytest.mark.parametrize("name", ["gone", "."])
def test_a_java_that_is_named_and_no_program_is_an_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(ToolMissing, match=r"MSR_JAVA names .* unset the variable"):
        find_java({"MSR_JAVA": str(tmp_path / name)})


# -- what it says before it starts -----------------------------------------------------------------


@pytest.mark.usefixtures("nowhere")
def test_without_an_emulator_it_says_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("MSR_FIRESTORE_EMULATOR_JAR", raising=False)
    with pytest.raises(ToolMissing, match=r"no Firestore emulator .*gcloud components install"):
        FirestoreEmulator().start()


def test_without_java_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.delenv("MSR_JAVA", raising=False)
    with pytest.raises(ToolMissing, match=r"needs Java, and there is none.* Java 17 or newer"):
        FirestoreEmulator(jar=sdk(tmp_path)).start()


def test_a_jar_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ToolMissing, match=r"no file .*gone\.jar"):
        FirestoreEmulator(jar=tmp_path / "gone.jar").start()


@pytest.mark.parametrize("heap", ["", "1", "1gb", "g", "-1g", "1g -version"])
def test_a_heap_that_java_would_not_take_is_refused(heap: str) -> None:
    with pytest.raises(ToolMissing, match="512m"):
        FirestoreEmulator(heap=heap)


def test_one_that_does_not_start_shows_the_end_of_what_it_said(
    temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = program(tmp_path / "java", "#!/bin/sh\nseq 100\necho 'UnsupportedClassVersionError' >&2\nexit 1\n")
    monkeypatch.setenv("MSR_JAVA", str(fake))
    with pytest.raises(
        DatabaseError, match=r"did not start(?s:.*)UnsupportedClassVersionError(?s:.*)Java 17"
    ) as caught:
        FirestoreEmulator(jar=sdk(tmp_path)).start()
    assert "100" in str(caught.value)
    assert "\n50\n" not in str(caught.value)
    assert list(temporary.iterdir()) == []


def test_one_that_never_gets_ready_is_given_up_and_shows_what_it_said(
    temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = tmp_path / "starts"
    fake = program(tmp_path / "java", f"#!/bin/sh\necho once >> {starts}\necho 'still loading'\nexec sleep 100\n")
    monkeypatch.setenv("MSR_JAVA", str(fake))
    monkeypatch.setattr(serving, "START_DEADLINE", 0.5)
    with pytest.raises(DatabaseError, match=r"did not start(?s:.*)still loading"):
        FirestoreEmulator(jar=sdk(tmp_path)).start()
    assert starts.read_text() == "once\n"
    assert list(temporary.iterdir()) == []


def test_a_port_that_is_taken_is_named_at_once(temporary: Path) -> None:
    with socket.socket() as taken:
        taken.bind((serving.HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(DatabaseError, match=rf"port {port} of 127\.0\.0\.1 is taken"):
            FirestoreEmulator().start(port=port)
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("work", [lambda item: item.address, lambda item: item.pid, lambda item: item.kill()])
def test_one_that_does_not_run_has_no_address_and_no_process(work: Callable[[FirestoreEmulator], object]) -> None:
    emulator = FirestoreEmulator()
    with pytest.raises(DatabaseError, match="not running"):
        work(emulator)
    assert repr(emulator) == "<FirestoreEmulator, not running>"
    emulator.stop()


# -- its life --------------------------------------------------------------------------------------


async def test_it_answers_inside_the_block_and_is_gone_soon_after_it(temporary: Path) -> None:
    async with FirestoreEmulator() as emulator:
        address, pid = emulator.address, emulator.pid
        assert answers(address)
        assert repr(emulator) == f"<FirestoreEmulator, {address}>"
        assert [item.name[:14] for item in temporary.iterdir()] == ["msr-firestore-"]
        with pytest.raises(DatabaseError, match="already running"):
            emulator.start()
        started = time.monotonic()
    assert time.monotonic() - started < 4  # it heard the first signal
    assert not lives(pid)
    assert list(temporary.iterdir()) == []


async def test_a_port_that_was_taken_meanwhile_is_left_to_its_owner(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with FirestoreEmulator() as first:
        offers = [int(first.address.rpartition(":")[2]), serving.free_port()]
        monkeypatch.setattr(serving, "free_port", lambda: offers.pop(0))
        async with FirestoreEmulator() as second:
            assert offers == []
            assert second.address != first.address
            assert answers(second.address)
        assert answers(first.address)


def test_one_that_was_killed_starts_again_at_its_port(temporary: Path) -> None:
    emulator = FirestoreEmulator()
    emulator.start()
    address, pid = emulator.address, emulator.pid
    try:
        port = emulator.kill()
        assert not lives(pid)
        assert list(temporary.iterdir()) == []
        emulator.start(port=port)
        assert emulator.address == address
        assert emulator.pid != pid
        assert answers(address)
    finally:
        emulator.stop()


def in_a_child(temporary: Path, body: str) -> subprocess.Popen[str]:
    """A Python process that starts one in `temporary`, prints its process id, and goes on with `body`."""
    text = f"""
        import os, tempfile, time
        tempfile.tempdir = {str(temporary)!r}
        from msr_async.testing.emulator import FirestoreEmulator
        emulator = FirestoreEmulator()
        emulator.start()
        print(emulator.pid, flush=True)
        {body}
    """
    command = [sys.executable, "-c", textwrap.dedent(text)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)


@pytest.mark.parametrize("body", ["time.sleep(100)", "os._exit(0)"], ids=["is killed", "forgot to stop it"])
def test_it_ends_with_a_program_that(temporary: Path, body: str) -> None:
    with in_a_child(temporary, body) as child:
        assert child.stdout
        pid = int(child.stdout.readline())
        child.kill()
    assert wait_until(lambda: not lives(pid) and not list(temporary.iterdir()))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a death signal is Linux's")
def test_it_dies_with_its_keeper_too(temporary: Path) -> None:
    emulator = FirestoreEmulator()
    emulator.start()
    pid = emulator.pid
    keeper = subprocess.run(["ps", "-o", "ppid=", "-p", str(pid)], capture_output=True, text=True, check=True).stdout
    os.kill(int(keeper), signal.SIGKILL)
    assert wait_until(lambda: not lives(pid))
    emulator.stop()
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("delay", [0.0, 0.4])
async def test_a_cancelled_start_leaves_nothing(temporary: Path, delay: float) -> None:
    with anyio.move_on_after(delay) as scope:
        async with FirestoreEmulator():
            await anyio.sleep(10)
    assert scope.cancelled_caught
    assert list(temporary.iterdir()) == []


# -- what the tests do with it ---------------------------------------------------------------------


@pytest.fixture
def missing(nowhere: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without an emulator."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("MSR_FIRESTORE_EMULATOR_JAR", raising=False)


@pytest.mark.usefixtures("missing")
def test_a_missing_emulator_skips_tests_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MSR_REQUIRE_SERVICES", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"no Firestore emulator here: .*CONTRIBUTING\.md"):
        require_emulator()


@pytest.mark.usefixtures("missing")
def test_a_missing_emulator_fails_tests_where_services_are_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSR_REQUIRE_SERVICES", "1")
    with pytest.raises(pytest.fail.Exception, match="no Firestore emulator here"):
        require_emulator()


def test_a_missing_java_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSR_FIRESTORE_EMULATOR_JAR", str(sdk(tmp_path)))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.delenv("MSR_JAVA", raising=False)
    monkeypatch.delenv("MSR_REQUIRE_SERVICES", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no Java here"):
        require_emulator()


def test_a_variable_that_names_nothing_fails_tests_instead_of_skipping_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MSR_FIRESTORE_EMULATOR_JAR", str(tmp_path / "gone.jar"))
    monkeypatch.delenv("MSR_REQUIRE_SERVICES", raising=False)
    with pytest.raises(pytest.fail.Exception, match="MSR_FIRESTORE_EMULATOR_JAR names"):
        require_emulator()


def test_tests_use_the_emulator_that_the_variable_names(
    firestore_emulator: FirestoreEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", firestore_emulator.address)
    assert running_elsewhere() == firestore_emulator.address
    monkeypatch.delenv("FIRESTORE_EMULATOR_HOST")
    assert running_elsewhere() is None


def test_an_address_where_nobody_answers_fails_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"127.0.0.1:{serving.free_port()}"
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", address)
    with pytest.raises(pytest.fail.Exception, match=f"names {address}, where no emulator answers"):
        running_elsewhere()
