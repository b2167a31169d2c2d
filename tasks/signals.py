"""The signals of Linux, whatever system this runs on."""

from __future__ import annotations

SIGNALS: dict[int, tuple[str, str]] = {
    1: ("SIGHUP", "hangup"),
    2: ("SIGINT", "interrupt"),
    3: ("SIGQUIT", "quit"),
    4: ("SIGILL", "illegal instruction"),
    5: ("SIGTRAP", "trace trap"),
    6: ("SIGABRT", "abort"),
    7: ("SIGBUS", "bus error"),
    8: ("SIGFPE", "arithmetic error"),
    9: ("SIGKILL", "killed from outside"),
    10: ("SIGUSR1", "user signal 1"),
    11: ("SIGSEGV", "segmentation fault"),
    12: ("SIGUSR2", "user signal 2"),
    13: ("SIGPIPE", "write to a closed pipe"),
    14: ("SIGALRM", "alarm clock"),
    15: ("SIGTERM", "terminated"),
    16: ("SIGSTKFLT", "stack fault"),
    24: ("SIGXCPU", "its own processor time limit"),
    25: ("SIGXFSZ", "its own file size limit"),
    26: ("SIGVTALRM", "virtual alarm clock"),
    27: ("SIGPROF", "profiling timer"),
    29: ("SIGIO", "input or output possible"),
    30: ("SIGPWR", "power failure"),
    31: ("SIGSYS", "forbidden system call"),
}
"""Number -> name, and what it means."""

SIGNAL_ADVICE = {
    4: "was it built for another processor?",
    6: "look for a failed assertion or an uncaught exception at the end of stderr",
    7: "it read or wrote memory that is not there, or a mapped file became shorter",
    8: "look for a division by zero",
    11: "look for a bad pointer, an index out of range or endless recursion",
    31: "the container forbids this system call",
}
"""Number -> where to look, for those that say something of the program."""
