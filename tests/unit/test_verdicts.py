"""Verdicts: one story per row of the table, and the cases in which several causes meet."""

from __future__ import annotations

import pytest

from tasks.limits import Limits
from tasks.outcome import Evidence, MissingOutput, NodeFaultEvidence, TooLargeFile, Usage
from tasks.states import StopCause
from tasks.verdicts import CLASS_OF, Judgement, Verdict, VerdictClass, judge, other

MIB = 1024**2
LIMITS = Limits(memory=64 * MIB, time=1.0, cpu_time=10.0, pids=16, storage=1024 * MIB, files=100, output=16 * MIB)
USAGE = Usage(wall_seconds=0.34, cpu_seconds=0.3, memory_peak_bytes=67003351)


def judged(
    evidence: Evidence, usage: Usage = USAGE, limits: Limits = LIMITS, args: tuple[str, ...] = ("./a.out",)
) -> Judgement:
    """The judgement; its class must be that of the table, its texts one line each."""
    judgement = judge(evidence, usage, limits, args)
    assert judgement.verdict_class is CLASS_OF[judgement.verdict]
    assert judgement.reason
    assert judgement.reason.isprintable()
    assert not judgement.reason.endswith(".")
    assert judgement.advice.isprintable()
    return judgement


def test_every_verdict_has_its_class() -> None:
    assert set(CLASS_OF) == set(Verdict)
    assert {verdict for verdict in Verdict if CLASS_OF[verdict] is VerdictClass.CANCELLED} == {
        Verdict.EXPIRED,
        Verdict.CANCELLED,
        Verdict.SKIPPED,
    }
    assert {verdict for verdict in Verdict if CLASS_OF[verdict] is VerdictClass.SUCCESS} == {Verdict.SUCCEEDED}


# ------------------------------------------------------------------------------------------------- a story for each row


def test_succeeded() -> None:
    assert judged(Evidence(exit_code=0)) == Judgement(Verdict.SUCCEEDED, VerdictClass.SUCCESS, "exit 0 after 340ms")


def test_exit_code() -> None:
    judgement = judged(Evidence(exit_code=3))
    assert judgement == Judgement(Verdict.EXIT_CODE, VerdictClass.USER, "the program exited with 3")


def test_exit_code_of_a_program_that_is_not_there() -> None:
    judgement = judged(Evidence(exit_code=127, start_error='exec: "gcc": executable file not found'), args=("gcc", "x"))
    assert judgement.verdict is Verdict.EXIT_CODE
    assert judgement.reason == 'the program "gcc" was not found (exit 127): exec: "gcc": executable file not found'
    assert judgement.advice.startswith("is it in the image?")


def test_exit_code_of_a_program_that_cannot_be_executed() -> None:
    judgement = judged(Evidence(exit_code=126, start_error="permission denied"))
    assert judgement.reason == 'the program "./a.out" could not be executed (exit 126): permission denied'
    assert "chmod +x" in judgement.advice


@pytest.mark.parametrize(("code", "words"), [(126, "command cannot be executed"), (127, "command not found")])
def test_exit_code_of_a_shell_that_did_not_find_a_command(code: int, words: str) -> None:
    judgement = judged(Evidence(exit_code=code), args=("sh", "-c", "foo"))
    assert judgement.verdict is Verdict.EXIT_CODE
    assert judgement.reason == f'the program exited with {code}, by which shells say "{words}"'


@pytest.mark.parametrize(
    ("code", "words", "advice"),
    [
        (139, "SIGSEGV (segmentation fault), exit 139", "endless recursion"),
        (-11, "SIGSEGV (segmentation fault), exit -11", "endless recursion"),
        (136, "SIGFPE (arithmetic error), exit 136", "division by zero"),
        (134, "SIGABRT (abort), exit 134", "failed assertion"),
        (143, "SIGTERM (terminated), exit 143", ""),
        (159, "SIGSYS (forbidden system call), exit 159", "the container forbids"),
    ],
)
def test_signal(code: int, words: str, advice: str) -> None:
    judgement = judged(Evidence(exit_code=code))
    assert judgement.verdict is Verdict.SIGNAL
    assert judgement.reason == f"the program was ended by signal {words}"
    assert advice in judgement.advice


def test_time_limit() -> None:
    judgement = judged(Evidence(exit_code=137, stopped=StopCause.TIME_LIMIT), Usage(wall_seconds=1.07, cpu_seconds=1.0))
    assert judgement.verdict is Verdict.TIME_LIMIT
    assert judgement.reason == "the program was ended after 1.1s, its limit is 1s of time"
    assert judgement.advice == ""


