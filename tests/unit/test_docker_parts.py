"""The parts of the Docker runtime that need no Docker: frames, capture, marks, sentences, times."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.runtimes import Exit
from nodes.runtimes.docker import clock, failures
from nodes.runtimes.docker.ability import Ability
from nodes.runtimes.docker.capture import Capture
from nodes.runtimes.docker.marks import Marks
from nodes.runtimes.docker.meter import Meter
from nodes.runtimes.docker.stream import STDERR, STDOUT, Frames
from observer.cgroups import Layout, Tree
from tasks.errors import NodeFault
from tasks.outcome import MOST_POINTS, Usage, UsagePoint
from tasks.states import StopCause

PIECES = st.lists(st.tuples(st.sampled_from([STDOUT, STDERR]), st.binary(max_size=40)), max_size=12)


def framed(pieces: list[tuple[int, bytes]]) -> bytes:
    """What the engine sends for these writes."""
    return b"".join(bytes([number, 0, 0, 0]) + len(data).to_bytes(4, "big") + data for number, data in pieces)


def of(pieces: list[tuple[int, bytes]], stream: int) -> bytes:
    """All that went to one stream."""
    return b"".join(data for number, data in pieces if number == stream)


@given(PIECES, st.integers(1, 30))
def test_frames_come_apart_however_they_are_cut(pieces: list[tuple[int, bytes]], step: int) -> None:
    data, frames = framed(pieces), Frames()
    found = [got for at in range(0, len(data), step) for got in frames.feed(data[at : at + step])]
    assert of(found, STDOUT) == of(pieces, STDOUT)
    assert of(found, STDERR) == of(pieces, STDERR)


def test_capture_keeps_so_many_bytes_of_both(tmp_path: Path) -> None:
    capture = Capture(tmp_path / "out", tmp_path / "err", 5)
    for stream, data in ((STDOUT, b"abc"), (STDERR, b"def"), (STDOUT, b"ghi"), (0, b"what")):
        capture.write(stream, data)
    capture.close()
    assert (tmp_path / "out").read_bytes() + (tmp_path / "err").read_bytes() == b"abcde"
    assert (capture.total_bytes, capture.kept_bytes, capture.cut_bytes) == (9, 5, 4)


@given(PIECES, st.integers(0, 12), st.one_of(st.none(), st.integers(0, 100)))
def test_taking_everything_again_changes_nothing_that_was_kept(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[tuple[int, bytes]], seen: int, limit: int | None
) -> None:
    folder = tmp_path_factory.mktemp("capture")
    first = Capture(folder / "out", folder / "err", limit)
    for stream, data in pieces[:seen]:
        first.write(stream, data)
    first.close()
    second = Capture(folder / "out", folder / "err", limit, again=True)
    for stream, data in pieces:
        second.write(stream, data)
    second.close()
    kept = (folder / "out").read_bytes(), (folder / "err").read_bytes()
    assert of(pieces, STDOUT).startswith(kept[0])
    assert of(pieces, STDERR).startswith(kept[1])
    total = sum(len(data) for _, data in pieces)
    assert sum(map(len, kept)) == second.kept_bytes == (total if limit is None else min(total, limit))
    assert second.cut_bytes == total - second.kept_bytes


def test_merged_output_is_written_anew_from_the_log(tmp_path: Path) -> None:
    path = tmp_path / "both"
    path.write_bytes(b"other order")
    capture = Capture(path, path, None, again=True)
    capture.write(STDOUT, b"one")
    capture.write(STDERR, b"two")
    capture.close()
    assert path.read_bytes() == b"onetwo"


def test_full_disk_is_the_nodes_fault() -> None:
    capture = Capture(Path("/dev/full"), Path("/dev/full"), None)
    with pytest.raises(NodeFault) as fault:
        capture.write(STDOUT, b"x")
    capture.close()
    assert fault.value.kind == "node_disk"


def test_marks_survive_and_a_broken_one_is_none(tmp_path: Path) -> None:
    end = Exit(3, Usage(series=(UsagePoint(t=1, memory_bytes=2, cpu_seconds=3, pids=4),)), stopped=StopCause.TIME_LIMIT)
    marks = Marks(tmp_path, "a")
    assert (marks.started, marks.fed, marks.exit()) == (False, False, None)
    marks.set_started()
    marks.set_fed()
    marks.set_exit(end)
    again = Marks(tmp_path, "a")
    assert (again.started, again.fed, again.exit()) == (True, True, end)
    (tmp_path / ".a.exit.json").write_text("{")
    assert again.exit() is None


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ('OCI runtime create failed: x: exec: "foo": executable file not found in $PATH: unknown', 127),
        ('failed: exec: "/foo": stat /foo: no such file or directory: unknown', 127),
        ('failed: exec: "/etc": permission denied: unknown', 126),
        ('failed: exec: "/a/b": stat /a/b: not a directory: unknown: Are you trying to mount', 127),
        ("no space left on device", None),
    ],
)
def test_sentences_of_the_engine(message: str, code: int | None) -> None:
    found = failures.by_engine(message)
    assert (found[0] if found else None) == code
    assert failures.is_out_of_memory("container init was OOM-killed (memory limit too low?)")


@pytest.mark.parametrize(
    ("exit_code", "text", "found"),
    [
        (127, "[FATAL tini (7)] exec foo failed: No such file or directory\n", (127, "foo: No such file or directory")),
        (126, "[FATAL tini (7)] exec /etc failed: Permission denied\n", (126, "/etc: Permission denied")),
        (1, "[FATAL tini (7)] exec ./x failed: Exec format error", (126, "./x: Exec format error")),
        (1, "sh: foo: not found\n", None),
        (0, "[FATAL tini (7)] exec foo failed: No such file or directory\n", None),
        (127, "before\n[FATAL tini (7)] exec foo failed: No such file or directory\n", None),
        (127, "x" * 5000, None),
    ],
)
def test_sentences_of_docker_init(tmp_path: Path, exit_code: int, text: str, found: tuple[int, str] | None) -> None:
    path = tmp_path / "stderr"
    path.write_text(text)
    assert failures.by_init(exit_code, path) == found
    assert failures.by_init(exit_code, tmp_path / "nowhere") is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2024-05-01T10:00:00.123456789Z", datetime(2024, 5, 1, 10, 0, 0, 123456, UTC).timestamp()),
        ("2024-05-01T10:00:00Z", datetime(2024, 5, 1, 10, tzinfo=UTC).timestamp()),
        ("2024-05-01T12:00:00.5+02:00", datetime(2024, 5, 1, 10, 0, 0, 500000, UTC).timestamp()),
        ("0001-01-01T00:00:00Z", None),
    ],
)
def test_times_of_the_engine(text: str, seconds: float | None) -> None:
    assert clock.engine_seconds(text) == seconds


def test_start_of_a_process_is_before_now() -> None:
    started = clock.process_started_at(os.getpid())
    assert started is not None
    assert 0 < started <= clock.boot_seconds()
    assert clock.process_started_at(2**22 + 1) is None


def test_what_an_engine_cannot_do_is_not_promised() -> None:
    able = Ability.of(
        {"InitBinary": "docker-init", "InitCommit": {"ID": "N/A"}, "CgroupVersion": "2"}, counts_cpu=False
    )
    assert able.limits == {"time", "output", "network"}
    assert not any((able.has_init, able.limits_swap, able.has_local_log, able.systemd, able.live_restore))
    assert able.cgroup_version == 2


def test_a_meter_without_a_group_measures_nothing_but_time() -> None:
    meter = Meter(None, spare_processes=1, forgets=True)
    meter.read(1.0)
    meter.look(2.0)
    assert (meter.started, meter.kill()) == (False, False)
    assert meter.usage(1.5) == Usage(wall_seconds=1.5)


def test_a_meter_reads_when_something_ran_or_when_a_point_is_due(tmp_path: Path) -> None:
    here = tmp_path / "grid/a1"
    here.mkdir(parents=True)
    (here / "cpu.stat").write_text("usage_usec 500000\n")
    (here / "memory.current").write_text("4096\n")
    meter = Meter(Tree(Layout(unified=tmp_path)).open("a1"), spare_processes=0, forgets=False)
    assert meter.look(0.1).cpu_seconds == 0.5
    (here / "memory.current").write_text("8192\n")
    assert meter.look(0.2).memory_bytes == 4096
    assert meter.look(1.2).memory_bytes == 8192
    (here / "cpu.stat").write_text("usage_usec 600000\n")
    assert meter.look(1.3).cpu_seconds == 0.6
    assert [(point.t, point.memory_bytes) for point in meter.usage(1.4).series] == [(1.2, 8192)]


def test_the_series_of_a_long_task_stays_short_and_reaches_to_its_end(tmp_path: Path) -> None:
    here = tmp_path / "grid/a1"
    here.mkdir(parents=True)
    (here / "io.stat").write_text("8:0 rbytes=4096 wbytes=8192 rios=1 wios=2\n")
    meter = Meter(Tree(Layout(unified=tmp_path)).open("a1"), spare_processes=0, forgets=False)
    for second in range(1, 3 * MOST_POINTS):
        meter.look(float(second))
    series = meter.usage(3.0 * MOST_POINTS).series
    assert MOST_POINTS / 2 <= len(series) < MOST_POINTS
    assert 3 * MOST_POINTS - series[-1].t <= 5
    assert (series[-1].io_read_bytes, series[-1].io_write_bytes) == (4096, 8192)
