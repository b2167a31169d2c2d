"""The limits that a task runs under, and how those of the task, its user, the server and the node combine."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from tasks.model import Record
from tasks.units import format_size, parse_duration, parse_number, parse_size, parse_switch, parse_whole

# Docker refuses less than 6 MiB of memory and less than a hundredth of a processor.
MIN_MEMORY_BYTES = 6 * 1024**2
MIN_STORAGE_BYTES = 4096
MIN_CPUS = 0.01
MAX_CPUS = 4096
MAX_COUNT = 2**31 - 1

# What the JSON Schema shows; the parsers of tasks.units decide. ECMA 262 has no flag for "any case" inside a pattern.
_NUMBER = r"(\d+(\.\d*)?|\.\d+)"
SIZE_PATTERN = rf"^\s*{_NUMBER}\s*[kKmMgGtTpP]?([iI]?[bB])?\s*$"
TIME_PATTERN = rf"^\s*{_NUMBER}\s*([nNuUµμmM]?[sS]|[mM][iI][nN]|[hHdDwW])?\s*$"
_SWITCH_PATTERN = r"^\s*([tT][rR][uU][eE]|[fF][aA][lL][sS][eE]|[yY][eE][sS]|[nN][oO]|0|1)\s*$"
_PlainInput = Annotated[float, Field(ge=0)]
_SizeInput = _PlainInput | Annotated[str, Field(pattern=SIZE_PATTERN)]
_TimeInput = _PlainInput | Annotated[str, Field(pattern=TIME_PATTERN)]
NumberInput = float | Annotated[str, Field(pattern=rf"^\s*[+-]?{_NUMBER}\s*$")]
SwitchInput = bool | Annotated[int, Field(ge=0, le=1)] | Annotated[str, Field(pattern=_SWITCH_PATTERN)]


def memory_size(value: object) -> int:
    """Bytes of a memory limit, enough for a container; raises ValueError."""
    size = parse_size(value)
    if size < MIN_MEMORY_BYTES:
        raise ValueError(
            f"{format_size(size)} is too little; a container needs at least {format_size(MIN_MEMORY_BYTES)}"
        )
    return size


def _storage(value: object) -> int:
    size = parse_size(value)
    if size < MIN_STORAGE_BYTES:
        raise ValueError(
            f"{format_size(size)} is too little; a workspace needs at least {format_size(MIN_STORAGE_BYTES)}"
        )
    return size


def _some_time(value: object) -> float:
    seconds = parse_duration(value)
    if seconds <= 0:
        raise ValueError("must be more than 0; leave it out to set none")
    return seconds


def _cpus(value: object) -> float:
    cpus = parse_number(value)
    if not MIN_CPUS <= cpus <= MAX_CPUS:
        raise ValueError(f"{cpus:g} is not possible; write a number of processors from {MIN_CPUS} to {MAX_CPUS}")
    return cpus


def _count(value: object) -> int:
    return parse_whole(value, 0, MAX_COUNT)


def _some(value: object) -> int:
    return parse_whole(value, 1, MAX_COUNT)


Bytes = Annotated[int, BeforeValidator(parse_size, json_schema_input_type=_SizeInput)]
"""A size in bytes; input may be ``"64M"``."""
Seconds = Annotated[float, BeforeValidator(parse_duration, json_schema_input_type=_TimeInput)]
"""A duration in seconds; input may be ``"500ms"``."""
PositiveSeconds = Annotated[float, BeforeValidator(_some_time, json_schema_input_type=_TimeInput)]
"""A duration in seconds, more than 0."""
Switch = Annotated[bool, BeforeValidator(parse_switch, json_schema_input_type=SwitchInput)]
"""True or false."""
Count = Annotated[int, BeforeValidator(_count, json_schema_input_type=NumberInput)]
"""A whole number, 0 or more."""
PositiveCount = Annotated[int, BeforeValidator(_some, json_schema_input_type=NumberInput)]
"""A whole number, 1 or more."""
_Memory = Annotated[int, BeforeValidator(memory_size, json_schema_input_type=_SizeInput)]
_Storage = Annotated[int, BeforeValidator(_storage, json_schema_input_type=_SizeInput)]
_Cpus = Annotated[float, BeforeValidator(_cpus, json_schema_input_type=NumberInput)]


def _limit(description: str, *examples: object) -> Any:
    """A field that is None when nothing was said (Any, as pydantic's own Field is)."""
    return Field(default=None, description=description, examples=list(examples))


class Limits(Record):
    """What a task may use at most; null means that nothing was said.

    Input takes units (``64M``, ``2min``), the record holds plain numbers.
    """

    memory: _Memory | None = _limit("Memory of all processes together, page cache included, in bytes.", "64M", "1.5G")
    swap: Bytes | None = _limit("Swap beyond the memory, in bytes; 0 forbids swapping.", 0, "1G")
    cpus: _Cpus | None = _limit(
        "Processors; a whole number is pinned to cores where the node can, a fraction is a quota.", 1, 0.5
    )
    pids: PositiveCount | None = _limit("Processes and threads alive at one time.", 16)
    time: PositiveSeconds | None = _limit("Wall time of the program, in seconds.", "1s", "500ms", "2min")
    cpu_time: PositiveSeconds | None = _limit("Processor time of the whole process tree, in seconds.", "10s")
    storage: _Storage | None = _limit("Bytes in the task's folder, input files included.", "1G")
    files: PositiveCount | None = _limit("Files and folders in the task's folder, input files included.", 10000)
    output: Bytes | None = _limit("Bytes kept of stdout and stderr together.", "16M")
    network: Switch | None = _limit(
        "True asks for the network; it is given only where the server's policy allows it.", False
    )
    gpus: Count | None = _limit("Graphics cards.", 1)
    gpu_memory: Bytes | None = _limit("Memory that each of the cards must have, in bytes.", "8G")


LIMIT_NAMES: tuple[str, ...] = tuple(Limits.model_fields)

DEFAULT_LIMITS = Limits(
    memory=512 * 1024**2, swap=0, cpus=1, pids=256, time=3600, storage=1024**3, files=100_000, output=64 * 1024**2
)
"""What stands in for the limits that a task leaves open, unless an operator decides otherwise."""


def combine(*limits: Limits) -> Limits:
    """The strictest of several: the least that anybody said; the network only if nobody who spoke said no."""
    strictest: dict[str, object] = {}
    for name in LIMIT_NAMES:
        said = [value for one in limits if (value := getattr(one, name)) is not None]
        if said:
            # Of booleans, False is the least, which is just what the network needs.
            strictest[name] = min(said)
    return Limits.model_validate(strictest)
