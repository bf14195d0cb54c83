"""Where a cluster takes jobs, and why it may not: told before Ray's own messages, which run over several lines."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from glr_dist.errors import UserError, first_line
from glr_dist.store.places import without_password
from glr_dist.workers.cluster import knock

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
_ENVIRONMENT = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
_CONNECT_SECONDS = 10.0


def dashboard_url(address: str | None) -> str:
    """The URL that jobs are sent to: the given one, else the environment's, as for Ray's own commands, else this machine.

    Raises:
        UserError: when it is no http URL.
    """
    source, found = "--address", address
    if not found:
        source, found = next(((key, os.environ[key]) for key in _ENVIRONMENT if os.environ.get(key)), ("", ""))
    if not found:
        return DEFAULT_ADDRESS
    parts = urlsplit(found)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(
            f"{source} {without_password(found)}: jobs go to the cluster's dashboard; give its URL, such as --address"
            f" {DEFAULT_ADDRESS}"
        )
    return found.rstrip("/")


def job_client(address: str | None) -> JobSubmissionClient:
    """A client that has been answered by the cluster's job server, at the `dashboard_url`.

    Raises:
        UserError: when nothing answers there, or it wants a token that it was not given.
    """
    url = dashboard_url(address)
    _knock_at(url)
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    for talker in ("dashboard_sdk", "job.sdk"):  # a line of its own for every upload and every closed connection
        logging.getLogger(f"ray.dashboard.modules.{talker}").setLevel(logging.WARNING)
    try:
        with _address_alone(url):
            return JobSubmissionClient(url)
    except AuthenticationError as error:
        raise UserError(_token_advice(without_password(url))) from error
    except (OSError, RuntimeError, ValueError, KeyError) as error:  # requests' errors are OSErrors
        why = f"answers, but not as a Ray dashboard that takes jobs ({first_line(error)})"
        raise UserError(f"{without_password(url)}: {why}") from error


def _knock_at(url: str) -> None:
    """Say at once that nobody listens: Ray would take minutes."""
    parts = urlsplit(url)
    assert parts.hostname
    try:
        why_not = knock(parts.hostname, parts.port or (443 if parts.scheme == "https" else 80))
    except ValueError as error:
        raise UserError(f"{without_password(url)}: {error}") from error
    if why_not:
        raise UserError(
            f"{without_password(url)}: no cluster answers there ({why_not}); start one with ray start --head, or give"
            " --address the URL of its dashboard"
        )


@contextmanager
def _address_alone(url: str) -> Iterator[None]:
    """Within: the environment, which Ray puts above every argument, names no other cluster."""
    key = _ENVIRONMENT[0]
    former = os.environ.get(key)
    os.environ[key] = url
    try:
        yield
    finally:
        if former is None:
            del os.environ[key]
        else:
            os.environ[key] = former


def _token_advice(url: str) -> str:
    """What to do about a refused or missing token; never the token."""
    if os.environ.get("RAY_AUTH_MODE", "").lower() != "token":
        return (
            f"{url}: wants a token, and none is sent unless RAY_AUTH_MODE=token is set; set it, with the cluster's token"
            " in the file that RAY_AUTH_TOKEN_PATH names (or ~/.ray/auth_token)"
        )
    if os.environ.get("RAY_AUTH_TOKEN"):
        return f"{url}: refuses the token in RAY_AUTH_TOKEN; put the cluster's own there"
    file = os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token"
    path = Path(file).expanduser()
    if not path.is_file() or not path.stat().st_size:
        return f"{url}: wants a token, and {file} holds none; put it there, or name its file in RAY_AUTH_TOKEN_PATH"
    return f"{url}: refuses the token in {file}; put the cluster's own there"
