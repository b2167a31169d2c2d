"""The bad network of the tests does what it is asked for, and nothing else."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.node_api import eventually
from tests.support.proxy import Cut, Proxy


class Echo:
    """A server that sends back what it gets; ``heard`` is what has arrived, connection by connection."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.heard: list[bytes] = []
        self.ends: list[str] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        """Listen no more."""
        if self._listener.fileno() >= 0:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.heard.append(b"")
            threading.Thread(target=self._answer, args=(connection, len(self.heard) - 1), daemon=True).start()

    def _answer(self, connection: socket.socket, number: int) -> None:
        with connection:
            try:
                while piece := connection.recv(65536):
                    self.heard[number] += piece
                    connection.sendall(piece)
                self.ends.append("closed")
            except ConnectionError:
                self.ends.append("reset")


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    with Proxy(echo.port) as running:
        yield running


@contextmanager
def connected(proxy: Proxy) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=20) as client:
        yield client


def received(client: socket.socket, size: int) -> bytes:
    """At most ``size`` bytes, fewer when the connection ends before."""
    found = b""
    while len(found) < size and (piece := client.recv(size - len(found))):
        found += piece
    return found


def echoed(client: socket.socket, data: bytes) -> bytes:
    """What comes back for the data."""
    client.sendall(data)
    return received(client, len(data))


def hears_nothing(client: socket.socket) -> bool:
    """Whether nothing arrives for a while, and the connection is not said to be over either."""
    before = client.gettimeout()
    client.settimeout(0.1)
    try:
        client.recv(1)
    except TimeoutError:
        return True
    finally:
        client.settimeout(before)
    return False


def test_what_is_sent_arrives_both_ways_and_is_counted(proxy: Proxy, echo: Echo) -> None:
    sent = bytes(range(256)) * 1000
    with connected(proxy) as client:
        threading.Thread(target=client.sendall, args=(sent,), daemon=True).start()
        assert received(client, len(sent)) == sent
        assert (proxy.bytes_up, proxy.bytes_down, proxy.connections) == (len(sent), len(sent), 1)
    eventually(lambda: echo.ends == ["closed"])


def test_the_end_of_one_direction_leaves_the_other_open(proxy: Proxy) -> None:
    with connected(proxy) as client:
        client.sendall(b"all of it")
        client.shutdown(socket.SHUT_WR)
        assert received(client, 100) == b"all of it"


@pytest.mark.parametrize("size", [0, 1, 5, 9])
def test_a_cut_on_the_way_up_lets_so_many_bytes_through(proxy: Proxy, echo: Echo, size: int) -> None:
    proxy.cut(Cut(up=True, after_bytes=size))
    with connected(proxy) as client:
        client.sendall(b"123456789")
        assert len(received(client, 100)) <= size
    eventually(lambda: len(echo.ends) == 1)
    assert echo.heard == [b"123456789"[:size]]
    assert len(proxy.cuts_made) == 1
    with connected(proxy) as client:
        client.sendall(b"once only")
        assert received(client, 9) == b"once only"


def test_cuts_that_were_not_made_can_be_spared(proxy: Proxy) -> None:
    proxy.cut(Cut(up=True, after_bytes=0))
    proxy.spare()
    with connected(proxy) as client:
        client.sendall(b"whole")
        assert received(client, 5) == b"whole"


@pytest.mark.parametrize("size", [0, 1, 8])
def test_a_cut_on_the_way_down_lets_so_many_bytes_through(proxy: Proxy, echo: Echo, size: int) -> None:
    proxy.cut(Cut(up=False, after_bytes=size))
    with connected(proxy) as client:
        client.sendall(b"123456789")
        assert received(client, 100) == b"123456789"[:size]
    assert echo.heard == [b"123456789"]


def test_a_reset_is_no_polite_end(proxy: Proxy, echo: Echo) -> None:
    proxy.cut(Cut(up=True, after_bytes=3, reset=True))
    with connected(proxy) as client:
        client.sendall(b"123456789")
        with pytest.raises(ConnectionResetError):
            received(client, 100)
    eventually(lambda: echo.ends == ["reset"])


def test_cuts_with_a_marker_wait_for_it_and_count_from_there(proxy: Proxy, echo: Echo) -> None:
    proxy.cut(Cut(up=True, after_bytes=4, marker=b"now"), Cut(up=False, after_bytes=2, marker=b"now"))
    with connected(proxy) as client:
        client.sendall(b"before")
        assert received(client, 6) == b"before"
        assert proxy.cuts_due == 2
        client.sendall(b"now or never")
        received(client, 100)
    with connected(proxy) as client:
        client.sendall(b"now again")
        assert received(client, 100) == b"no"
    eventually(lambda: echo.heard == [b"beforenow ", b"now again"])
    assert [cut.up for cut in proxy.cuts_made] == [True, False]


def test_packets_vanish_without_a_word_and_arrive_late(proxy: Proxy, echo: Echo) -> None:
    with connected(proxy) as client:
        assert echoed(client, b"1") == b"1"
        proxy.vanish()
        client.sendall(b"2")
        eventually(lambda: proxy.held == 1)
        with connected(proxy) as later:  # a new connection gets no answer either
            later.sendall(b"3")
            assert hears_nothing(later)
            assert echo.heard == [b"1"]
            proxy.appear()
            assert (received(client, 1), received(later, 1)) == (b"2", b"3")


def test_connections_may_be_gone_when_packets_pass_again(proxy: Proxy, echo: Echo) -> None:
    with connected(proxy) as client:
        assert echoed(client, b"1") == b"1"
        proxy.vanish()
        client.sendall(b"2")
        eventually(lambda: proxy.held == 1)
        proxy.appear(reset=True)
        with pytest.raises(ConnectionResetError):
            received(client, 1)
    assert echo.heard == [b"1"]


def test_a_line_dies_without_a_word_to_either_side_and_new_ones_are_sound(proxy: Proxy, echo: Echo) -> None:
    with connected(proxy) as client:
        assert echoed(client, b"1") == b"1"
        proxy.die_silently()
        client.sendall(b"2")
        eventually(lambda: proxy.lost == 1)
        assert hears_nothing(client)
    eventually(lambda: proxy.lost == 2)
    with connected(proxy) as client:
        client.sendall(b"3")
        assert received(client, 1) == b"3"
    eventually(lambda: echo.ends == ["closed"])
    assert echo.heard == [b"1", b"3"]


def test_nobody_listens_and_then_again_on_the_same_port(proxy: Proxy) -> None:
    with connected(proxy) as client:
        assert echoed(client, b"1") == b"1"
        proxy.refuse()
        with pytest.raises(ConnectionResetError):
            received(client, 1)
    with pytest.raises(ConnectionRefusedError), connected(proxy):
        pass
    proxy.accept()
    with connected(proxy) as client:
        client.sendall(b"2")
        assert received(client, 1) == b"2"


def test_a_target_that_is_away_ends_the_connection(proxy: Proxy, echo: Echo) -> None:
    echo.close()
    with connected(proxy) as client:
        assert received(client, 1) == b""


def test_delays_and_narrow_lines_take_their_time(proxy: Proxy) -> None:
    proxy.delay_seconds = 0.1
    with connected(proxy) as client:
        begun = time.monotonic()
        assert echoed(client, b"1") == b"1"
        assert time.monotonic() - begun >= 0.2
        proxy.delay_seconds = 0.0
        proxy.bytes_per_second = 10_000
        begun = time.monotonic()
        client.sendall(b"x" * 3_000)
        assert received(client, 3_000) == b"x" * 3_000
        assert time.monotonic() - begun >= 0.3
