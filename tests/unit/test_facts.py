"""What a node says of itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nodes import facts
from nodes.config import NodeConfig
from nodes.facts import Gpu, Processor, gather, machine_tags
from nodes.runtimes.fake import FakeRuntime
from nodes.workspace import WorkspaceKind
from tasks.errors import NodeFault


def make_config(directory: Path) -> NodeConfig:
    """A node's settings."""
    return NodeConfig(server="http://127.0.0.1", name="n1", directory=directory, token="t", tags=("lab:3", "cpus:2"))


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("Intel(R) Xeon(R) CPU E3-1270 v5 @ 3.60GHz", "xeon e3-1270 v5"),
        ("AMD EPYC", "epyc"),
        ("Intel(R) Core(TM) i7-9700K CPU @ 3.60GHz", "i7-9700k"),
        ("AMD Ryzen 7 3700X 8-Core Processor", "ryzen 7 3700x 8-core processor"),
        ("Intel(R) Core(TM)2 Quad CPU    Q9550  @ 2.83GHz", "q9550"),
        ("13th Gen Intel(R) Core(TM) i5-1345U", "13th i5-1345u"),
        ("", ""),
    ],
)
def test_processors_are_named_as_kolejka_names_them(model: str, name: str) -> None:
    assert facts.processor_name(model) == name


def test_graphics_cards_are_named_as_kolejka_names_them() -> None:
    assert facts.gpu_name("NVIDIA GeForce GTX 1060 6GB") == "geforce gtx 1060"
    assert facts.parse_gpus("NVIDIA A100, 40960\n\nTesla K80, [N/A]\n") == (Gpu("NVIDIA A100", 40960 << 20),)


def test_tags_tell_of_host_kernel_processor_and_cards() -> None:
    tags = machine_tags(
        Processor("GenuineIntel", "Intel(R) Xeon(R) CPU E3-1270 v5 @ 3.60GHz"), 8, (Gpu("NVIDIA A100", 1),)
    )
    assert {"cpu:intel", "cpu:xeon e3-1270 v5", "cpus:8", "gpu:nvidia", "gpu:a100"} <= set(tags)
    assert {tag.partition(":")[0] for tag in tags} == {"hostname", "kernel", "cpu", "cpus", "gpu"}
    assert not any(tag.startswith(("cpu:", "gpu:")) for tag in machine_tags(Processor("Strange", ""), 1, ()))


def test_proc_files_are_read() -> None:
    text = "processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC\nflags : x\n"
    assert facts.read_processor(text) == Processor("AuthenticAMD", "AMD EPYC")
    assert facts.read_meminfo("MemTotal:  2 kB\nHugePages_Total:       0\n") == {"MemTotal": 2048}


def test_a_node_offers_most_of_its_machine(tmp_path: Path) -> None:
    found = gather(make_config(tmp_path), FakeRuntime(), WorkspaceKind.LOOP, lambda: ("busybox:1",))
    memory = facts.read_meminfo(Path("/proc/meminfo").read_text())["MemTotal"]
    assert 0 < found.capacity.memory <= memory * 0.9
    assert found.capacity.slots == found.capacity.cpus * 2
    assert found.capacity.pids > 1000
    assert found.capacity.storage > 0
    assert found.images == ("busybox:1",)
    assert {"storage", "files", "time", "memory"} <= set(found.enforces)
    assert {"lab:3", "cpus:2"} <= set(found.tags)
    assert found.details["workspace"] == "loop"


def test_settings_cap_what_is_offered(tmp_path: Path) -> None:
    config = replace(make_config(tmp_path), cpus=0.5, memory_bytes=1 << 20, slots=7)
    capacity = gather(config, FakeRuntime(), WorkspaceKind.PLAIN).capacity
    assert (capacity.cpus, capacity.memory, capacity.slots) == (0.5, 1 << 20, 7)


def test_workspaces_in_memory_share_it(tmp_path: Path) -> None:
    capacity = gather(make_config(tmp_path), FakeRuntime(), WorkspaceKind.TMPFS).capacity
    assert capacity.storage == capacity.memory // 2


def test_a_runtime_that_does_not_answer_is_a_fault(tmp_path: Path) -> None:
    runtime = FakeRuntime()
    runtime.answers = False
    with pytest.raises(NodeFault):
        gather(make_config(tmp_path), runtime, WorkspaceKind.PLAIN)
