"""The hostile tasks and their ends, one row each; the programs are in ``programs/doors.c`` and ``programs/bombs.c``.

In their environment ``SECRET`` is the path of a file on the host that no task may read, ``HOST_FOLDER`` and
``NODE_FOLDER`` are the folders of the grid and of its node there.
"""

from __future__ import annotations

from tests.attacks.attack import ESCAPE, EVERY_FILE, NAMESPACES, NOWHERE, Attack, Wish, door, named, shell, writes
from tests.attacks.judges import JUDGES

ROOMY = {"memory": "160M", "storage": "128M"}
KERNEL = (
    door("mounts"),
    door("tracing"),
    door("uring"),
    door("vsock"),
    door("families"),
    door("namespaces", NAMESPACES),
    door("keys"),
    door("bpf"),
    door("perf"),
    door("modules"),
    door("power"),
    door("clocks"),
    door("priorities", r"\A(.+: (EPERM|EACCES)\n){6}\Z"),
    door("real_time"),
    door("devices", r"\A(/dev/.+: ENOENT\n){16}\Z"),
    door("make_devices"),
    door("identities", r"(?s)\A(.+: EPERM\n){5}chown a file of root: EROFS\nchmod a file of root: EROFS\n\Z"),
    door("capabilities", r"\A(.+: EPERM\n){3}new privileges again: EINVAL\npersonality: EPERM\n\Z"),
    door("kernel_log", r"\A(syslog .+: EPERM\n){2}/proc/kmsg: (EPERM|EACCES)\n/dev/kmsg: ENOENT\n\Z"),
    door("handles"),
    door("file_flags"),
    door("foreign_abi", r"\A(x32 .+: (ENOSYS|EPERM|SIGNAL)\n){2}(i386 .+: (ENOSYS|EPERM|SIGNAL)\n){3}\Z"),
    door("egress", NOWHERE),
    door("interfaces", r"\A(.+: (EPERM|ENODEV)\n){5}\Z"),
    Attack(
        "a set-user-ID program of root",
        ("/suid/doors", "identity"),
        says=r"euid 65532 egid 65532\n(Cap...:\t0+\n){5}NoNewPrivs:\t1\nSeccomp:\t2\n",
    ),
    Attack("su", shell("su root -c id; test $? != 0"), says="must be suid"),
    Attack(
        "kernel settings",
        writes(
            "/proc/sys/kernel/core_pattern",
            "/proc/sys/kernel/hostname",
            "/proc/sys/kernel/modprobe",
            "/proc/sys/vm/drop_caches",
            "/proc/sys/vm/overcommit_memory",
            "/proc/sys/net/ipv4/ip_forward",
            "/proc/sys/fs/suid_dumpable",
            "/proc/sysrq-trigger",
            "/proc/irq/default_smp_affinity",
            "/proc/fs/ext4/options",
        ),
        says="(?s)core_pattern: Read-only file system.*ip_forward: Read-only file system",
    ),
    Attack(
        "settings of devices and memory",
        writes(
            "/sys/power/state",
            "/sys/kernel/uevent_helper",
            "/sys/kernel/mm/transparent_hugepage/enabled",
            "/sys/module/kernel/parameters/consoleblank",
            "/sys/class/net/lo/mtu",
            "/sys/block/*/queue/scheduler",
            "/sys/bus/pci/rescan",
        ),
        says="(?s)Read-only file system",
    ),
    Attack(
        "escape by release_agent",
        shell(ESCAPE),
        says="Read-only file system",
    ),
    Attack(
        "its own chance of being killed",
        shell("(echo -1000 > /proc/self/oom_score_adj) && echo ALLOWED; cat /proc/self/oom_score_adj"),
        says=r"(?s)1000.*Permission denied",
    ),
    Attack(
        "the root file system",
        writes("/etc/passwd", "/bin/busybox", "/etc/resolv.conf", "/etc/hosts", "/etc/hostname", "/dev/new", "/new"),
        says=r"/etc/passwd: Read-only file system(?s:.*)/etc/hosts: (Read-only|Permission)",
    ),
    Attack(
        "kernel memory and keys",
        shell("cat /proc/kcore /proc/keys /proc/timer_list /proc/latency_stats | wc -c; ls /sys/firmware | wc -l"),
        says=r"\A0\n0\n",
    ),
    Attack(
        "the processes of others",
        shell("ls -d /proc/[0-9]* | wc -l; ls /proc/1/root/task > /dev/null && cat /proc/1/status | head -n 1"),
        says=r"\A[345]\nName:\t(docker-init|tini)\n",
    ),
)

