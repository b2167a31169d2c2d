"""The judgement of an attempt: one word, its class, one sentence with numbers, and advice where a rule has some.

Rules are small functions tried in order; the first that applies wins. The order is from causes to effects: what the
grid or the user's cancel did comes before what the program did, a limit before the exit code that it brought about.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from tasks.limits import Limits
from tasks.outcome import Evidence, Usage
from tasks.signals import SIGNAL_ADVICE, SIGNALS
from tasks.states import StopCause, TaskState
from tasks.units import format_size, human_seconds, human_size
from tasks.words import one_line


class VerdictClass(StrEnum):
    """Who has to act: nobody, the user, the operator of the grid, or nobody because somebody decided so."""

    SUCCESS = "success"
    USER = "user"
    INFRASTRUCTURE = "infrastructure"
    CANCELLED = "cancelled"


class Verdict(StrEnum):
    """How a task ended, in one word."""

    SUCCEEDED = "succeeded"
    EXIT_CODE = "exit_code"
    SIGNAL = "signal"
    TIME_LIMIT = "time_limit"
    CPU_TIME_LIMIT = "cpu_time_limit"
    MEMORY_LIMIT = "memory_limit"
    PIDS_LIMIT = "pids_limit"
    STORAGE_LIMIT = "storage_limit"
    OUTPUT_LIMIT = "output_limit"
    MISSING_OUTPUT = "missing_output"
    FILE_TOO_LARGE = "file_too_large"
    IMAGE_NOT_FOUND = "image_not_found"
    IMAGE_REFUSED = "image_refused"
    IMAGE_PULL = "image_pull"
    INPUT_MISSING = "input_missing"
    STAGING = "staging"
    UPLOAD = "upload"
    RUNTIME_ERROR = "runtime_error"
    ENGINE_RESTARTED = "engine_restarted"
    NODE_DISK = "node_disk"
    NODE_LOST = "node_lost"
    HANDED_BACK = "handed_back"
    POISON = "poison"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"


CLASS_OF: dict[Verdict, VerdictClass] = {
    Verdict.SUCCEEDED: VerdictClass.SUCCESS,
    Verdict.EXIT_CODE: VerdictClass.USER,
    Verdict.SIGNAL: VerdictClass.USER,
    Verdict.TIME_LIMIT: VerdictClass.USER,
    Verdict.CPU_TIME_LIMIT: VerdictClass.USER,
    Verdict.MEMORY_LIMIT: VerdictClass.USER,
    Verdict.PIDS_LIMIT: VerdictClass.USER,
    Verdict.STORAGE_LIMIT: VerdictClass.USER,
    Verdict.OUTPUT_LIMIT: VerdictClass.USER,
    Verdict.MISSING_OUTPUT: VerdictClass.USER,
    Verdict.FILE_TOO_LARGE: VerdictClass.USER,
    Verdict.IMAGE_NOT_FOUND: VerdictClass.USER,
    Verdict.IMAGE_REFUSED: VerdictClass.USER,
    Verdict.IMAGE_PULL: VerdictClass.INFRASTRUCTURE,
    Verdict.INPUT_MISSING: VerdictClass.INFRASTRUCTURE,
    Verdict.STAGING: VerdictClass.INFRASTRUCTURE,
    Verdict.UPLOAD: VerdictClass.INFRASTRUCTURE,
    Verdict.RUNTIME_ERROR: VerdictClass.INFRASTRUCTURE,
    Verdict.ENGINE_RESTARTED: VerdictClass.INFRASTRUCTURE,
    Verdict.NODE_DISK: VerdictClass.INFRASTRUCTURE,
    Verdict.NODE_LOST: VerdictClass.INFRASTRUCTURE,
    Verdict.HANDED_BACK: VerdictClass.INFRASTRUCTURE,
    Verdict.POISON: VerdictClass.INFRASTRUCTURE,
    Verdict.EXPIRED: VerdictClass.CANCELLED,
    Verdict.CANCELLED: VerdictClass.CANCELLED,
    Verdict.SKIPPED: VerdictClass.CANCELLED,
}

_FINAL_STATES = {
    Verdict.CANCELLED: TaskState.CANCELLED,
    Verdict.EXPIRED: TaskState.EXPIRED,
    Verdict.SKIPPED: TaskState.SKIPPED,
}


def final_state(verdict: Verdict) -> TaskState:
    """The state in which a task with this verdict ends."""
    success = CLASS_OF[verdict] is VerdictClass.SUCCESS
    return _FINAL_STATES.get(verdict) or (TaskState.SUCCEEDED if success else TaskState.FAILED)


# What a node may report as its own fault or the image's: verdict, what the sentence begins with, advice.
_FAULTS: dict[str, tuple[Verdict, str, str]] = {
    Verdict.IMAGE_NOT_FOUND: (
        Verdict.IMAGE_NOT_FOUND,
        "the image was not found",
        "check the name and the tag; a private image needs the registry's password on the nodes",
    ),
    Verdict.IMAGE_REFUSED: (
        Verdict.IMAGE_REFUSED,
        "the image is not allowed here",
        "ask the operator which images are",
    ),
    Verdict.IMAGE_PULL: (Verdict.IMAGE_PULL, "the image could not be fetched", ""),
    Verdict.INPUT_MISSING: (
        Verdict.INPUT_MISSING,
        "an input file is not in the store any more",
        "submit the task again",
    ),
    Verdict.STAGING: (Verdict.STAGING, "the node could not prepare the task's folder", ""),
    Verdict.UPLOAD: (Verdict.UPLOAD, "the node could not bring the results home", ""),
    Verdict.RUNTIME_ERROR: (Verdict.RUNTIME_ERROR, "the container engine failed", ""),
    Verdict.ENGINE_RESTARTED: (Verdict.ENGINE_RESTARTED, "the container engine was restarted under the task", ""),
    Verdict.NODE_DISK: (Verdict.NODE_DISK, "the node's disk is full", ""),
    Verdict.NODE_LOST: (Verdict.NODE_LOST, "the node was lost", ""),
}

_PIDS_ADVICE = "does it wait for the processes and threads that it starts?"


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict with its class, the reason in one sentence, and advice (empty where there is none)."""

    verdict: Verdict
    verdict_class: VerdictClass
    reason: str
    advice: str = ""


