"""A disk without room is told apart from everything else that the operating system may refuse."""

from __future__ import annotations

import errno
import os

import pytest

from nodes.faults import fault_of


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_no_room_is_the_nodes_disk(number: int) -> None:
    fault = fault_of(OSError(number, os.strerror(number), "/node/stdout"), "runtime_error")
    assert fault.kind == "node_disk"
    assert fault.message == f"cannot write /node/stdout: {os.strerror(number)}"
    assert fault_of(OSError(number, "full"), "x").message == "cannot write what belongs to the attempt: full"


def test_anything_else_is_what_the_caller_says() -> None:
    assert fault_of(OSError(errno.EIO, "broken"), "runtime_error").kind == "runtime_error"
