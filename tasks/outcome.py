"""What a node saw of one attempt: evidence, usage, files. It is reported once and judged by the server."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tasks.limits import Limits
from tasks.model import Record
from tasks.states import StopCause

ExitCode = Annotated[int, Field(ge=-(2**31), lt=2**31)]
"""What a program returns: 32 bits, whatever the platform."""


class MissingOutput(Record):
    """A required ``collect`` rule that matched nothing, with the nearest names that do exist."""

    glob: str
    near: tuple[str, ...] = ()


class TooLargeFile(Record):
    """A file that should have come home and was larger than is taken; ``size`` and ``most`` are bytes."""

    path: str
    size: int
    most: int | None = None


class NodeFaultEvidence(Record):
    """A fault of the grid itself (or of an image): ``kind`` names the verdict, ``message`` is the evidence in words."""

    kind: str
    message: str


class Evidence(Record):
    """Facts about how the user's program ended, before any judgement.

    ``exit_code`` is None when the program never started. ``start_error`` is the engine's sentence when the program of
    ``args[0]`` could not be executed (then ``exit_code`` is 126 or 127). Counters are those of the whole attempt.
    """

    exit_code: ExitCode | None = None
    start_error: str = ""
    stopped: StopCause | None = None
    stop_reason: str = ""
    oom_kills: int = 0
    pids_refused: int = 0
    storage_full: bool = False
    files_full: bool = False
    output_bytes: int = 0
    output_cut_bytes: int = 0
    missing: tuple[MissingOutput, ...] = ()
    refused_files: tuple[str, ...] = ()
    too_large: tuple[TooLargeFile, ...] = ()
    fault: NodeFaultEvidence | None = None


MOST_POINTS = 300
"""Points of a series that a node sends."""


class UsagePoint(Record):
    """One point of the 1 Hz series: ``t`` is seconds since the program started.

    ``cpu_seconds`` and the bytes read and written are cumulative; None where the node's kernel does not tell.
    """

    t: float
    memory_bytes: int
    cpu_seconds: float
    pids: int
    io_read_bytes: int | None = None
    io_write_bytes: int | None = None


class Usage(Record):
    """Resources that the task used, the harness excluded; None where the node's kernel does not tell."""

    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    cpu_user_seconds: float = 0.0
    cpu_system_seconds: float = 0.0
    memory_peak_bytes: int | None = None
    pids_peak: int | None = None
    io_read_bytes: int | None = None
    io_write_bytes: int | None = None
    storage_peak_bytes: int | None = None
    # Nodes that sent twice as many are still about.
    series: Annotated[tuple[UsagePoint, ...], Field(max_length=2 * MOST_POINTS)] = ()


class OutputFile(Record):
    """A file that came back: ``path`` is relative to the result folder, the content is the blob ``sha256``."""

    path: Annotated[str, Field(max_length=4096)]
    sha256: str
    size: int
    executable: bool = False


class LogTail(Record):
    """The end of a captured stream that the live log did not carry yet: base64 of the bytes from ``offset`` on."""

    offset: int
    data: str


class PhaseTimes(Record):
    """Seconds spent in each phase of an attempt; ``queue`` is filled in by the server."""

    queue: float = 0.0
    stage_in: float = 0.0
    pull: float = 0.0
    run: float = 0.0
    collect: float = 0.0
    upload: float = 0.0


class Outcome(Record):
    """The report of a node about one attempt.

    ``inline`` carries the content of small files as base64 by sha256, so that a small result costs one request.
    """

    attempt: str
    token: str
    evidence: Evidence
    usage: Usage = Usage()
    phases: PhaseTimes = PhaseTimes()
    limits: Limits = Limits()
    not_enforced: tuple[str, ...] = ()
    image_digest: str = ""
    files: tuple[OutputFile, ...] = ()
    inline: dict[str, str] = {}
    log_tails: dict[str, LogTail] = {}
