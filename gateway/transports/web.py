"""HTTP for steps, on the standard library: bounded, guarded against inner addresses.

A name is resolved here, every address of it is checked, and the one that was checked is connected
to: a name that changes its mind in between (DNS rebinding) gains nothing.
"""

import asyncio
import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, Protocol
from urllib.parse import urljoin, urlsplit

from gateway.errors import DeviceUnreachable, StepInvalid

AT_ONCE: Final = 50
REDIRECTED: Final = frozenset({301, 302, 303, 307, 308})
MAX_HEADERS: Final = 50
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class WebRequest:
    """`redirects` is how many may be followed; to another host they carry no credentials."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None
    timeout_s: float
    max_bytes: int
    redirects: int = 0


@dataclass(frozen=True, slots=True)
class WebAnswer:
    """`is_cut`: the body was longer than asked for."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    is_cut: bool = False


class WebClient(Protocol):
    async def ask(self, request: WebRequest) -> WebAnswer:
        """One request.

        Raises StepInvalid (`address_refused`, or an address that is none) when nothing was sent,
        DeviceUnreachable when no whole answer came.
        """
        ...


class NotConnected(DeviceUnreachable):
    """Nothing was sent."""


def is_allowed(address: str, allowed: Sequence[Network]) -> bool:
    """Whether steps may connect: a public address, or one of the networks that are allowed."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(ip, "ipv4_mapped", None)
    if mapped is not None:
        ip = mapped
    if any(ip.version == network.version and ip in network for network in allowed):
        return True
    return ip.is_global and not ip.is_multicast


@dataclass
class Web:
    """Asks in threads, some at a time. `allowed` are inner networks that steps may reach."""

    allowed: Sequence[Network] = ()
    tls: ssl.SSLContext | None = None
    _pool: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(AT_ONCE, thread_name_prefix="web")
    )

    async def ask(self, request: WebRequest) -> WebAnswer:
        """As `WebClient.ask`; a caller that is cancelled ends the connection."""
        exchange = _Exchange(self, request)
        running = asyncio.get_running_loop().run_in_executor(self._pool, exchange.run)
        try:
            async with asyncio.timeout(request.timeout_s):
                return await asyncio.shield(running)
        except TimeoutError:
            exchange.stop()
            running.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
            text = f"no answer within {request.timeout_s:.0f} s"
            raise (DeviceUnreachable if exchange.sent else NotConnected)(text) from None
        except asyncio.CancelledError:
            exchange.stop()
            running.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
            raise


def _netloc(url: str) -> str:
    """Host and port as they stand there; empty for what is no address, which is refused later."""
    try:
        return urlsplit(url).netloc
    except ValueError:
        return ""


class _Exchange:
    """One request with its redirects, in a thread."""

    def __init__(self, web: Web, request: WebRequest) -> None:
        self.sent = False
        self._web = web
        self._request = request
        self._stopped = threading.Event()
        self._connection: http.client.HTTPConnection | None = None

    def stop(self) -> None:
        self._stopped.set()
        connection = self._connection
        if connection is not None and connection.sock is not None:
            with contextlib.suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)

    def run(self) -> WebAnswer:
        url, method = self._request.url, self._request.method
        body, headers = self._request.body, dict(self._request.headers)
        home = _netloc(url)
        for left in range(self._request.redirects, -1, -1):
            answer = self._ask(method, url, headers, body)
            location = answer.headers.get("location")
            if answer.status not in REDIRECTED or not location or left == 0:
                return answer
            try:
                url = urljoin(url, location)
            except ValueError:
                return answer  # a redirect to nowhere is the answer
            if answer.status == 303 or (answer.status in (301, 302) and method == "POST"):
                method, body = "GET", None
            if _netloc(url) != home:
                secret = {"authorization", "cookie", "proxy-authorization"}
                headers = {k: v for k, v in headers.items() if k.lower() not in secret}
        raise AssertionError("the last try returns")

    def _ask(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> WebAnswer:
        try:
            place = urlsplit(url)
            port = place.port
        except ValueError as error:
            raise StepInvalid(f"`{url[:200]}` is no address: {error}") from error
        if place.scheme not in ("http", "https") or not place.hostname:
            raise StepInvalid(f"`{url[:200]}` is no http:// or https:// address")
        if place.username or place.password:
            raise StepInvalid("put no user name or password into the address")
        connection = self._connect(place.scheme, place.hostname, port)
        self._connection = connection
        try:
            target = (place.path or "/") + (f"?{place.query}" if place.query else "")
            self.sent = True
            connection.request(method, target, body=body, headers=dict(headers))
            with connection.getresponse() as response:
                return self._receive(response)
        except (http.client.HTTPException, OSError) as error:
            why = str(error) or type(error).__name__
            raise DeviceUnreachable(f"{place.netloc}: {why}") from error
        except (ValueError, UnicodeError) as error:  # what http.client will not send
            raise StepInvalid(f"the request cannot be sent: {error}") from error
        finally:
            connection.close()

    def _connect(self, scheme: str, host: str, port: int | None) -> http.client.HTTPConnection:
        number = port or (443 if scheme == "https" else 80)
        timeout_s = self._request.timeout_s
        try:
            found = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM)
        except (OSError, ValueError) as error:
            raise NotConnected(f"{host[:200]}: {error}") from error
        for *_, address in found:
            if not is_allowed(str(address[0]), self._web.allowed):
                raise StepInvalid(f"{host} is the inner address {address[0]}", "address_refused")
        problem: Exception | None = None
        for family, kind, protocol, _, address in found:
            if self._stopped.is_set():
                break
            line = socket.socket(family, kind, protocol)
            try:
                line.settimeout(timeout_s)
                line.connect(address)
                return self._over(line, scheme, host, number)
            except (OSError, ValueError, http.client.HTTPException) as error:
                line.close()
                problem = error
        raise NotConnected(f"{host}:{number}: {problem or 'stopped'}")

    def _over(
        self, line: socket.socket, scheme: str, host: str, port: int
    ) -> http.client.HTTPConnection:
        made = http.client.HTTPConnection(host, port, timeout=self._request.timeout_s)
        if scheme == "https":
            context = self._web.tls or ssl.create_default_context()
            line = context.wrap_socket(line, server_hostname=host)
            made.default_port = 443  # so that the Host header names no port
        made.sock = line
        return made

    def _receive(self, response: http.client.HTTPResponse) -> WebAnswer:
        limit = self._request.max_bytes
        body = b""
        while len(body) <= limit and not self._stopped.is_set():
            block = response.read1(min(65_536, limit + 1 - len(body)))
            if not block:
                break
            body += block
        headers = {
            name.lower(): value[:1_000] for name, value in response.getheaders()[:MAX_HEADERS]
        }
        return WebAnswer(response.status, headers, body[:limit], len(body) > limit)
