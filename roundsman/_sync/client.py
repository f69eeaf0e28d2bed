"""The client: one connection pool, and the nouns of the API."""

from types import TracebackType
from typing import Self

import httpx

from contract.http.fleet import Version
from roundsman._sync.artifacts import Artifacts
from roundsman._sync.audit import Audit
from roundsman._sync.certificates import Ca
from roundsman._sync.data_tables import Tables
from roundsman._sync.devices import Devices
from roundsman._sync.gateways import Gateways
from roundsman._sync.groups import Groups
from roundsman._sync.holds import Holds
from roundsman._sync.jobs import Jobs
from roundsman._sync.profiles import Profiles
from roundsman._sync.recovery import Recoveries
from roundsman._sync.runs import Runs
from roundsman._sync.secrets import Secrets
from roundsman._sync.tasks import Tasks
from roundsman._sync.transport import Transport, parse
from roundsman._sync.users import Users


class Roundsman:
    """A client of one Roundsman service; close it, or use it as a context manager.

    `url` is the service's address without path, `timeout` in seconds applies to each wait for the
    network, `retries` to requests that may harmlessly arrive twice. `transport` replaces the
    network, as tests and programs behind unusual proxies want.
    Every method raises `ApiError` for a problem the service names, `TransportError` for silence.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        timeout: float = 30.0,
        retries: int = 4,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        headers = {"user-agent": "roundsman-python", "accept": "application/json"}
        if token:
            headers["authorization"] = f"Bearer {token}"
        self._http = httpx.Client(
            base_url=url.rstrip("/"), headers=headers, timeout=timeout, transport=transport
        )
        self._transport = Transport(self._http, retries)
        self.jobs = Jobs(self._transport)
        self.runs = Runs(self._transport)
        self.tasks = Tasks(self._transport)
        self.devices = Devices(self._transport)
        self.gateways = Gateways(self._transport)
        self.holds = Holds(self._transport)
        self.groups = Groups(self._transport)
        self.users = Users(self._transport)
        self.tables = Tables(self._transport)
        self.secrets = Secrets(self._transport)
        self.ca = Ca(self._transport)
        self.audit = Audit(self._transport)
        self.artifacts = Artifacts(self._transport)
        self.profiles = Profiles(self._transport)
        self.recovery = Recoveries(self._transport)

    def version(self) -> Version:
        """What the service is; needs no token."""
        return parse(self._transport.send("GET", "/version", base=""), Version)

    def is_ready(self) -> bool:
        """Whether the service can work; raises TransportError when nobody answers."""
        answer = self._http.get("/readyz")
        return answer.status_code == 200

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