class _Case(NamedTuple):
    evidence: Evidence
    usage: Usage
    limits: Limits
    args: Sequence[str]

    @property
    def program(self) -> str:
        return f'the program "{one_line(self.args[0], 100)}"' if self.args else "the image's own command"


def other(verdict: Verdict, reason: str, advice: str = "") -> Judgement:
    """A judgement that the server makes alone: ``node_lost``, ``poison``, ``expired``, ``cancelled``, ``skipped``."""
    return Judgement(verdict, CLASS_OF[verdict], reason, advice)


def judge(evidence: Evidence, usage: Usage, limits: Limits, args: Sequence[str]) -> Judgement:
    """What became of an attempt, from what the node saw; ``limits`` are the effective ones, ``args`` the task's."""
    case = _Case(evidence, usage, limits, args)
    for rule in _RULES:
        judgement = rule(case)
        if judgement is not None:
            return judgement
    return _succeeded(case)


def _cancelled(case: _Case) -> Judgement | None:
    # Before the faults: a container that is being cancelled may well fail on its way out, and must not be run again.
    if case.evidence.stopped is not StopCause.CANCELLED:
        return None
    why = one_line(case.evidence.stop_reason)
    if why:
        return other(Verdict.CANCELLED, f"cancelled {why}" if why.startswith("by ") else f"cancelled: {why}")
    return other(Verdict.CANCELLED, "cancelled while it ran")


def _lease_lost(case: _Case) -> Judgement | None:
    if case.evidence.stopped is not StopCause.LEASE_LOST:
        return None
    why = one_line(case.evidence.stop_reason)
    return other(
        Verdict.NODE_LOST, "the node lost touch with the server and ended the task" + (f": {why}" if why else "")
    )


def _handed_back(case: _Case) -> Judgement | None:
    # Before the faults: what fails on its way out has not failed by itself.
    if case.evidence.stopped is not StopCause.HANDED_BACK:
        return None
    why = one_line(case.evidence.stop_reason)
    return other(Verdict.HANDED_BACK, "the node gave the task back before it had ended" + (f": {why}" if why else ""))