HOST = (
    Attack("a file of the host", shell('cat "$SECRET" /host"$SECRET"; test $? != 0'), says="No such file"),
    Attack(
        "the folders of other attempts",
        shell('ls -a "$HOST_FOLDER" "$NODE_FOLDER/workspaces" "$NODE_FOLDER/attempts" /task/.. ; true'),
        says=r"(?s)\A/task/\.\.:\n(?!.*workspaces\n).*No such file",
    ),
    Attack(
        "the container engine",
        shell("ls /var/run/docker.sock /run/docker.sock /run/containerd/containerd.sock; test $? != 0"),
        says="No such file",
    ),
    Attack("other interfaces", shell("ls /sys/class/net; ip route; ip addr | grep -c inet"), says=r"\Alo\n\d\n"),
    Attack(
        "its own input",
        shell("echo changed > data; chmod 600 data; sha256sum data"),
        spec={"files": {"data": "a" * 70_000}},
        says="  data\n",
    ),
    Attack("segments of System V", ("bombs", "segments"), "memory_limit", limits={"memory": "16M"}, told="16M"),
)

PROCESSES = (
    Attack("fork bomb", ("bombs", "forks"), "time_limit", told="its limit is 2s", limits={"time": "2s", "pids": 48}),
    Attack(
        "fork bomb of a shell",
        shell("bomb() { bomb | bomb & }; bomb; sleep 1; exit 0"),
        "pids_limit",
        told="a further one was refused",
        limits={"pids": 24},
    ),
    Attack("thread bomb", ("bombs", "threads"), "pids_limit", says=r"thread: EAGAIN after \d\d\n", told="64 processes"),
    Attack(
        "49 busy threads",
        ("bombs", "burners"),
        "cpu_time_limit",
        limits={"cpu_time": "500ms"},
        told="over all its processes",
    ),
    Attack(
        "busy by turns",
        ("bombs", "relay"),
        "cpu_time_limit",
        limits={"cpu_time": "500ms"},
        told="over all its processes",
    ),
    Attack("deaf to signals", ("bombs", "deaf"), "time_limit", limits={"time": "1s"}),
    Attack("stopped by itself", ("bombs", "freezes"), "time_limit", limits={"time": "1s"}, told="asleep"),
    Attack("sleeps in the background", shell("sleep 600 & sleep 600 & exit 0")),
    Attack("stopped children and zombies", ("bombs", "leftovers")),
    Attack("a daemon", ("bombs", "daemon"), collect=({"glob": "diary"},), files=named("diary")),
    Attack("kill -9 1 and all", ("bombs", "kills"), says=r"(?s)\Akill init: .*\nstill here\n\Z"),
    Attack("the limits of init", ("bombs", "init_limits"), "signal", "limit of init: set", "SIGKILL"),
    Attack("kill -TERM 1", shell("kill -TERM 1; sleep 20; echo ALLOWED"), "signal", told="SIGTERM"),
    Attack("core dump", ("bombs", "dumps"), "signal", r"core limit: EPERM", "SIGABRT", collect=EVERY_FILE),
    Attack("endless recursion", ("bombs", "overflows"), "signal", told="SIGSEGV", collect=EVERY_FILE),
    Attack("a program that is an option", ("--privileged",), "exit_code", told="not found"),
    Attack(
        "a lie about why it did not start",
        shell("echo '[FATAL tini (7)] exec docker failed: No such file or directory' >&2; exit 127"),
        "exit_code",
        told="docker",
    ),
    Attack("the status of a killed one", shell("exit 137"), "signal", told="SIGKILL"),
)

