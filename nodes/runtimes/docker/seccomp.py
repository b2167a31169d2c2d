"""Which system calls a task may make: an allow-list by theme, as a seccomp profile for the engine.

It follows the engine's own default profile for a container without capabilities, and leaves out what a task on a
shared machine has no use for: ``ptrace`` and its relatives, ``io_uring``, and every socket family but Unix, IPv4,
IPv6 and netlink (so no AF_VSOCK, which would reach the host of a virtual machine past the network namespace, and no
AF_ALG). ``socketcall`` is refused, because its arguments cannot be checked; 32-bit C libraries since 2016 call
``socket`` itself. Whatever is not listed fails with EPERM.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache

Rule = dict[str, object]

_FILES = """
    access close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2 fadvise64 fadvise64_64 fallocate
    fchdir chdir fcntl fcntl64 fdatasync flock fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64
    getcwd getdents getdents64 ioctl lseek _llseek lstat lstat64 mkdir mkdirat mknod mknodat name_to_handle_at
    newfstatat open openat openat2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readahead readlink readlinkat
    readv rename renameat renameat2 rmdir link linkat symlink symlinkat sendfile sendfile64 splice tee vmsplice stat
    stat64 statfs statfs64 statx statmount listmount sync sync_file_range syncfs truncate truncate64 umask unlink
    unlinkat utime utimensat utimensat_time64 utimes futimesat write writev cachestat chmod fchmod fchmodat fchmodat2
    chown chown32 fchown fchown32 fchownat lchown lchown32 getxattr getxattrat fgetxattr lgetxattr listxattr
    listxattrat flistxattr llistxattr setxattr setxattrat fsetxattr lsetxattr removexattr removexattrat fremovexattr
    lremovexattr
"""
_WAITING = """
    poll ppoll ppoll_time64 select _newselect pselect6 pselect6_time64
    epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_wait epoll_wait_old epoll_pwait epoll_pwait2
    eventfd eventfd2 signalfd signalfd4 inotify_init inotify_init1 inotify_add_watch inotify_rm_watch fanotify_mark
    io_setup io_destroy io_submit io_cancel io_getevents io_pgetevents io_pgetevents_time64 pipe pipe2
"""
_MEMORY = """
    brk madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mlock mlock2 mlockall mmap mmap2
    mprotect mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect remap_file_pages
    process_mrelease
"""
_PROCESSES = """
    fork vfork execve execveat exit exit_group wait4 waitid waitpid pidfd_open prctl seccomp rseq restart_syscall
    getpid getppid gettid getpgid getpgrp setpgid getsid setsid set_tid_address set_thread_area get_thread_area
    futex futex_time64 futex_wait futex_waitv futex_wake futex_requeue get_robust_list set_robust_list
    getpriority setpriority ioprio_get ioprio_set getrlimit ugetrlimit setrlimit prlimit64 getrusage times getcpu
    sysinfo uname sched_getaffinity sched_setaffinity sched_getattr sched_setattr sched_getparam sched_setparam
    sched_getscheduler sched_setscheduler sched_get_priority_max sched_get_priority_min sched_rr_get_interval
    sched_rr_get_interval_time64 sched_yield landlock_create_ruleset landlock_add_rule landlock_restrict_self
    getrandom capget capset riscv_hwprobe uretprobe
"""
_IDENTITY = """
    getuid getuid32 geteuid geteuid32 getgid getgid32 getegid getegid32 getgroups getgroups32 setgroups setgroups32
    getresuid getresuid32 getresgid getresgid32 setuid setuid32 setgid setgid32 setreuid setreuid32 setregid setregid32
    setresuid setresuid32 setresgid setresgid32 setfsuid setfsuid32 setfsgid setfsgid32
"""
_SIGNALS = """
    kill tkill tgkill pidfd_send_signal pause sigaltstack sigprocmask sigreturn rt_sigaction rt_sigpending
    rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo
"""
_TIME = """
    time gettimeofday alarm getitimer setitimer nanosleep clock_getres clock_getres_time64 clock_gettime clock_gettime64
    clock_nanosleep clock_nanosleep_time64 adjtimex clock_adjtime clock_adjtime64
    timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64
    timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64
