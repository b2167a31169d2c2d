"""Hostile tasks end as they have to, and leave the machine as it was."""

from __future__ import annotations

import os
import re
import subprocess
import uuid

import pytest

from grid import GridError
from tasks.views import SubmitBody
from tests.attacks.attack import IMAGE, Attack, Wish
from tests.attacks.conftest import SECRET, Raid
from tests.attacks.host import broken_blobs, clock_offset_seconds, look
from tests.attacks.table import TABLE, WISHES
from tests.support.node_api import eventually

# The first test waits for all tasks.
pytestmark = [pytest.mark.needs("docker", "gcc", "root"), pytest.mark.timeout(400)]

NOBODY = 65534


@pytest.mark.parametrize("attack", TABLE, ids=str)
def test_a_hostile_task_ends_as_it_has_to(raid: Raid, attack: Attack) -> None:
    end = raid.ends[attack.name]
    seen = (
        f"{end.result!r}\nadvice: {end.result.advice}\nfiles: {list(end.result.files)}\nwritten:\n{end.written[-4000:]}"
    )
    assert end.result.verdict == attack.verdict, seen
    assert end.attempts == (attack.verdict,), "no fault of the node's, so nothing is tried again"
    assert "ALLOWED" not in end.written, seen
    assert re.search(attack.says, end.written), seen
    assert re.search(attack.told, f"{end.result.reason}\n{end.result.advice}"), seen
    if attack.files is not None:
        assert set(end.result.files) - {"out", "err"} == attack.files, seen


@pytest.mark.parametrize("wish", WISHES, ids=str)
def test_some_wishes_are_refused_by_the_server_itself(raid: Raid, wish: Wish) -> None:
    """Not by a client, which is the sender's own program."""
    body = SubmitBody(spec={"name": "wish", "image": IMAGE, "args": ["true"], **wish.spec})
    with pytest.raises(GridError, match=wish.told):
        raid.grid.client.create_task(body, uuid.uuid4().hex)


def test_no_task_brings_home_what_is_not_its_own(raid: Raid) -> None:
    for name, end in raid.ends.items():
        assert SECRET not in end.written, name
        assert SECRET not in end.result.to_json(), name
        for path, file in list(end.result.files.items())[:100]:
            assert SECRET.encode() not in file.read_bytes(), f"{name}: {path}"


def test_the_host_is_as_it_was(raid: Raid) -> None:
    eventually(lambda: look(raid.place) == raid.before, 60)
    assert abs(clock_offset_seconds() - raid.clock_seconds) < 1


def test_changes_of_the_host_would_be_seen(raid: Raid) -> None:
    """The test above can fail."""
    eventually(lambda: look(raid.place) == raid.before, 60)
    secret = raid.place.canary / "secret"
    was = secret.stat()
    secret.write_text(f"{SECRET}!")
    seen = look(raid.place)
    secret.write_text(SECRET)
    os.utime(secret, ns=(was.st_atime_ns, was.st_mtime_ns))
    assert (seen.canary != raid.before.canary, seen.settings == raid.before.settings) == (True, True)
    with subprocess.Popen(["sleep", "60"], env={"MARK": raid.place.mark}) as escaped:
        eventually(lambda: look(raid.place).processes == {f"{escaped.pid} sleep"}, 30)
        escaped.kill()
    eventually(lambda: look(raid.place) == raid.before, 60)


def test_inputs_of_others_are_as_they_were(raid: Raid) -> None:
    assert broken_blobs(raid.place.node.blobs) == []


def test_strangers_on_the_node_can_read_nothing_of_a_task(raid: Raid) -> None:
    task = raid.grid.submit("sh", "-c", "echo private > private; chmod 644 private; sleep 30", stdout="out")
    eventually(lambda: list(raid.place.node.workspaces.glob("*/task/private")), 30)
    find = ["find", str(raid.grid.directory), "-type", "f", "-readable"]
    done = subprocess.run(
        find, user=NOBODY, group=NOBODY, extra_groups=(), cwd="/", capture_output=True, text=True, check=False
    )
    task.cancel()
    assert "Permission denied" in done.stderr
    assert done.stdout == ""


def test_the_grid_works_as_before(raid: Raid) -> None:
    result = raid.grid.run("sh", "-c", "echo works", stdout="out")
    assert (result.verdict, result.files["out"].read_text()) == ("succeeded", "works\n")