def test_what_is_stored_outside_of_the_folder_counts_as_storage() -> None:
    why = "it stored 20M, 18M of it outside of its folder"
    stopped = Evidence(exit_code=137, stopped=StopCause.STORAGE_LIMIT, stop_reason=why, pids_refused=3)
    judgement = judged(stopped, limits=Limits(storage=16 * 2**20))
    assert judgement.verdict is Verdict.STORAGE_LIMIT
    assert judgement.reason == f"the program was ended because {why}, its limit is 16M of storage"
    assert judgement.advice == "what it writes outside of its folder counts as well"


def test_cpu_time_limit() -> None:
    usage = Usage(wall_seconds=5.2, cpu_seconds=10.2)
    judgement = judged(Evidence(exit_code=137, stopped=StopCause.CPU_TIME_LIMIT), usage)
    assert judgement.verdict is Verdict.CPU_TIME_LIMIT
    assert judgement.reason.startswith("the program was ended after 10.2s of processor time, its limit is 10s")


def test_memory_limit() -> None:
    judgement = judged(Evidence(exit_code=137, oom_kills=1))
    assert judgement.verdict is Verdict.MEMORY_LIMIT
    assert judgement.reason == (
        "a process was killed because the task used more than 64M of memory (peak 63.9M); "
        "the program itself exited with 137"
    )
    assert judgement.advice == "try 96M"


def test_memory_limit_when_only_a_child_was_killed() -> None:
    judgement = judged(Evidence(exit_code=0, oom_kills=1))
    assert judgement.verdict is Verdict.MEMORY_LIMIT
    assert judgement.reason.endswith("(peak 63.9M); the program itself exited with 0")


def test_pids_limit() -> None:
    judgement = judged(Evidence(exit_code=1, pids_refused=5))
    assert judgement.verdict is Verdict.PIDS_LIMIT
    assert judgement.reason == (
        "the task may have 16 processes and threads at one time, a further one was refused 5 times; "
        "the program itself exited with 1"
    )
    assert "refused once" in judged(Evidence(exit_code=0, pids_refused=1)).reason


def test_storage_limit() -> None:
    judgement = judged(Evidence(exit_code=1, storage_full=True))
    assert judgement.verdict is Verdict.STORAGE_LIMIT
    assert judgement.reason == "the task's folder was full: it used all of 1G; the program itself exited with 1"
    judgement = judged(Evidence(exit_code=0, files_full=True))
    assert judgement.verdict is Verdict.STORAGE_LIMIT
    assert judgement.reason.startswith(
        "the task's folder was full: it had all the 100 files and folders that it may have"
    )


def test_output_limit() -> None:
    judgement = judged(Evidence(exit_code=0, output_bytes=20 * MIB, output_cut_bytes=4 * MIB))
    assert judgement.verdict is Verdict.OUTPUT_LIMIT
    assert judgement.reason == (
        "the program wrote more than the 16M of output that are kept, 4M were cut off; the program itself exited with 0"
    )


def test_file_too_large() -> None:
    large = TooLargeFile(path="out/model.bin", size=300 * 1024**2, most=200 * 1024**2)
    judgement = judged(Evidence(exit_code=0, too_large=(large,)))
    assert (judgement.verdict, judgement.verdict_class) == (Verdict.FILE_TOO_LARGE, VerdictClass.USER)
    assert judgement.reason == (
        'the program exited with 0, but "out/model.bin" has 300M; the most that is taken here is 200M'
    )
    assert "compress or split it" in judgement.advice
    unbounded = TooLargeFile(path="b", size=5 * 1024**2)
    judgement = judged(Evidence(exit_code=0, too_large=(unbounded, large, large)))
    assert judgement.reason.endswith(
        '"b" has 5M, which is more than is taken here (2 more files are too large as well)'
    )


def test_what_the_program_said_itself_comes_before_a_file_that_is_too_large() -> None:
    large = TooLargeFile(path="a", size=3, most=2)
    assert judged(Evidence(exit_code=3, too_large=(large,))).verdict is Verdict.EXIT_CODE


def test_missing_output() -> None:
    missing = (MissingOutput(glob="out/*.txt", near=("out/a.text", "a.txt")), MissingOutput(glob="b", near=("a.txt",)))
    judgement = judged(Evidence(exit_code=0, missing=missing))
    assert judgement.verdict is Verdict.MISSING_OUTPUT
    assert judgement.reason == 'the program exited with 0, but left no file that matches "out/*.txt", "b"'
    assert judgement.advice == 'there is "out/a.text", "a.txt"'


