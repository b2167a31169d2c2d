"""What a task says about being run again: the ``retry`` of ``task.json``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from tasks.fields import one_of, unique, whole
from tasks.limits import SIZE_PATTERN, NumberInput, PositiveSeconds, Seconds, memory_size
from tasks.model import Record
from tasks.units import parse_number
from tasks.verdicts import CLASS_OF, Verdict, VerdictClass
from tasks.words import shown

RETRY_WORDS: tuple[str, ...] = ("user", *(word for word in Verdict if CLASS_OF[word] is VerdictClass.USER))
# How often a task whose memory grows by a factor may run out of it, unless it says otherwise.
MEMORY_ATTEMPTS = 3
_MOST_SIZES = 20
_MEMORY_HELP = 'write a factor such as 2, or a list of sizes such as ["128M", "512M"]'


def _factor(value: object) -> float:
    factor = parse_number(value)
    if not 1 <= factor <= 10:
        raise ValueError(f"{factor:g} is not a factor from 1 to 10")
    return factor


def _memory(value: object) -> float | tuple[int, ...]:
    """A factor, or sizes in bytes from the smallest to the largest."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        if not 1 <= len(value) <= _MOST_SIZES:
            raise ValueError(f"has {len(value)} sizes, not 1 to {_MOST_SIZES}; {_MEMORY_HELP}")
        return tuple(sorted(memory_size(size) for size in value))
    try:
        factor = parse_number(value)
    except ValueError:
        raise ValueError(f"{shown(value)} is neither a factor nor a list; {_MEMORY_HELP}") from None
    if not 1 < factor <= 10:
        raise ValueError(f"{factor:g} is not a factor above 1, up to 10; {_MEMORY_HELP}")
    return factor


_RetryWord = Annotated[
    str,
    AfterValidator(one_of(RETRY_WORDS, "a verdict to retry on")),
    Field(json_schema_extra={"enum": list(RETRY_WORDS)}),
]
_Size = Annotated[float, Field(ge=0)] | Annotated[str, Field(pattern=SIZE_PATTERN)]
_Memory = Annotated[
    float | tuple[int, ...], BeforeValidator(_memory, json_schema_input_type=NumberInput | tuple[_Size, ...])
]


class Retry(Record):
    """When a task that ended with a verdict of class ``user`` is run again; faults of the grid are retried anyway.

    ``memory`` has a budget of its own: while it is set, ``memory_limit`` is not counted among ``attempts``.
    """

    attempts: Annotated[int, whole(1, 100)] | None = Field(
        default=None,
        description="How often to run the task at most, the first time included; may be left out where memory is set.",
        examples=[3],
    )
    on: Annotated[tuple[_RetryWord, ...], AfterValidator(unique)] = Field(
        default=("exit_code", "signal"),
        description="The verdicts that are worth another try; user stands for all of that class.",
    )
    exit_codes: Annotated[tuple[Annotated[int, whole(1, 255)], ...], AfterValidator(unique)] = Field(
        default=(),
        description="The exit codes that are worth another try (128+n for signal n); by default all that on allows.",
        examples=[[75]],
    )
    delay: Seconds = Field(
        default=0.0,
        description="Seconds to wait before the second run. Up to a tenth is added at random, so that tasks which "
        "failed together do not come back together.",
        examples=["10s"],
    )
    backoff: Annotated[float, BeforeValidator(_factor, json_schema_input_type=NumberInput)] = Field(
        default=1.0, description="Factor by which the delay grows from one run to the next, 1 to 10.", examples=[2]
    )
    max_delay: PositiveSeconds | None = Field(
        default=None, description="Seconds beyond which the delay does not grow; by default an hour.", examples=["5min"]
    )
    memory: _Memory | None = Field(
        default=None,
        description="How a task that ran out of memory is given more: a factor (above 1, up to 10) of what it had, or "
        "a list of sizes of which the next larger is taken; never more than the server and its nodes can give.",
        examples=[2, ["128M", "1G"]],
    )
    memory_attempts: Annotated[int, whole(2, 20)] | None = Field(
        default=None,
        description="How often it may run out of memory at most; by default 3, or once more than the list has sizes.",
        examples=[4],
    )

    @property
    def memory_budget(self) -> int:
        """How often the task may run out of memory before that is final."""
        sizes = len(self.memory) if isinstance(self.memory, tuple) else None
        asked = self.memory_attempts or (MEMORY_ATTEMPTS if sizes is None else sizes + 1)
        return asked if sizes is None else min(asked, sizes + 1)

    def larger_than(self, memory_bytes: int) -> int:
        """The memory to have after it ran out of so much; no more than that when the list has nothing larger."""
        if isinstance(self.memory, tuple):
            return next((size for size in self.memory if size > memory_bytes), memory_bytes)
        return memory_bytes if self.memory is None else int(memory_bytes * self.memory)
