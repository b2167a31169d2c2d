"""Running a task on this machine, beside any grid: from its folder to the folder of its result.

What runs it is ``python -m nodes execute``, a process with the parts of a node; here its order is made of a folder, and
its result is brought to where the caller wants it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any

from grid.folder import SPEC_NAMES, LocalFile, Overrides, Package, read_folder
from grid.saving import Saver
from observer.protocol import DEFAULT_SOCKET, KOLEJKA_SOCKET
from tasks.dialects.kolejka import DIALECT, KOLEJKA, WARNINGS, read_task
from tasks.dialects.kolejka_results import write_result
from tasks.dialects.kolejka_units import read_switch
from tasks.errors import Fault, GridError, SpecError
from tasks.limits import DEFAULT_LIMITS, LIMIT_NAMES, Limits
from tasks.order import LoneOrder, Order, StagedFile
from tasks.profiles import Profile
from tasks.result import Result
from tasks.spec import TaskSpec, parse_json, parse_spec

KOLEJKA_RECORD = "kolejka_result.json"
INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Ways:
    """How to run a task here: as the options of ``grid worker execute``; None leaves the choice to the program."""

    directory: Path | None = None
    observer: Path | None = None
    pull: bool = True
    echo: bool = True
    shell: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """A task that can be run here: every file of it is on this machine, under its sha256.

    ``limits`` are the effective ones. ``kolejka`` tells whether its description was in kolejka's words.
    """

    id: str
    spec: TaskSpec
    limits: Limits
    files: tuple[StagedFile, ...]
    contents: Mapping[str, str] = field(default_factory=dict)
    inline: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def kolejka(self) -> bool:
        """True when the task was described in kolejka's words."""
        return self.spec.labels.get(DIALECT) == KOLEJKA


def job_of(task_dir: str | os.PathLike[str], limits: Mapping[str, object], profile: str | None = None) -> Job:
    """The task in a folder, ``task.json`` or ``kolejka_task.json``. Raises SpecError with every fault."""
    folder = Path(os.fsdecode(task_dir))
    ours, theirs = (folder / name for name in SPEC_NAMES)
    if ours.exists() or not theirs.is_file():
        return job_of_package(read_folder(folder, Overrides(limits=limits)), profile=profile)
    task_id, package = kolejka_package(folder, {}, profile or Profile.JUDGE, Overrides(limits=limits))
    return job_of_package(package, task_id)


def job_of_package(package: Package, task_id: str = "", profile: str | None = None) -> Job:
    """A task whose files are at hand. Raises SpecError."""
    extra: dict[str, object] = {"profile": profile} if profile else {}
    spec = parse_spec({**package.spec, **extra}, default_name=package.name)
    if not spec.image:
        raise SpecError([Fault("image", "is missing; a container needs one", 'write "image": "ubuntu", say')])
    spec, files, inline = _staged(spec, package)
    return Job(
        id=task_id or uuid.uuid4().hex,
        spec=spec,
        limits=effective(spec.limits),
        files=files,
        contents={sha256: str(one.path.absolute()) for sha256, one in package.files.items() if sha256 not in inline},
        inline=inline,
        secrets=secrets_here(spec),
    )


def effective(asked: Limits) -> Limits:
    """The limits of a task that runs here: what it asks, else what a grid gives where its operator decided nothing."""
    said = {name: value for name in LIMIT_NAMES if (value := getattr(asked, name)) is not None}
    return DEFAULT_LIMITS.model_copy(update={"network": False, **said})


def secrets_here(spec: TaskSpec) -> dict[str, str]:
    """The secrets that a task names, from our environment: a grid gives its own to nobody. Raises SpecError."""
    missing = [name for name in spec.secrets if name not in os.environ]
    if missing:
        raise SpecError(
            Fault("secrets", f'"{name}" is not in the environment', f"set the variable {name}") for name in missing
        )
    return {name: os.environ[name] for name in spec.secrets}


def run(job: Job, ways: Ways, keep: Path) -> Result:
    """Run a job; what came of it is in the folder ``keep``. Raises GridError when it could not be run at all."""
    order = Order(
        attempt=f"lone{secrets.token_hex(8)}",
        task=job.id,
        number=1,
        token=secrets.token_hex(8),
        spec=job.spec,
        limits=job.limits,
        files=job.files,
        inline=dict(job.inline),
        secrets=dict(job.secrets),
    )
    path = keep / "order.json"
    keep.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.touch(mode=0o600)
    path.write_text(LoneOrder(order=order, contents=dict(job.contents)).model_dump_json(), encoding="utf-8")
    command = [sys.executable, "-m", "nodes", "execute", str(path), str(keep), *_options(ways)]
    with subprocess.Popen(command) as process, _passed_on(process):
        status = process.wait()
    path.unlink()
    record = keep / "result.json"
    if status or not record.exists():
        raise GridError("the task could not be run here")
    return Result.model_validate_json(record.read_bytes())


def execute(job: Job, ways: Ways, result_dir: Path, *, force: bool = False) -> Result:
    """Run a job and write its files, its logs and its record into ``result_dir``. Raises GridError."""
    Saver(result_dir, force=force)  # a folder that cannot be had is found out before
    with tempfile.TemporaryDirectory(prefix="grid-") as scratch:
        keep = Path(scratch)
        result = run(job, ways, keep)
        save(job, result, keep, result_dir, force=force)
    return result