@pytest.mark.parametrize(
    ("kind", "verdict_class", "words"),
    [
        ("image_not_found", VerdictClass.USER, "the image was not found"),
        ("image_refused", VerdictClass.USER, "the image is not allowed here"),
        ("image_pull", VerdictClass.INFRASTRUCTURE, "the image could not be fetched"),
        ("input_missing", VerdictClass.INFRASTRUCTURE, "an input file is not in the store any more"),
        ("staging", VerdictClass.INFRASTRUCTURE, "the node could not prepare the task's folder"),
        ("upload", VerdictClass.INFRASTRUCTURE, "the node could not bring the results home"),
        ("runtime_error", VerdictClass.INFRASTRUCTURE, "the container engine failed"),
        ("engine_restarted", VerdictClass.INFRASTRUCTURE, "the container engine was restarted under the task"),
        ("node_disk", VerdictClass.INFRASTRUCTURE, "the node's disk is full"),
        ("node_lost", VerdictClass.INFRASTRUCTURE, "the node was lost"),
    ],
)
def test_faults_of_the_grid_and_of_images(kind: str, verdict_class: VerdictClass, words: str) -> None:
    judgement = judged(Evidence(fault=NodeFaultEvidence(kind=kind, message="no such host:\n  example")))
    assert judgement.verdict.value == kind
    assert judgement.verdict_class is verdict_class
    assert judgement.reason == f"{words}: no such host: example"
    assert judged(Evidence(fault=NodeFaultEvidence(kind=kind, message=""))).reason == words


def test_cancelled() -> None:
    judgement = judged(Evidence(exit_code=137, stopped=StopCause.CANCELLED, stop_reason="by anna: wrong input"))
    assert judgement == Judgement(Verdict.CANCELLED, VerdictClass.CANCELLED, "cancelled by anna: wrong input")
    assert judged(Evidence(stopped=StopCause.CANCELLED, stop_reason="wrong")).reason == "cancelled: wrong"
    assert judged(Evidence(stopped=StopCause.CANCELLED)).reason == "cancelled while it ran"


@pytest.mark.parametrize(
    ("verdict", "verdict_class"),
    [
        (Verdict.NODE_LOST, VerdictClass.INFRASTRUCTURE),
        (Verdict.POISON, VerdictClass.INFRASTRUCTURE),
        (Verdict.EXPIRED, VerdictClass.CANCELLED),
        (Verdict.CANCELLED, VerdictClass.CANCELLED),
        (Verdict.SKIPPED, VerdictClass.CANCELLED),
    ],
)
def test_what_the_server_itself_knows(verdict: Verdict, verdict_class: VerdictClass) -> None:
    assert other(verdict, "because", "do that") == Judgement(verdict, verdict_class, "because", "do that")
    assert other(verdict, "because").advice == ""


# --------------------------------------------------------------------------------------------------- when causes meet


def test_a_fault_of_the_grid_comes_before_what_the_program_did() -> None:
    fault = NodeFaultEvidence(kind="upload", message="server gone")
    assert judged(Evidence(exit_code=1, oom_kills=1, fault=fault)).verdict is Verdict.UPLOAD
    assert judged(Evidence(exit_code=137, stopped=StopCause.TIME_LIMIT, fault=fault)).verdict is Verdict.UPLOAD


def test_a_cancelled_task_that_fails_on_its_way_out_is_cancelled_and_not_run_again() -> None:
    fault = NodeFaultEvidence(kind="runtime_error", message="container gone")
    assert judged(Evidence(stopped=StopCause.CANCELLED, fault=fault)).verdict is Verdict.CANCELLED


def test_a_lost_lease_is_the_grids_fault() -> None:
    judgement = judged(Evidence(exit_code=137, stopped=StopCause.LEASE_LOST, oom_kills=1))
    assert judgement.verdict is Verdict.NODE_LOST
    assert judgement.reason == "the node lost touch with the server and ended the task"
    assert judged(Evidence(stopped=StopCause.LEASE_LOST, stop_reason="45s")).reason.endswith("the task: 45s")


def test_a_fault_of_unknown_kind_is_a_runtime_error() -> None:
    for kind in ("flood", "succeeded", "memory_limit"):
        judgement = judged(Evidence(exit_code=0, fault=NodeFaultEvidence(kind=kind, message="x")))
        assert judgement.verdict is Verdict.RUNTIME_ERROR
        assert judgement.reason == f"the node failed ({kind}): x"


def test_a_program_that_waits_is_told_so() -> None:
    evidence = Evidence(exit_code=137, stopped=StopCause.TIME_LIMIT)
    judgement = judged(evidence, Usage(wall_seconds=1.0, cpu_seconds=0.012))
    assert judgement.advice == "it used only 12ms of processor time: is it waiting for input, or asleep?"


def test_a_program_that_waits_for_a_killed_child_is_told_so() -> None:
    judgement = judged(Evidence(exit_code=137, stopped=StopCause.TIME_LIMIT, oom_kills=2))
    assert judgement.verdict is Verdict.TIME_LIMIT
    assert judgement.advice == "one of its processes had been killed for want of memory before; try 96M"


