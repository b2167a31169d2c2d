"""What attempts that a node does not know have left on the machine goes, and nothing else does."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodes import loopdevice, workspace
from nodes.config import NodeConfig
from nodes.runtimes.docker import DockerRuntime, profile
from nodes.sweeping import Sweeper, sweep_probes
from nodes.workspace import WorkspaceKind
from observer.cgroups import Tree, detect
from tests.support.images import BUSYBOX, docker, ensure_busybox

pytestmark = pytest.mark.needs("docker", "root", "busybox")


class Lab:
    """A node's folder and engine, with the attempts that it knows; ``cleaned`` are the folders that were to go."""

    def __init__(self, folder: Path) -> None:
        self.config = NodeConfig(
            server="http://127.0.0.1:1", name=f"sweep-{secrets.token_hex(3)}", directory=folder, token="t"
        )
        self.config.workspaces.mkdir(parents=True)
        self.config.attempts.mkdir()
        self.runtime = DockerRuntime(self.config.identity)
        self.known: set[str] = set()
        self.cleaned: list[str] = []
        self.sweeper = Sweeper(self.config, self.runtime, self.known.__contains__, self._clean)
        self.runtime.probe()

    def leave(self, attempt: str) -> None:
        """All that an agent leaves behind that is killed in the middle of an attempt."""
        identity = self.config.identity
        labels = {profile.LABEL_OWNER: identity, profile.LABEL_ATTEMPT: attempt}
        options = [word for name, value in labels.items() for word in ("--label", f"{name}={value}")]
        docker("run", "--detach", "--network", "none", *options, "--name", self.name(attempt), BUSYBOX, "sleep", "600")
        Tree(detect(), base=f"grid/{identity}").create(attempt)
        workspace.create(
            self.config.workspaces / attempt, kind=WorkspaceKind.LOOP, limit_bytes=1 << 20, limit_files=10, owner=(0, 0)
        )
        (self.config.attempts / attempt).mkdir()

    def name(self, attempt: str) -> str:
        """The name of the attempt's container."""
        return profile.container_name(attempt)

    def left(self, attempt: str) -> tuple[bool, bool, bool]:
        """Whether its container, its group and its workspace are there."""
        names = docker("ps", "--all", "--format", "{{.Names}}").decode().split()
        groups = Tree(detect(), base=f"grid/{self.config.identity}").names()
        mounts = Path("/proc/self/mountinfo").read_text()
        return (
            self.name(attempt) in names,
            attempt in groups,
            str(self.config.workspaces / attempt) in mounts,
        )

    def close(self) -> None:
        """Leave nothing."""
        self.runtime.reap(())
        self.runtime.close()
        for folder in workspace.leftovers(self.config.workspaces):
            workspace.destroy(folder)

    def _clean(self, attempt: str) -> None:
        self.cleaned.append(attempt)
        workspace.destroy(self.config.workspaces / attempt)
        (self.config.attempts / attempt).rmdir()


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    ensure_busybox()
    made = Lab(tmp_path / "node")
    yield made
    made.close()


def test_an_orphan_goes_at_the_second_look_and_what_is_known_stays(lab: Lab) -> None:
    orphan, ours = f"a{secrets.token_hex(8)}", f"a{secrets.token_hex(8)}"
    lab.leave(orphan)
    lab.leave(ours)
    lab.known.add(ours)
    lab.sweeper.look()
    assert lab.left(orphan) == (True, True, True)
    lab.sweeper.look()
    assert lab.left(orphan) == (False, False, False)
    assert lab.cleaned == [orphan]
    lab.sweeper.look()
    assert lab.left(ours) == (True, True, True)
    assert not (lab.config.attempts / orphan).exists()


def test_a_loop_device_without_its_folder_is_let_go(lab: Lab, tmp_path: Path) -> None:
    def ours() -> list[str]:
        return [device for device, _ in loopdevice.attached(lab.config.workspaces)]

    folder = lab.config.workspaces / "gone"
    folder.mkdir()
    image = folder / "image"
    image.write_bytes(bytes(1 << 20))
    foreign = tmp_path / "foreign"
    foreign.write_bytes(bytes(1 << 20))
    with loopdevice.loop_device(image) as device, loopdevice.loop_device(foreign):
        # Held open, as an agent's death between two steps leaves it attached on old kernels.
        image.unlink()
        folder.rmdir()
        assert ours() == [device]
        lab.sweeper.look()
        assert ours() == [device]
        lab.sweeper.look()
        assert [where for _, where in loopdevice.attached(tmp_path) if where == foreign] == [foreign]
    assert ours() == []


def test_a_probe_that_was_killed_is_removed_when_it_is_old(lab: Lab) -> None:
    folder = lab.config.directory / f"{workspace.PROBE}1234"
    workspace.create(folder, kind=WorkspaceKind.LOOP, limit_bytes=1 << 20, limit_files=10, owner=(0, 0))
    made = folder.stat().st_mtime
    sweep_probes(lab.config.directory, made + 1)
    assert folder.exists()
    sweep_probes(lab.config.directory, made + 3600)
    assert not folder.exists()
    assert str(folder) not in Path("/proc/self/mountinfo").read_text()