MEMORY = (
    Attack("memory", ("bombs", "memory"), "memory_limit", limits={"memory": "16M"}, told="more than 16M"),
    Attack(
        "memory of children", ("bombs", "many_hogs"), "memory_limit", limits={"memory": "24M"}, told="exited with 0"
    ),
    Attack("memory in a file without a name", ("bombs", "memfd"), "memory_limit", limits={"memory": "16M"}),
    Attack("memory in /dev/shm", ("bombs", "shm_file"), "memory_limit", limits={"memory": "16M"}),
    Attack("/dev/shm is full", ("bombs", "shm_file"), says="/dev/shm: ENOSPC after 64", limits=ROOMY),
    Attack("/tmp is full", ("bombs", "tmp_file"), says="/tmp: ENOSPC after 64", limits=ROOMY),
    Attack("/tmp has no more files", ("bombs", "tmp_files"), says=r"/tmp: ENOSPC after 16\d\d\d\n"),
    Attack("message queues", ("bombs", "queues"), says=r"queue: (EMFILE|ENOSPC|ENOMEM) after \d+\n"),
    Attack("buffers of sockets", ("bombs", "buffers"), "memory_limit", limits={"memory": "16M"}),
    Attack("buffers of pipes", ("bombs", "pipes"), "memory_limit", limits={"memory": "16M"}),
    Attack("open files", ("bombs", "descriptors"), says=r"descriptor: EMFILE after 81\d\d\n"),
)

DISK = (
    Attack("disk", ("bombs", "disk"), "storage_limit", "disk: ENOSPC", "8M", limits={"storage": "8M"}),
    Attack("a file that is gone", ("bombs", "unlinked"), "storage_limit", "ENOSPC", limits={"storage": "8M"}),
    Attack("inodes", ("bombs", "inodes"), "storage_limit", "ENOSPC", "all the 1000 files"),
    Attack(
        "a terabyte of nothing", ("bombs", "sparse"), says="terabyte: EFBIG", collect=EVERY_FILE, files=named("sparse")
    ),
    Attack("the same without asking", shell(f"truncate -s {1 << 40} big"), "storage_limit", "", "32M"),
    Attack("memory of a full disk", ("bombs", "mapped"), "storage_limit", limits={"storage": "6M", "memory": "64M"}),
    Attack(
        "gigabytes of holes",
        ("bombs", "holes"),
        collect=EVERY_FILE,
        files=named("hole-000"),
        told='hole-001 has 31457280 bytes; .* may still be collected"',
    ),
    Attack("extended attributes", ("bombs", "attributes"), says="attribute: (ENOSPC|EDQUOT|E2BIG)"),
    Attack(
        "more files than are taken",
        ("bombs", "many_files"),
        limits={"files": 15000, "storage": "64M"},
        collect=({"glob": "many/*"},),
        files=None,
        told="more than 10000 files",
    ),
    Attack(
        "60,000 names in one folder",
        ("bombs", "crowd"),
        limits={"files": 65_000, "storage": "64M", "memory": "192M"},
        collect=({"glob": "crowd/*.txt"}, {"glob": "wanted", "required": True}),
        files=named("wanted"),
    ),
)

OUTPUTS = (
    Attack(
        "links",
        shell(
            'ln -s "$SECRET" absolute; ln -s ../../../../../../etc/passwd relative; ln -s / folder; ln -s . here;'
            "ln -s /proc/self/environ magic; ln -s loop loop; ln -s /nowhere dangling; echo mine > mine"
        ),
        collect=(*EVERY_FILE, {"glob": "folder/etc/passwd"}, {"glob": "here/here/mine"}),
        files=named("mine"),
        told='"absolute is a symbolic link"',
    ),
    Attack(
        "a link instead of what was asked for",
        shell('ln -s "$SECRET" wanted'),
        "missing_output",
        collect=({"glob": "wanted", "required": True},),
    ),
    Attack("a link that comes and goes", ("bombs", "swaps"), collect=EVERY_FILE, files=None),
    Attack(
        "hard links",
        shell("echo two > one; ln one two; ln /bin/busybox three; ln /proc/self/status four; true"),
        collect=EVERY_FILE,
        told='"one has 2 hard links"',
        says="(?i)cross-device link",
    ),
    Attack(
        "a pipe and a socket", ("bombs", "sockets"), collect=EVERY_FILE, told='"pipe is a named pipe".*is a socket"'
    ),
    Attack(
        "a pipe instead of the output that was asked for",
        shell("mkfifo wanted"),
        "missing_output",
        collect=({"glob": "wanted", "required": True},),
    ),
    Attack(
        "20,000 folders deep",
        ("bombs", "deep"),
        says="20000 folders deep",
        collect=EVERY_FILE,
        limits={"files": 25000, "storage": "128M"},
        told="is more than 100 folders deep",
    ),
    Attack(
        "strange names",
        ("bombs", "strange_names"),
        collect=EVERY_FILE,
        files=named(
            *("line%0Aend", "esc%1B[2Jape", "%FF%FE raw", "-rf", "back%5Cslash", " ", "%0A", "tab%09and%0Dreturn"),
            *("\u202etxt.exe", "<script>alert(1)<", "a;b|c&d$(e)`f`", "*", "n" * 255),
        ),
    ),
    Attack(
        "names that clash",
        shell("mkdir -p a b x; echo 1 > a/same; echo 2 > b/same; echo 3 > x/a; mkdir y; echo 4 > y/b"),
        collect=({"glob": "?/same", "strip": 1}, {"glob": "x/a", "strip": 1, "prefix": "same"}),
        files=named("same"),
        told="would be same",
    ),
    Attack(
        "names of the streams",
        shell("echo said; echo forged > out; echo forged > err"),
        collect=EVERY_FILE,
        says=r"\Asaid\n\Z",
        told="out would have the same name",
    ),
    Attack(
        "no permission",
        shell("mkdir shut; echo kept > shut/file; chmod 000 shut/file shut"),
        collect=EVERY_FILE,
        files=named("shut/file"),
    ),
)

