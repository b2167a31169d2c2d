"""The store after a server was killed: nothing half is kept, and nothing that another server is writing is swept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from grid.core.contents.store import DirectoryStore

# Begins an upload, says so, and never ends.
WRITER = """
import sys, time
from pathlib import Path
from grid.core.contents.store import DirectoryStore

def chunks():
    yield b"half"
    print("writing", flush=True)
    time.sleep(600)

DirectoryStore(Path(sys.argv[1])).put(chunks())
"""


def incoming(root: Path) -> list[Path]:
    """The uploads that are being written."""
    return list((root / "incoming").iterdir())


def test_what_a_killed_server_was_writing_is_swept_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "webapp.settings", "GRID_DIR": str(tmp_path / "grid")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as writer:
        try:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"writing\n"
            [path] = incoming(tmp_path)
            DirectoryStore(tmp_path)
            assert incoming(tmp_path) == [path]
        finally:
            writer.send_signal(signal.SIGKILL)
    assert incoming(tmp_path) == [path]
    store = DirectoryStore(tmp_path)
    assert incoming(tmp_path) == []
    assert store.put([b"whole"]).size == 5
    assert incoming(tmp_path) == []


def test_servers_that_start_during_an_upload_leave_it_alone(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    put = store.put(content(tmp_path))
    assert store.exists(put.sha256)


def content(root: Path) -> Iterator[bytes]:
    """A content in whose middle other servers start."""
    yield b"first "
    for _ in range(3):
        DirectoryStore(root)
    assert len(incoming(root)) == 1
    yield b"second"