"""
_TALKING = """
    socketpair bind connect listen accept accept4 shutdown getsockname getpeername getsockopt setsockopt
    send sendto sendmsg sendmmsg recv recvfrom recvmsg recvmmsg recvmmsg_time64
    ipc msgctl msgget msgrcv msgsnd semctl semget semop semtimedop semtimedop_time64 shmat shmctl shmdt shmget
    mq_open mq_unlink mq_notify mq_getsetattr mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64
"""
_MACHINE = {
    "amd64": "arch_prctl modify_ldt",
    "arm64": "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls",
    "riscv64": "riscv_flush_icache",
    "ppc64le": "sync_file_range2 swapcontext",
}
_ARCHITECTURES = {
    "SCMP_ARCH_X86_64": ["SCMP_ARCH_X86"],
    "SCMP_ARCH_AARCH64": ["SCMP_ARCH_ARM"],
    "SCMP_ARCH_PPC64LE": [],
    "SCMP_ARCH_RISCV64": [],
}
AF_UNIX, AF_INET, AF_INET6, AF_NETLINK = 1, 2, 10, 16
# PER_LINUX, PER_LINUX32, UNAME26 with either, and the question which one is in force: what the engine's profile
# allows as well.
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
# CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET}: threads and processes, but no namespaces.
_NEW_NAMESPACES = 0x7E020000
_ENOSYS = 38
_PRIORITIES = frozenset({"sched_setscheduler", "sched_setattr", "ioprio_set"})
_ORDINARY_POLICIES = (0, 3, 5, 0x40000000, 0x40000003, 0x40000005)  # OTHER, BATCH, IDLE; the same for this process only
_ORDINARY_DISK_CLASSES = (0x0000, 0x4000, 0x6000)  # none, best effort, idle


@cache
def profile(*, judge: bool = False) -> str:
    """The profile as JSON, in the engine's format; made once.

    With ``judge`` for a container with CAP_SYS_NICE, where the kernel itself would not refuse real-time priorities,
    of processors and of disks: no quota of a control group binds those.
    """
    names = " ".join((_FILES, _WAITING, _MEMORY, _PROCESSES, _IDENTITY, _SIGNALS, _TIME, _TALKING)).split()
    rules = [
        _allow([name for name in names if not (judge and name in _PRIORITIES)]),
        *(_modest() if judge else ()),
        *(_allow(names.split(), includes={"arches": [machine]}) for machine, names in _MACHINE.items()),
        *(_allow(["socket"], args=[_argument(0, family)]) for family in (AF_UNIX, AF_INET, AF_INET6, AF_NETLINK)),
        *(_allow(["personality"], args=[_argument(0, persona)]) for persona in _PERSONALITIES),
        _allow(["clone"], args=[{"index": 0, "value": _NEW_NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]),
        # Its flags are in memory, where a filter cannot look; ENOSYS makes C libraries fall back to clone.
        {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": _ENOSYS},
        # Leaving it out is not enough: for 32-bit programs libseccomp lets it through where a rule allows ``socket``,
        # and drops the condition on the family. A rule without conditions overrules that.
        {"names": ["socketcall"], "action": "SCMP_ACT_ERRNO", "errnoRet": _ENOSYS},
    ]
    return json.dumps(
        {
            "defaultAction": "SCMP_ACT_ERRNO",
            "archMap": [
                {"architecture": machine, "subArchitectures": others} for machine, others in _ARCHITECTURES.items()
            ],
            "syscalls": rules,
        }
    )


def _modest() -> list[Rule]:
    """The calls of ``_PRIORITIES`` for ordinary priorities; ``sched_setattr`` has its wish in memory: not at all."""
    return [
        *(_allow(["sched_setscheduler"], args=[_argument(1, policy)]) for policy in _ORDINARY_POLICIES),
        *(
            _allow(["ioprio_set"], args=[{"index": 2, "value": 0xE000, "valueTwo": kind, "op": "SCMP_CMP_MASKED_EQ"}])
            for kind in _ORDINARY_DISK_CLASSES
        ),
    ]


def _allow(names: Sequence[str], **conditions: object) -> Rule:
    return {"names": list(names), "action": "SCMP_ACT_ALLOW", **conditions}


def _argument(index: int, value: int) -> Rule:
    return {"index": index, "value": value, "op": "SCMP_CMP_EQ"}
