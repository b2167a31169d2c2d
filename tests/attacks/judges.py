"""Rows of the table for the container profile ``judge``: what root may not do inside of a container either."""

from __future__ import annotations

from tests.attacks.attack import ESCAPE, EVERY_FILE, NAMESPACES, NOWHERE, Attack, door, judge, named, shell, writes

JUDGE = {"profile": "judge"}

JUDGES = (
    judge(door("mounts")),
    judge(door("tracing")),
    judge(door("namespaces", NAMESPACES)),
    judge(door("modules")),
    judge(door("power")),
    judge(door("clocks")),
    judge(door("real_time")),
    judge(door("make_devices")),
    judge(door("handles")),
    judge(door("vsock")),
    judge(door("file_flags", r"\A(.+: (EPERM|EACCES)\n){7}\Z")),
    judge(door("egress", NOWHERE)),
    Attack(
        "judge: what root may",
        ("doors", "identity"),
        says=r"euid 0 egid 0\nCapInh:.*\nCapPrm:\t00000000008000eb\n(.+\n)+NoNewPrivs:\t1\nSeccomp:\t2\n",
        spec=JUDGE,
    ),
    Attack(
        "judge: settings of the kernel",
        writes("/proc/sys/kernel/core_pattern", "/proc/sys/vm/drop_caches", "/sys/kernel/uevent_helper"),
        says="(?s)core_pattern: Read-only.*uevent_helper: Read-only",
        spec=JUDGE,
    ),
    Attack(
        "judge: escape by release_agent",
        shell(ESCAPE),
        says="Read-only file system",
        spec=JUDGE,
    ),
    Attack(
        "judge: a file of the host", shell('cat "$SECRET" /proc/1/root"$SECRET"; true'), says="No such file", spec=JUDGE
    ),
    Attack(
        "judge: fills the root file system",
        shell("while head -c 2000000 /dev/zero > /var/$((i += 1)); do sleep 0.05; done"),
        "storage_limit",
        told="outside of its folder, its limit is 16M",
        limits={"storage": "16M"},
        spec=JUDGE,
    ),
    Attack(
        "judge: fills it and is gone",
        shell("head -c 12000000 /dev/zero > /var/a; head -c 12000000 /dev/zero > /etc/b"),
        "storage_limit",
        limits={"storage": "16M"},
        spec=JUDGE,
    ),
    Attack(
        "judge: fills the files of the engine",
        shell("head -c 12000000 /dev/zero > /etc/hosts; head -c 12000000 /dev/zero > /etc/hostname; sleep 20"),
        "storage_limit",
        limits={"storage": "16M"},
        spec=JUDGE,
    ),
    Attack(
        "judge: files without names",
        ("bombs", "hidden"),
        "storage_limit",
        told="outside of its folder",
        limits={"storage": "16M"},
        spec=JUDGE,
    ),
    Attack(
        "judge: too many files",
        shell("mkdir /many; while : > /many/$((i += 1)); do :; done"),
        "storage_limit",
        told="files and folders outside of its folder",
        limits={"files": 500},
        spec=JUDGE,
    ),
    Attack(
        "judge: outputs of root",
        shell(
            'echo 1 > mine; chmod 4755 mine; echo 2 > shut; chmod 0 shut; chown 12345:12345 shut; ln -s "$SECRET" link;'
            "ln mine twice; mkdir folder; echo 3 > folder/file; chown -R 1:1 folder; chmod 0 folder; chmod 0 /task"
        ),
        collect=EVERY_FILE,
        files=named("shut", "folder/file"),
        told='"link is a symbolic link", "mine has 2 hard links"',
        spec=JUDGE,
    ),
    Attack("judge: fork bomb", ("bombs", "forks"), "time_limit", limits={"time": "2s", "pids": 48}, spec=JUDGE),
    Attack("judge: a daemon", ("bombs", "daemon"), collect=({"glob": "diary"},), files=named("diary"), spec=JUDGE),
)