def save(job: Job, result: Result, keep: Path, result_dir: Path, *, force: bool = False) -> None:
    """Write what a run left in ``keep`` into the folder of its result. Raises GridError."""
    saver = Saver(result_dir, force=force)
    for name, one in result.files.items():
        _copy(keep / "blobs" / str(one.reference), saver, name, executable=one.executable)
    named = {"stdout": job.spec.stdout, "stderr": job.spec.stderr}
    for stream in (path for path in sorted((keep / "logs").iterdir()) if not named[path.name]):
        if stream.stat().st_size:
            _copy(stream, saver, f"grid-{stream.name}.log")
    files = {name: one.model_copy(update={"path": name}) for name, one in result.files.items()}
    placed = result.model_copy(update={"files": files})
    saver.write_record((placed.model_dump_json(indent=2) + "\n").encode(), taken=frozenset(result.files))
    if job.kolejka:
        written = write_result(result, job.spec.labels)
        written["files"] = {name: {"path": name} for name in result.files}
        with saver.open(KOLEJKA_RECORD) as stream_out:
            stream_out.write(json.dumps(written, indent=2).encode())


def _copy(source: Path, saver: Saver, name: str, *, executable: bool = False) -> None:
    with source.open("rb") as content, saver.open(name, executable=executable) as target:
        shutil.copyfileobj(content, target)


def _staged(spec: TaskSpec, package: Package) -> tuple[TaskSpec, tuple[StagedFile, ...], dict[str, str]]:
    """The spec with references only, where each file goes, and small contents as base64 by sha256."""
    files: dict[str, StagedFile] = {}
    inline: dict[str, str] = {}
    faults: list[Fault] = []
    for name, one in spec.files.items():
        found = _found(one.content, one.reference, package.files)
        if found is None:
            faults.append(Fault(f"files.{name}", "its content is not on this machine", "name a file of the folder"))
            continue
        sha256, size, content = found
        if content is not None:
            inline[sha256] = base64.b64encode(content).decode()
        files[name] = StagedFile(path=name, sha256=sha256, size=size, executable=bool(one.executable))
    if faults:
        raise SpecError(faults)
    references = {
        name: {"reference": one.sha256, **({"executable": True} if one.executable else {})}
        for name, one in files.items()
    }
    said = spec.model_dump(mode="json", exclude_defaults=True) | ({"files": references} if references else {})
    return parse_spec(said, default_name=spec.name), tuple(files.values()), inline


def _found(
    content: str | None, reference: str | None, files: Mapping[str, LocalFile]
) -> tuple[str, int, bytes | None] | None:
    """A file's sha256, its size, and what is in it when that is at hand; None when it is not here."""
    if content is not None:
        data = content.encode()
        return _sha256(data), len(data), data
    local = files.get(reference or "")
    return None if local is None else (local.sha256, local.size, local.content)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def kolejka_package(
    folder: Path,
    limits: Mapping[str, object],
    profile: str = Profile.JUDGE,
    overrides: Overrides | None = None,
) -> tuple[str, Package]:
    """The id and the contents of a folder that kolejka has described; ``limits``, in its units, go before those in it.

    kolejka's containers have root and a root file system to write to: that is the profile of judges. Raises SpecError.
    """
    try:
        data = parse_json((folder / SPEC_NAMES[1]).read_bytes())
    except OSError as error:
        raise SpecError([Fault("", f"{folder / SPEC_NAMES[1]}: {error.strerror}")]) from error
    said = data.get("limits")
    data["limits"] = {**said, **limits} if isinstance(said, Mapping) else dict(limits)
    given = data.get("files")
    reading = read_task({**data, "files": {}}, network_allowed=_asks_for_network(data))
    if reading.refused:
        raise SpecError(reading.refused)
    labels = {DIALECT: KOLEJKA} | ({WARNINGS: "; ".join(reading.warnings)} if reading.warnings else {})
    files = {name: _path_of(name, source) for name, source in given.items()} if isinstance(given, dict) else {}
    spec = {**reading.spec, "labels": labels, "profile": str(profile)} | ({"files": files} if files else {})
    package = read_folder(folder, replace(overrides or Overrides(), description=spec))
    return str(data.get("id") or uuid.uuid4().hex), package


def _asks_for_network(data: Mapping[str, Any]) -> bool:
    """In kolejka's words saying nothing is asking for it; what runs here gets it only when it is named."""
    limits = data.get("limits")
    said = limits.get("network") if isinstance(limits, Mapping) else None
    return said is not None and read_switch(said)


def _path_of(name: str, source: object) -> dict[str, object]:
    """kolejka's word for where a file is: a path, null for its own name, or an object with one of the two."""
    if isinstance(source, dict):
        return {"path": str(source.get("path") or name)}
    return {"path": name if source is None else str(source)}


def _options(ways: Ways) -> Iterator[str]:
    if ways.directory is not None:
        yield from ("--dir", str(ways.directory))
    observer = ways.observer or next((path for path in (DEFAULT_SOCKET, KOLEJKA_SOCKET) if path.is_socket()), None)
    if observer is not None:
        yield from ("--observer", str(observer))
    for option, wanted in (("--no-pull", not ways.pull), ("--quiet", not ways.echo), ("--shell", ways.shell)):
        if wanted:
            yield option


@contextmanager
def _passed_on(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Signals that ask for the end are the task's: it is cancelled, and its result is still brought home."""

    def pass_on(number: int, frame: FrameType | None) -> None:
        process.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