def _fault(case: _Case) -> Judgement | None:
    fault = case.evidence.fault
    if fault is None:
        return None
    verdict, words, advice = _FAULTS.get(
        fault.kind, (Verdict.RUNTIME_ERROR, f"the node failed ({one_line(fault.kind, 50)})", "")
    )
    return other(verdict, f"{words}: {one_line(fault.message)}" if fault.message else words, advice)


def _time_limit(case: _Case) -> Judgement | None:
    if case.evidence.stopped is not StopCause.TIME_LIMIT:
        return None
    limit, wall, cpu = case.limits.time, case.usage.wall_seconds, case.usage.cpu_seconds
    bound = f", its limit is {human_seconds(limit)} of time" if limit is not None else ""
    advice = ""
    if case.evidence.oom_kills:
        advice = "one of its processes had been killed for want of memory before" + _more_memory(case, "; ")
    elif cpu < wall / 10:
        advice = f"it used only {human_seconds(cpu)} of processor time: is it waiting for input, or asleep?"
    return other(Verdict.TIME_LIMIT, f"the program was ended after {human_seconds(wall)}{bound}", advice)


def _cpu_time_limit(case: _Case) -> Judgement | None:
    if case.evidence.stopped is not StopCause.CPU_TIME_LIMIT:
        return None
    limit, cpu = case.limits.cpu_time, case.usage.cpu_seconds
    bound = f", its limit is {human_seconds(limit)}" if limit is not None else ""
    return other(
        Verdict.CPU_TIME_LIMIT,
        f"the program was ended after {human_seconds(cpu)} of processor time{bound} (over all its processes)",
    )


def _stored_too_much(case: _Case) -> Judgement | None:
    if case.evidence.stopped is not StopCause.STORAGE_LIMIT:
        return None
    limit, why = case.limits.storage, one_line(case.evidence.stop_reason)
    bound = f", its limit is {human_size(limit)} of storage" if limit is not None else ""
    return other(
        Verdict.STORAGE_LIMIT,
        f"the program was ended because {why or 'it stored too much outside of its folder'}{bound}",
        "what it writes outside of its folder counts as well",
    )


def _memory_limit(case: _Case) -> Judgement | None:
    if not case.evidence.oom_kills:
        return None
    limit, peak = case.limits.memory, case.usage.memory_peak_bytes
    used = f"the task used more than {human_size(limit)} of memory" if limit is not None else "the memory ran out"
    most = f" (peak {human_size(peak)})" if peak is not None else ""
    return other(Verdict.MEMORY_LIMIT, f"a process was killed because {used}{most}{_ending(case)}", _more_memory(case))


def _pids_limit(case: _Case) -> Judgement | None:
    refused, limit = case.evidence.pids_refused, case.limits.pids
    if not refused:
        return None
    bound = f"{limit} processes and threads" if limit is not None else "so many processes and threads"
    times = "once" if refused == 1 else f"{refused} times"
    reason = f"the task may have {bound} at one time, a further one was refused {times}"
    return other(Verdict.PIDS_LIMIT, reason + _ending(case), _PIDS_ADVICE)


def _storage_limit(case: _Case) -> Judgement | None:
    evidence, limits = case.evidence, case.limits
    if not (evidence.storage_full or evidence.files_full):
        return None
    if evidence.storage_full:
        bound = f" of {human_size(limits.storage)}" if limits.storage is not None else ""
        return other(
            Verdict.STORAGE_LIMIT, f"the task's folder was full: it used all{bound or ' the space'}{_ending(case)}"
        )
    bound = f" the {limits.files} files and folders" if limits.files is not None else " files and folders"
    return other(
        Verdict.STORAGE_LIMIT, f"the task's folder was full: it had all{bound} that it may have{_ending(case)}"
    )


def _output_limit(case: _Case) -> Judgement | None:
    cut, limit = case.evidence.output_cut_bytes, case.limits.output
    if not cut:
        return None
    bound = f"the {human_size(limit)} of output that are kept" if limit is not None else "the output that is kept"
    reason = f"the program wrote more than {bound}, {human_size(cut)} were cut off"
    return other(Verdict.OUTPUT_LIMIT, reason + _ending(case), "write large outputs to a file and collect it")


