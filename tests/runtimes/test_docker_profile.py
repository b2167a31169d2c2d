"""The profile of real containers: every key of what the engine made of it, and what a program cannot do in it."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from nodes.runtimes import Job, Stop
from nodes.runtimes.docker import DockerRuntime, profile
from nodes.runtimes.docker.engine import Engine
from nodes.runtimes.docker.layer import Layer
from nodes.runtimes.docker.seccomp import profile as seccomp_profile
from tasks.errors import NodeFault
from tasks.profiles import Profile
from tasks.states import StopCause
from tests.conftest import needs
from tests.support.jobs import NODE, make_job
from tests.support.node_api import eventually

pytestmark = needs("docker", "busybox", "root")

MIB = 1 << 20
TMP = "rw,nosuid,nodev,exec,size=67108864,nr_inodes=16384,mode=1777"

# Every key of HostConfig as the engine tells it, for a job with most limits. What a newer engine adds must be looked at
# and written down here before this test passes again.
HOST_CONFIG: dict[str, Any] = {
    "AutoRemove": False,
    "Binds": None,
    "BlkioDeviceReadBps": None,
    "BlkioDeviceReadIOps": None,
    "BlkioDeviceWriteBps": None,
    "BlkioDeviceWriteIOps": None,
    "BlkioWeight": 0,
    "BlkioWeightDevice": None,
    "CapAdd": None,
    "CapDrop": ["ALL"],
    "Cgroup": "",
    "CgroupnsMode": "host",
    "ConsoleSize": [0, 0],
    "ContainerIDFile": "",
    "CpuCount": 0,
    "CpuPercent": 0,
    "CpuPeriod": 0,
    "CpuQuota": 0,
    "CpuRealtimePeriod": 0,
    "CpuRealtimeRuntime": 0,
    "CpuShares": 0,
    "CpusetCpus": "",
    "CpusetMems": "",
    "DeviceCgroupRules": None,
    "DeviceRequests": None,
    "Devices": None,
    "Dns": None,
    "DnsOptions": None,
    "DnsSearch": None,
    "ExtraHosts": None,
    "GroupAdd": None,
    "IOMaximumBandwidth": 0,
    "IOMaximumIOps": 0,
    "Init": True,
    "IpcMode": "private",
    "Isolation": "",
    "KernelMemory": 0,
    "KernelMemoryTCP": 0,
    "Links": None,
    "LogConfig": {"Type": "local", "Config": {"compress": "false", "max-file": "1", "max-size": str(16 * MIB)}},
    "Memory": 64 * MIB,
    "MemoryReservation": 0,
    "MemorySwap": 64 * MIB,
    "MemorySwappiness": None,
    "NanoCpus": 500_000_000,
    "NetworkMode": "none",
    "OomKillDisable": False,
    "OomScoreAdj": 1000,
    "PidMode": "",
    "PidsLimit": 33,
    "PortBindings": None,
    "Privileged": False,
    "PublishAllPorts": False,
    "ReadonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
    "ReadonlyRootfs": True,
    "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
    "Runtime": "runc",
    "ShmSize": 64 * MIB,
    "Tmpfs": {"/tmp": TMP},
    "UTSMode": "",
    "Ulimits": [
        {"Name": "core", "Soft": 0, "Hard": 0},
        {"Name": "nofile", "Soft": 8192, "Hard": 8192},
        {"Name": "fsize", "Soft": 12 * MIB + 256 * 1024, "Hard": 12 * MIB + 256 * 1024},
    ],
    "UsernsMode": "",
    "VolumeDriver": "",
    "VolumesFrom": None,
}

MASKED = {"/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/scsi", "/sys/firmware"}
"""At least these; engines add to them."""

FORBIDDEN = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <linux/io_uring.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static void tell(const char *name, long result) { printf("%s %s\n", name, result < 0 ? strerrorname_np(errno) : "ok"); }

int main(void) {
    struct io_uring_params params = {0};
    int family[] = {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_VSOCK, AF_ALG, AF_PACKET};
    const char *name[] = {"unix", "inet", "inet6", "netlink", "vsock", "alg", "packet"};
    for (unsigned i = 0; i < 7; i++)
        tell(name[i], socket(family[i], family[i] == AF_ALG ? SOCK_SEQPACKET : SOCK_DGRAM, 0));
    tell("io_uring", syscall(SYS_io_uring_setup, 4, &params));
    tell("ptrace", ptrace(PTRACE_TRACEME, 0, 0, 0));
    tell("userns", unshare(CLONE_NEWUSER));
    tell("mount", syscall(SYS_mount, "none", "/tmp", "tmpfs", 0, 0));
    tell("keyctl", syscall(SYS_keyctl, 0, -3, 0));
    tell("bpf", syscall(SYS_bpf, 0, 0, 0));
    tell("clone3", syscall(SYS_clone3, 0, 0));
    tell("setuid0", setuid(0));
    return 0;
}
"""
ANSWERS = {
    **dict.fromkeys(("unix", "inet", "inet6", "netlink"), "ok"),
    **dict.fromkeys(("vsock", "alg", "packet", "io_uring", "ptrace", "userns", "mount", "keyctl", "bpf"), "EPERM"),
    "clone3": "ENOSYS",
    "setuid0": "EPERM",
}


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """The real engine, as the runtime sees it."""
    engine = Engine()
    yield engine
    engine.close()


