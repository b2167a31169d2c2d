"""A thread that still asks when another has closed the client gets an error of the grid, not one of a library."""

from __future__ import annotations

import pytest

from grid.api import Api
from tasks.errors import GridError


def test_a_closed_client_says_so() -> None:
    api = Api("http://127.0.0.1:9", "token")
    api.close()
    with pytest.raises(GridError, match="the client was closed"):
        api.nodes()
