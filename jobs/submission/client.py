"""The jobs API of a Ray cluster, and what goes wrong with it in one line each."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
from ray.dashboard.modules.job.pydantic_models import JobDetails
from ray.exceptions import AuthenticationError, RayError
from ray.job_submission import JobSubmissionClient

from pipeline.secrecy import holds_credentials, shown

ANSWER_SECONDS, CONNECT_SECONDS = 120.0, 15.0
"""How long the dashboard may say nothing, and how long there may be nobody at its port."""

READY_SECONDS = 120.0
"""How long a cluster that has just been started may take until it takes jobs."""

STOP_SECONDS = 300
"""How long a driver that was told to stop may take: Ray kills it after 3 without this, amid its good-byes."""

_TALKATIVE = ("ray", "ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk")
_ADDRESS = "RAY_API_SERVER_ADDRESS"


_AWAY = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    ConnectionError,
    RayError,
)
_GATEWAY = re.compile(r"status code 50[234]\b")  # what stands before a dashboard that is away


class SubmitError(RuntimeError):
    """The cluster cannot be reached, or refused: one line with the remedy, without credentials."""


class Unreachable(SubmitError):
    """Nobody answers, which may pass."""


class NotReady(SubmitError):
    """A dashboard that answers before its cluster can take jobs."""


class Cluster:
    """One cluster's jobs. address: as it was given; url: of its dashboard."""

    def __init__(self, address: str | None) -> None:
        """address: of its dashboard, or whatever Ray knows a cluster by; else RAY_API_SERVER_ADDRESS, RAY_ADDRESS, or
        the cluster on this machine. Raises SubmitError when it does not answer, or wants another token."""
        if address and re.fullmatch(r"[\w.-]+:8265", address):
            address = f"http://{address}"  # else Ray takes it for its control service's
        self.address = address or os.environ.get(_ADDRESS) or os.environ.get("RAY_ADDRESS")
        if self.address and holds_credentials(self.address):
            raise SubmitError("--address: it has what may be credentials in it; give the token in RAY_AUTH_TOKEN")
        for name in _TALKATIVE:
            logging.getLogger(name).setLevel(logging.ERROR)
        with _nearest(address), self._reporting():
            self._client = _Client(address)
        self.url = self._client.get_address()

    def submit(self, job: str, entrypoint: str, package: Path | None, about: Mapping[str, str]) -> None:
        """Start a job that is called `job`. package: a zip for its working folder. about: shown with it.

        Raises SubmitError."""
        runtime: dict[str, Any] = {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS)}}
        if package is not None:
            runtime["working_dir"] = str(package)
        deadline = time.monotonic() + READY_SECONDS
        while True:
            try:
                with self._reporting():
                    self._client.submit_job(
                        entrypoint=entrypoint, submission_id=job, runtime_env=runtime, metadata=dict(about)
                    )
                return
            except Unreachable:
                if self.details(job) is None:  # else it was taken, and only the answer was lost
                    raise
                return
            except NotReady:
                if time.monotonic() > deadline:
                    raise
                time.sleep(1)

    def details(self, job: str) -> JobDetails | None:
        """What Ray knows of a job; None when it knows none. Raises SubmitError."""
        with self._reporting():
            try:
                return self._client.get_job_info(job)
            except RuntimeError as error:
                if "status code 404" in str(error):
                    return None
                raise

    def jobs(self) -> list[JobDetails]:
        """All jobs that were submitted, the latest last. Raises SubmitError."""
        with self._reporting():
            found = [job for job in self._client.list_jobs() if job.submission_id]
        return sorted(found, key=lambda job: job.start_time or 0)

    def stop(self, job: str) -> bool:
        """Tell a job's driver to stop; False when it had ended. Raises SubmitError."""
        with self._reporting():
            return self._client.stop_job(job)

    def log(self, job: str) -> str:
        """All that a job has said. Raises SubmitError."""
        with self._reporting():
            return self._client.get_job_logs(job)

    def tail(self, job: str) -> AsyncIterator[str]:
        """What a job has said, from the beginning, and goes on to say; raises whatever the connection does."""
        return self._client.tail_job_logs(job)

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        """Turn what Ray's client raises into a line."""
        where = self.address or "this machine"
        try:
            yield
        except AuthenticationError as error:
            raise SubmitError(f"the cluster at {where} {_about_token(error)}") from None
        except _AWAY as error:
            raise Unreachable(
                f"no Ray dashboard answers at {where} ({_gist(error)}); check the address, as in http://HOST:8265, "
                "and that this port can be reached from here"
            ) from None
        except (ValueError, KeyError, TypeError) as error:  # no JSON, another one, or no address
            raise SubmitError(
                f"what answers at {where} is no Ray dashboard ({_gist(error)}); check the address"
            ) from None
        except (RuntimeError, requests.RequestException) as error:
            if _GATEWAY.search(str(error)):
                raise Unreachable(f"the dashboard at {where} is away: {_gist(error)}") from None
            refused = NotReady if "No available agent" in str(error) else SubmitError
            raise refused(f"the cluster at {where} refused: {_gist(error)}{_remedy(str(error))}") from None


class _Client(JobSubmissionClient):
    """Ray's own, which would wait for ever."""

    def _do_request(self, method: str, endpoint: str, **options: Any) -> requests.Response:
        return super()._do_request(method, endpoint, **{"timeout": (CONNECT_SECONDS, ANSWER_SECONDS), **options})


@contextmanager
def _nearest(address: str | None) -> Iterator[None]:
    """Ray lets the environment win against what it is told; an option is nearer than that."""
    before = os.environ.get(_ADDRESS)
    if address:
        os.environ[_ADDRESS] = address
    try:
        yield
    finally:
        os.environ.pop(_ADDRESS, None)
        if before is not None:
            os.environ[_ADDRESS] = before


def _about_token(error: Exception) -> str:
    places = "RAY_AUTH_TOKEN, the file RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token"
    if "Authentication required" in str(error):
        return f"wants a token; set RAY_AUTH_MODE=token, and put the cluster's into {places}"
    return f"has another token than yours; put the cluster's into {places}"


def _gist(error: Exception) -> str:
    """One line of an error: of a traceback from there the last."""
    text = re.sub(r"^Request failed with status code \d+: ", "", str(error).rstrip(". \n"))
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [type(error).__name__]
    return shown(lines[-1 if "Traceback" in text else 0])[:300].rstrip(".")


def _remedy(text: str) -> str:
    if "already exists" in text:
        return "; follow that one with --follow, or give another --id"
    if re.search(r"status code 413|exceeds the maximum|Too Large", text):
        return "; install dr2e on the cluster's machines and give --installed"
    return ""