def inspected(engine: Engine, job: Job, runtime: DockerRuntime) -> dict[str, Any]:
    """What the engine says of a job's container while it runs."""
    stop, failures = Stop(), list[NodeFault]()

    def work() -> None:
        try:
            runtime.run(job, stop)
        except NodeFault as fault:
            failures.append(fault)

    thread = threading.Thread(target=work)
    thread.start()
    deadline = time.monotonic() + 10
    while not (there := engine.labelled({profile.LABEL_ATTEMPT: job.attempt})) or there[0]["State"] != "running":
        assert time.monotonic() < deadline, failures
        time.sleep(0.02)
    found = engine.inspect(there[0]["Id"])
    stop.request(StopCause.LEASE_LOST, "seen enough")
    thread.join(10)
    return found


def test_every_key_of_the_host_config_is_as_listed(
    docker_runtime: DockerRuntime, engine: Engine, tmp_path: Path
) -> None:
    job = make_job(tmp_path, "sleep", "60", limits={"cpus": 0.5, "storage": "8M", "files": 100})
    seen = inspected(engine, job, docker_runtime)
    config = seen["HostConfig"]
    assert config.pop("SecurityOpt") == ["no-new-privileges", f"seccomp={seccomp_profile()}"]
    assert config.pop("CgroupParent").endswith(job.attempt)
    assert config.pop("Mounts") == [
        {
            "Type": "bind",
            "Source": str(job.workspace),
            "Target": "/task",
            "BindOptions": {"Propagation": "rprivate", "NonRecursive": True},
        }
    ]
    assert set(config.pop("MaskedPaths")) >= MASKED
    # Engines on cgroup v2 give each container a view of its own.
    config["CgroupnsMode"] = "host"
    assert config == HOST_CONFIG


def test_every_key_of_a_judges_host_config_is_as_listed(
    docker_runtime: DockerRuntime, engine: Engine, tmp_path: Path
) -> None:
    limits = {"cpus": 0.5, "storage": "8M", "files": 100}
    with closing(socket.socket(socket.AF_UNIX)) as observer:
        there = tmp_path / "observer" / "socket"
        there.parent.mkdir()
        observer.bind(str(there))
        more = {"profile": Profile.JUDGE, "observer": there, "uid": 0, "gid": 0}
        job = make_job(
            tmp_path, "sh", "-c", "test -S /var/run/kolejka/observer/socket && sleep 60", limits=limits, **more
        )
        seen = inspected(engine, job, docker_runtime)
    assert seen["Config"]["User"] == "0:0"
    config = seen["HostConfig"]
    assert config.pop("SecurityOpt") == ["no-new-privileges", f"seccomp={seccomp_profile(judge=True)}"]
    assert config.pop("CgroupParent").endswith(job.attempt)
    bound = [(one["Source"], one["Target"], one.get("ReadOnly", False)) for one in config.pop("Mounts")]
    assert bound == [
        (str(job.workspace), "/task", False),
        (str(tmp_path / "observer"), "/var/run/kolejka/observer", True),
    ]
    assert set(config.pop("MaskedPaths")) >= MASKED
    config["CgroupnsMode"] = "host"
    added = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "SETGID", "SETUID", "SYS_NICE"]
    assert config == {**HOST_CONFIG, "CapAdd": added, "ReadonlyRootfs": False}