STREAMS = (
    Attack("a flood of output", shell("yes $(seq 50) | head -c 30000000"), "output_limit", told="27"),
    Attack("a flood of errors", shell("yes $(seq 50) | head -c 20000000 >&2"), "output_limit", told="more than the 1M"),
    Attack(
        "a flood of both",
        shell("yes $(seq 50) | head -c 9000000 & yes $(seq 50) | head -c 9000000 >&2; wait"),
        "output_limit",
    ),
    Attack("a flood without end", shell("yes"), "time_limit", limits={"time": "2s"}, told="ended after [2-4]"),
    Attack("one line without end", shell("head -c 5000000 /dev/zero"), "output_limit"),
    Attack(
        "words for terminals and browsers",
        shell(r"printf '\033]0;owned\007\033[2J<script>alert(1)</script>\000\377\n'; printf '\033c' >&2"),
        says=r"\A\x1b\]0;owned\x07\x1b\[2J<script>alert\(1\)</script>\x00\udcff\n\x1bc\Z",
    ),
    Attack("closed streams", shell("exec <&- >&- 2>&-; sleep 0.2; exit 3"), "exit_code", told="exited with 3"),
    Attack("writes behind the back of others", shell("echo mine > /proc/1/fd/1; echo ended"), says="ended"),
)

WISHES: tuple[Wish, ...] = (
    Wish("the network", {"limits": {"network": True}}, "limits.network: the network is not allowed"),
    Wish("privileges", {"privileged": True}, "privileged: unknown key"),
    Wish("a folder of the host", {"volumes": {"/": "/host"}}, "volumes: unknown key"),
    Wish("a device of the host", {"devices": ["/dev/vda"]}, "devices: unknown key"),
    Wish("root", {"user": "0:0"}, "user: unknown key"),
    Wish("capabilities", {"limits": {"cap_add": ["ALL"]}}, "limits.cap_add: unknown key"),
    Wish("the namespace of the host", {"limits": {"pid_mode": "host"}}, "limits.pid_mode: unknown key"),
    Wish("a file above the task", {"files": {"../../etc/cron.d/x": {"content": "x"}}}, 'has a ".."'),
    Wish("an absolute file", {"files": {"/etc/passwd": {"content": "x"}}}, "is absolute"),
    Wish("a file of the server", {"files": {"copy": {"path": "/etc/passwd"}}}, "is absolute"),
    Wish("a blob of others", {"files": {"copy": {"reference": "ab" * 32}}}, "abab"),
    Wish("an input through a folder", {"files": {"a": {"content": "x"}, "a/b": {"content": "x"}}}, "a/b"),
    Wish("its output somewhere else", {"stdout": "../../../etc/passwd"}, 'has a ".."'),
    Wish("outputs from above", {"collect": [{"glob": "../*"}]}, "[.][.]"),
    Wish("an option as an image", {"image": "--privileged"}, "is not an image"),
    Wish("two variables in one", {"environment": {"A=B\nC": "x"}}, "is not a name"),
    Wish("an endless name", {"name": "x" * 100_000}, "is longer than"),
)

TABLE: tuple[Attack, ...] = (*KERNEL, *HOST, *PROCESSES, *MEMORY, *DISK, *OUTPUTS, *STREAMS, *JUDGES)
