"""Where jobs go, and one line for every address that takes none."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from glr_dist.errors import UserError
from glr_dist.launch.address import DEFAULT_ADDRESS, dashboard_url, job_client


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that names no cluster."""
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def web_server() -> Iterator[str]:
    """A server that is no Ray."""

    class Silent(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Silent)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_what_the_user_gives_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray itself puts its variables above the argument: jobs would go to a cluster that the user did not name."""
    assert dashboard_url(None) == DEFAULT_ADDRESS
    monkeypatch.setenv("RAY_ADDRESS", "http://one:8265")
    assert dashboard_url(None) == "http://one:8265"
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "https://two/")
    assert dashboard_url(None) == "https://two"
    assert dashboard_url("http://three:1") == "http://three:1"


@pytest.mark.parametrize("address", ["127.0.0.1:8265", "ray://head:10001", "auto", "http://"])
def test_an_address_of_another_kind_is_refused(address: str) -> None:
    with pytest.raises(UserError, match="give its URL, such as --address http"):
        dashboard_url(address)


def test_a_password_is_not_repeated() -> None:
    with pytest.raises(UserError) as caught:
        job_client("http://me:secret@127.0.0.1:1")
    assert "secret" not in str(caught.value)


def test_no_server_is_told_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    started = time.monotonic()
    with pytest.raises(UserError, match=f"http://127.0.0.1:{port}: no cluster answers there .*ray start --head"):
        job_client(f"http://127.0.0.1:{port}")
    assert time.monotonic() - started < 2


def test_a_server_that_is_no_ray_is_told(web_server: str) -> None:
    with pytest.raises(UserError, match=f"{web_server}: answers, but not as a Ray dashboard"):
        job_client(web_server)