def test_what_a_judge_writes_into_the_root_file_system_is_measured(
    docker_runtime: DockerRuntime, engine: Engine, tmp_path: Path
) -> None:
    script = "head -c 3000000 /dev/zero > /var/big; mkdir -p /srv/many/more; echo 1 > /etc/hostname; sleep 60"
    job = make_job(tmp_path, "sh", "-c", script, profile=Profile.JUDGE, uid=0, gid=0)
    stop = Stop()
    thread = threading.Thread(target=docker_runtime.run, args=(job, stop))
    thread.start()
    try:
        eventually(lambda: _running(engine, job), 30)
        (there,) = engine.labelled({profile.LABEL_ATTEMPT: job.attempt})
        layer = Layer(engine, there["Id"])
        eventually(lambda: layer.written(()).size > 3_000_000, 30)
        assert 3 <= layer.written(()).files < 30
        layer.folder = None
        assert layer.written(()).size >= 3_000_000, "by the engine itself, where its folder cannot be seen"
    finally:
        stop.request(StopCause.LEASE_LOST, "seen enough")
        thread.join(10)


def _running(engine: Engine, job: Job) -> bool:
    there = engine.labelled({profile.LABEL_ATTEMPT: job.attempt})
    return bool(there) and there[0]["State"] == "running"


@pytest.mark.parametrize("name", ["standard", "judge"])
def test_only_a_judge_gets_the_observer_and_only_where_there_is_one(tmp_path: Path, name: str) -> None:
    job = make_job(tmp_path, "true", profile=Profile(name), observer=tmp_path / "observer")
    targets = [one["Target"] for one in profile.container(job, profile.Offer())["HostConfig"]["Mounts"]]
    assert (profile.OBSERVER in targets) == (name == "judge")
    job = make_job(tmp_path, "true", profile=Profile(name))
    assert len(profile.container(job, profile.Offer())["HostConfig"]["Mounts"]) == 1


def test_labels_user_and_place_are_as_promised(docker_runtime: DockerRuntime, engine: Engine, tmp_path: Path) -> None:
    job = make_job(tmp_path, "sleep", "60")
    seen = inspected(engine, job, docker_runtime)
    assert seen["Name"] == f"/grid-{job.attempt}"
    config = seen["Config"]
    assert config["Labels"] == {
        "grid.task": job.task,
        "grid.attempt": job.attempt,
        "grid.node": NODE,
        "grid.owner": NODE,
    }
    assert (config["User"], config["WorkingDir"], config["OpenStdin"]) == ("65532:65532", "/task", False)
    assert (config["Entrypoint"], config["Cmd"]) == (["sleep"], ["60"])
    assert [(mount["Type"], mount["Destination"]) for mount in seen["Mounts"]] == [("bind", "/task")]


def test_whole_cpus_are_a_set_of_cores_and_network_is_the_bridge(
    docker_runtime: DockerRuntime, engine: Engine, tmp_path: Path
) -> None:
    job = make_job(tmp_path, "sleep", "60", cores=(0, 1), limits={"cpus": 2, "swap": "32M"})
    config = inspected(engine, job, docker_runtime)["HostConfig"]
    assert (config["CpusetCpus"], config["NanoCpus"]) == ("0,1", 0)
    assert config["MemorySwap"] == 96 * MIB
    wanted = profile.host_config(make_job(tmp_path, "true", limits={"network": True}), profile.Offer())
    assert wanted["NetworkMode"] == "bridge"