def _not_started(case: _Case) -> Judgement | None:
    code, why = case.evidence.exit_code, one_line(case.evidence.start_error)
    if not why or code not in (126, 127):
        return None
    if code == 127:
        advice = "is it in the image? the task's own files are named with ./ in front, such as ./a.out"
        return other(Verdict.EXIT_CODE, f"{case.program} was not found (exit 127): {why}", advice)
    advice = "is it executable (chmod +x), built for this processor, or a script with a first line such as #!/bin/sh?"
    return other(Verdict.EXIT_CODE, f"{case.program} could not be executed (exit 126): {why}", advice)


def _signal(case: _Case) -> Judgement | None:
    code = case.evidence.exit_code
    number = 0 if code is None else code - 128 if code > 128 else -code
    if number not in SIGNALS:
        return None
    name, meaning = SIGNALS[number]
    advice = SIGNAL_ADVICE.get(number, "")
    limit, peak = case.limits.memory, case.usage.memory_peak_bytes
    if number == 9 and limit and peak and peak > limit * 0.95:
        advice = f"its memory was nearly used up (peak {human_size(peak)})" + _more_memory(case, "; ")
    return other(Verdict.SIGNAL, f"the program was ended by signal {name} ({meaning}), exit {code}", advice)


def _exit_code(case: _Case) -> Judgement | None:
    code = case.evidence.exit_code
    if code == 0:
        return None
    if code is None:
        return other(Verdict.RUNTIME_ERROR, "the node cannot tell how the program ended")
    if code in (126, 127):
        meaning = "command not found" if code == 127 else "command cannot be executed"
        advice = "the last lines of stderr name the command" if case.args else ""
        return other(Verdict.EXIT_CODE, f'the program exited with {code}, by which shells say "{meaning}"', advice)
    return other(Verdict.EXIT_CODE, f"the program exited with {code}")


def _file_too_large(case: _Case) -> Judgement | None:
    files = case.evidence.too_large
    if not files:
        return None
    first = files[0]
    bound = (
        f"; the most that is taken here is {human_size(first.most)}"
        if first.most is not None
        else ", which is more than is taken here"
    )
    more = f" ({len(files) - 1} more files are too large as well)" if len(files) > 1 else ""
    return other(
        Verdict.FILE_TOO_LARGE,
        f'the program exited with 0, but "{one_line(first.path, 100)}" has {human_size(first.size)}{bound}{more}',
        "all other files came back; write less, compress or split it, or ask the operator to raise the cap",
    )


def _missing_output(case: _Case) -> Judgement | None:
    missing = case.evidence.missing
    if not missing:
        return None
    globs = ", ".join(f'"{one_line(one.glob, 100)}"' for one in missing)
    near = list(dict.fromkeys(name for one in missing for name in one.near))[:5]
    advice = "there is " + ", ".join(f'"{one_line(name, 100)}"' for name in near) if near else ""
    return other(Verdict.MISSING_OUTPUT, f"the program exited with 0, but left no file that matches {globs}", advice)


def _succeeded(case: _Case) -> Judgement:
    refused = case.evidence.refused_files
    names = ", ".join(f'"{one_line(name, 100)}"' for name in refused[:5]) + (
        f" and {len(refused) - 5} more" if len(refused) > 5 else ""
    )
    advice = f"not brought back, because only regular files are: {names}" if refused else ""
    return other(Verdict.SUCCEEDED, f"exit 0 after {human_seconds(case.usage.wall_seconds)}", advice)


_RULES: tuple[Callable[[_Case], Judgement | None], ...] = (
    _cancelled,
    _lease_lost,
    _handed_back,
    _fault,
    _time_limit,
    _cpu_time_limit,
    _stored_too_much,
    _memory_limit,
    _pids_limit,
    _storage_limit,
    _output_limit,
    _not_started,
    _signal,
    _exit_code,
    _file_too_large,
    _missing_output,
)


def _ending(case: _Case) -> str:
    """How the program itself ended, to be added to the sentence about a limit."""
    code = case.evidence.exit_code
    return "" if code is None else f"; the program itself exited with {code}"


def _more_memory(case: _Case, before: str = "") -> str:
    """``try 96M``: half as much again, in steps that people would choose."""
    limit, mega = case.limits.memory, 1024**2
    if limit is None:
        return ""
    need = limit * 3 // 2
    step = mega if need < 128 * mega else 16 * mega if need < 1024 * mega else 512 * mega
    return f"{before}try {format_size(-(-need // step) * step)}"