def test_a_kill_from_outside_is_no_memory_limit() -> None:
    judgement = judged(Evidence(exit_code=137), Usage(memory_peak_bytes=10 * MIB))
    assert judgement.verdict is Verdict.SIGNAL
    assert judgement.reason == "the program was ended by signal SIGKILL (killed from outside), exit 137"
    assert judgement.advice == ""


def test_a_kill_with_the_memory_nearly_used_up_hints_at_it() -> None:
    judgement = judged(Evidence(exit_code=137))
    assert judgement.verdict is Verdict.SIGNAL
    assert judgement.advice == "its memory was nearly used up (peak 63.9M); try 96M"


@pytest.mark.parametrize("code", [128, 255, 128 + 40, 200, 128 + 65])
def test_a_high_code_that_names_no_signal_is_an_exit_code(code: int) -> None:
    assert judged(Evidence(exit_code=code)).reason == f"the program exited with {code}"


def test_a_limit_comes_before_a_missing_output_and_an_exit_code_too() -> None:
    missing = (MissingOutput(glob="out.txt"),)
    assert judged(Evidence(exit_code=0, storage_full=True, missing=missing)).verdict is Verdict.STORAGE_LIMIT
    assert judged(Evidence(exit_code=1, missing=missing)).verdict is Verdict.EXIT_CODE
    assert judged(Evidence(exit_code=0, missing=missing)).advice == ""


def test_an_end_that_nobody_saw_is_not_a_success() -> None:
    judgement = judged(Evidence())
    assert judgement.verdict is Verdict.RUNTIME_ERROR
    assert judgement.reason == "the node cannot tell how the program ended"


def test_files_that_could_not_come_back_are_named() -> None:
    judgement = judged(Evidence(exit_code=0, refused_files=("link", "fifo")))
    assert judgement.verdict is Verdict.SUCCEEDED
    assert judgement.advice == 'not brought back, because only regular files are: "link", "fifo"'
    many = judged(Evidence(exit_code=0, refused_files=tuple("abcdefgh")))
    assert many.advice.endswith('"e" and 3 more')


@pytest.mark.parametrize(
    ("evidence", "words"),
    [
        (Evidence(exit_code=137, stopped=StopCause.TIME_LIMIT), "the program was ended after 340ms"),
        (
            Evidence(exit_code=137, stopped=StopCause.CPU_TIME_LIMIT),
            "the program was ended after 300ms of processor time",
        ),
        (Evidence(exit_code=137, oom_kills=1), "a process was killed because the memory ran out"),
        (Evidence(exit_code=1, pids_refused=2), "the task may have so many processes and threads"),
        (Evidence(exit_code=1, storage_full=True), "the task's folder was full: it used all the space"),
        (Evidence(exit_code=1, files_full=True), "the task's folder was full: it had all files and folders"),
        (Evidence(exit_code=1, output_cut_bytes=5), "the program wrote more than the output that is kept, 5B"),
    ],
)
def test_reasons_make_sense_without_a_limit_too(evidence: Evidence, words: str) -> None:
    judgement = judged(evidence, limits=Limits())
    assert judgement.reason.startswith(words)
    assert "None" not in judgement.reason
    assert "try" not in judgement.advice


def test_the_memory_peak_may_be_unknown() -> None:
    assert "peak" not in judged(Evidence(exit_code=0, oom_kills=1), Usage()).reason


@pytest.mark.parametrize(
    ("limit", "advice"),
    [
        (6 * MIB, "try 9M"),
        (100 * MIB, "try 160M"),
        (256 * MIB, "try 384M"),
        (1024 * MIB, "try 1536M"),
        (2048 * MIB, "try 3G"),
        (7 * MIB + 1, "try 11M"),
    ],
)
def test_the_advised_memory_is_half_as_much_again_in_round_numbers(limit: int, advice: str) -> None:
    assert judged(Evidence(exit_code=1, oom_kills=1), limits=Limits(memory=limit)).advice == advice


def test_foreign_text_cannot_write_over_the_terminal() -> None:
    evidence = Evidence(exit_code=127, start_error="no\x1b[2J\nsuch file")
    reason = judged(evidence, args=("\x1b]0;owned\x07" + "x" * 1000,)).reason
    assert "\\x1b]0;owned" in reason
    assert reason.endswith("no\\x1b[2J such file")
    assert len(reason) < 300


def test_the_images_own_command_has_no_name() -> None:
    judgement = judged(Evidence(exit_code=127, start_error="not found"), args=())
    assert judgement.reason == "the image's own command was not found (exit 127): not found"