@needs("gcc")
def test_seccomp_lets_programs_work_and_keeps_them_from_the_rest(docker_runtime: DockerRuntime, tmp_path: Path) -> None:
    job = make_job(tmp_path, "./forbidden")
    program = job.workspace / "forbidden"
    subprocess.run(
        ["gcc", "-static", "-x", "c", "-o", program, "-"], input=FORBIDDEN, text=True, check=True, timeout=60
    )
    assert docker_runtime.run(job, Stop()).exit_code == 0
    assert dict(line.split() for line in job.stdout.read_text().splitlines()) == ANSWERS


def test_only_the_workspace_and_small_folders_in_memory_can_be_written(
    docker_runtime: DockerRuntime, tmp_path: Path
) -> None:
    script = (
        "for place in / /etc /dev /sys /sys/fs/cgroup /proc/sys/kernel /var;"
        "do touch $place/x 2>/dev/null && echo $place; done;"
        "for place in /task /tmp /dev/shm; do touch $place/x || echo not $place; done;"
        "head -c 70000000 /dev/zero > /tmp/big 2>/dev/null && echo too much;"
        "ip link | grep -c mtu; ulimit -c; ls /dev/mem"
    )
    job = make_job(tmp_path, "sh", "-c", script, limits={"memory": "128M"})
    docker_runtime.run(job, Stop())
    assert job.stdout.read_text().splitlines() == ["1", "0"]


def test_setuid_and_device_files_in_the_workspace_have_no_power(docker_runtime: DockerRuntime, tmp_path: Path) -> None:
    job = make_job(
        tmp_path, "sh", "-c", "grep NoNewPrivs /proc/self/status; grep CapBnd /proc/self/status; mknod d c 1 3"
    )
    assert docker_runtime.run(job, Stop()).exit_code != 0
    assert job.stdout.read_text().split() == ["NoNewPrivs:", "1", "CapBnd:", "0" * 16]


def test_volumes_that_an_image_declares_are_small_folders_in_memory(
    docker_runtime: DockerRuntime, engine: Engine, tmp_path: Path
) -> None:
    name = f"{NODE}-volume:1"
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(
        'FROM busybox:local\nVOLUME /data\nHEALTHCHECK CMD true\nENTRYPOINT ["false"]\n'
    )
    build = ["docker", "build", "-q", "-t", name, str(context)]
    subprocess.run(
        build, env={"DOCKER_BUILDKIT": "0", "PATH": "/usr/bin:/bin"}, capture_output=True, check=True, timeout=60
    )
    try:
        job = make_job(tmp_path, "sh", "-c", "grep ' /data ' /proc/mounts; sleep 60", image=name)
        seen = inspected(engine, job, docker_runtime)
        assert [mount["Type"] for mount in seen["Mounts"]] == ["bind"]
        assert "/data" in seen["HostConfig"]["Tmpfs"]
        assert "Health" not in seen["State"]
        assert job.stdout.read_text().startswith("tmpfs /data tmpfs rw,nosuid,nodev,noexec")
    finally:
        subprocess.run(["docker", "image", "rm", "-f", name], capture_output=True, check=True, timeout=30)


@pytest.mark.parametrize("name", ["A=B", "", "A\0", "1A", "A B"])
def test_strange_names_of_variables_are_refused(tmp_path: Path, name: str) -> None:
    job = make_job(tmp_path, "true", environment={name: "value"})
    with pytest.raises(NodeFault, match="environment"):
        profile.container(job, profile.Offer())


def test_without_args_the_image_decides(tmp_path: Path) -> None:
    config = profile.container(make_job(tmp_path), profile.Offer())
    assert not {"Cmd", "Entrypoint"} & set(config)


def test_poorer_engines_get_what_they_can_do(tmp_path: Path) -> None:
    job = make_job(tmp_path, "true", limits={"pids": 5})
    config = profile.host_config(job, profile.Offer(has_init=False, limits_swap=False, has_local_log=False))
    assert (config["Init"], config["PidsLimit"], config["LogConfig"]["Type"]) == (False, 5, "json-file")
    assert "MemorySwap" not in config


def test_profile_is_plain_json() -> None:
    assert {"defaultAction", "archMap", "syscalls"} == set(json.loads(seccomp_profile()))
