"""A client of one registry for many threads: authentication, paging, rate limits."""

from __future__ import annotations

import json
import random
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, quote, urlencode, urljoin, urlsplit

import docker.auth
import requests
import urllib3

from taskgate.harness.base import files
from taskgate.harness.base.errors import ImageNotFound, RegistryError, RegistryRefused
from taskgate.harness.engine import classification
from taskgate.harness.engine.image_name import HUB, login_hint
from taskgate.harness.engine.registries import http_session
from taskgate.harness.engine.registries.reference import Reference, base_url, is_loopback

INDEXES = ("application/vnd.docker.distribution.manifest.list.v2+json", "application/vnd.oci.image.index.v1+json")
MANIFESTS = ("application/vnd.docker.distribution.manifest.v2+json", "application/vnd.oci.image.manifest.v1+json")
ACCEPT = ", ".join((*INDEXES, *MANIFESTS))
# Go servers answer so to plain HTTP on a TLS port.
NO_TLS = b"HTTP request to an HTTPS server"
# Where engines look for the certificate authority of a private registry.
AUTHORITIES = Path("/etc/docker/certs.d")
# Headers that most registries send with every answer, and with a manifest.
VERSION = "Docker-Distribution-Api-Version"
DIGEST = "Docker-Content-Digest"
# A field of a challenge. Matched at the start of a word only, so that a header of one long word takes linear time.
FIELD = re.compile(r'(?<![a-zA-Z_])([a-zA-Z_]++)="([^"]*)"')
PAGE = 500
PAGES = 10_000
# At most so many repositories and tags in all; longer names can't be an image's.
NAMES, NAME = 2_000_000, 512
ANSWER_BYTES = 8 << 20
CONNECT_SECONDS, READ_SECONDS, ANSWER_SECONDS = 10.0, 30.0, 120.0
TRIES = 6
WAIT_SECONDS, MAX_WAIT_SECONDS = 0.5, 120.0
APART_SECONDS = 0.5
# How long a host that refuses connections or has no address is tried: a restart takes no longer.
UNREACHABLE_SECONDS = 2.0
UNREACHABLE = (ConnectionRefusedError, socket.gaierror)
PATIENCE_SECONDS = 600.0
TOKEN_SECONDS = 60
# Docker's user name for an identity token.
TOKEN_USER = "<token>"  # noqa: S105


@dataclass(slots=True)
class _Question:
    """A request, and what has become of it so far. `problem`: why the last try failed. `hopeless`: no more tries."""

    method: str
    path: str
    scope: str
    accept: str
    tries: int = 0
    challenged: bool = False
    hopeless: bool = False
    problem: str = "it did not answer"
    begun: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Since the first try."""
        return time.monotonic() - self.begun


class Client:
    """Speaks to `registry`. Thread-safe. `scheme`: http or https, if not the usual one."""

    def __init__(self, registry: str, *, scheme: str | None = None) -> None:
        self.registry, self._base = registry, base_url(registry, scheme)
        self._local = threading.local()
        self._lock = threading.Lock()
        self._tokens: dict[str, tuple[str, float]] = {}
        self._basic: tuple[str, str] | None = None
        own = AUTHORITIES / registry / "ca.crt"
        self._verify: str | bool = str(own) if "/" not in registry and files.is_file(own) else True
        self._not_before = -APART_SECONDS
        self._names = 0
        self._failing = False
        self._closed = threading.Event()

    def close(self) -> None:
        """End all waiting: requests under way fail."""
        self._closed.set()

    def repositories(self) -> Iterator[str]:
        """Every repository of its catalogue. Raises RegistryError."""
        for page in self._pages("/v2/_catalog", "registry:catalog:*"):
            yield from self._counted(_texts(page, "repositories"))

    def tags(self, repository: str) -> Iterator[str]:
        """Every tag of a repository. Raises ImageNotFound, RegistryError."""
        for page in self._pages(f"/v2/{quote(repository)}/tags/list", _pull(repository)):
            yield from self._counted(_texts(page, "tags"))

    def exists(self, reference: Reference) -> bool:
        """Is there a manifest of that name? Asks by HEAD, which no registry counts as a pull. Raises RegistryError."""
        try:
            answer, _ = self._ask("HEAD", _manifest(reference), _pull(reference.repository), accept=ACCEPT)
            # Some web sites answer 200 for every page.
            if not _of_registry(answer) and not isinstance(self.manifest(reference).get("schemaVersion"), int):
                raise RegistryError(f"{self.registry}: what it has as {reference.repository} is not a manifest")
        except ImageNotFound:
            return False
        return True

    def manifest(self, reference: Reference) -> dict[str, Any]:
        """The manifest or index; `mediaType` is filled in. Raises ImageNotFound, RegistryError."""
        answer, data = self._ask("GET", _manifest(reference), _pull(reference.repository), accept=ACCEPT)
        document = _object(data, f"{self.registry}: the manifest of {reference.repository}")
        document.setdefault("mediaType", answer.headers.get("Content-Type", "").partition(";")[0].strip())
        return document

    def blob(self, repository: str, digest: str) -> dict[str, Any]:
        """A small JSON blob: an image's configuration. Raises ImageNotFound, RegistryError."""
        _, data = self._ask("GET", f"/v2/{quote(repository)}/blobs/{quote(digest, safe=':')}", _pull(repository))
        return _object(data, f"{self.registry}: the configuration of {repository}")

    def _counted(self, names: list[str]) -> list[str]:
        with self._lock:
            self._names += len(names)
        if self._names > NAMES:
            raise RegistryError(f"{self.registry}: more than {NAMES:,} names of repositories and tags")
        return names

    def _pages(self, path: str, scope: str) -> Iterator[dict[str, Any]]:
        url, seen = f"{path}?{urlencode({'n': PAGE})}", set[str]()
        for _ in range(PAGES):
            answer, data = self._ask("GET", url, scope)
            yield _object(data, f"{self.registry}: {path}")
            following = self._following(url, answer.headers.get("Link", ""))
            if following is None:
                return
            seen.add(url)
            url = following
            if url in seen:
                raise RegistryError(f"{self.registry}: its pages repeat without end")
        raise RegistryError(f"{self.registry}: more than {PAGES} pages")

    def _following(self, url: str, link: str) -> str | None:
        """The path of the next page, by a Link header; None where there is none. Raises RegistryError."""
        match = re.match(r'\s*<([^>]*)>\s*;\s*rel="?next"?', link)
        if not match:
            return None
        try:
            following = urlsplit(urljoin(self._base + url, match[1]))
        except ValueError as error:
            raise RegistryError(f"{self.registry}: its next page has an invalid address: {match[1][:200]!r}") from error
        # Credentials are for this registry only, wherever its answers point.
        if f"{following.scheme}://{following.netloc}" != self._base and following.netloc != urlsplit(self._base).netloc:
            raise RegistryError(f"{self.registry}: its next page is on another host, {following.netloc[:200]}")
        return str(following._replace(scheme="", netloc="").geturl())

    def _ask(
        self, method: str, path: str, scope: str, *, accept: str = "application/json"
    ) -> tuple[requests.Response, bytes]:
        """One answer of 200. Waits as it is asked to and retries what may pass. Raises ImageNotFound, RegistryError."""
        question = _Question(method, path, scope, accept)
        # A registry that is down delays the first question, not every one of ten thousand.
        while question.tries < (1 if self._failing else TRIES):
            self._wait()
            result = self._try(question)
            if result is not None:
                return result
            if question.hopeless:
                break
        self._failing = True
        tried = "tried once" if question.tries == 1 else f"tried {question.tries} times"
        raise RegistryError(f"{self.registry}: {question.problem} ({tried})", transient=False)

    def _try(self, question: _Question) -> tuple[requests.Response, bytes] | None:
        """One request: its answer, or None after the pause that is due before the next. Raises as `_ask`."""
        headers = {"Accept": question.accept, **self._authorization(question.scope)}
        try:
            answer, data = self._send(question.method, question.path, headers)
        except (requests.RequestException, OSError) as error:
            self._no_answer(question, error)
            return None
        except (ValueError, urllib3.exceptions.HTTPError) as error:
            raise RegistryError(
                f"{self.registry}: the request or a redirect has an invalid address: {error}"
            ) from error
        if answer.status_code == 400 and NO_TLS in data and self._base.startswith("http:"):
            # A registry on the loopback interface may want TLS as well.
            self._base = f"https:{self._base.removeprefix('http:')}"
            return None
        self._failing = self._failing and answer.status_code >= 500
        if answer.status_code == 200:
            return answer, data
        self._refused(question, answer, data)
        return None

    def _no_answer(self, question: _Question, error: Exception) -> None:
        """Note why there was none; pause, if another try makes sense."""
        question.problem = classification.reason_of(error)
        question.tries += 1
        cause = classification.root_cause(error)
        question.hopeless = isinstance(cause, ssl.SSLCertVerificationError) or (
            isinstance(cause, UNREACHABLE) and question.seconds >= UNREACHABLE_SECONDS
        )
        if not question.hopeless:
            self._pause(question.tries)

    def _refused(self, question: _Question, answer: requests.Response, data: bytes) -> None:
        """Prepare the next try after an answer other than 200. Raises ImageNotFound, RegistryError if there is none."""
        status = answer.status_code
        question.problem = f"{_sender(answer)} answers {status}: {_error_text(data)}"
        # Credentials are for the registry, not for a host that it redirects to.
        if status == 401 and not question.challenged and _is_own(answer):
            question.challenged = True
            self._authenticate(answer.headers.get("WWW-Authenticate", ""), question.scope)
            return
        of_registry = VERSION in answer.headers or _has_errors(data)
        if status == 404 and question.method == "HEAD" and not of_registry:
            # Without a body, a proxy's 404 looks the same.
            question.method = "GET"
            return
        if status == 404 and of_registry:
            name = question.path.partition("?")[0].removeprefix("/v2/")
            raise ImageNotFound(f"{self.registry} has no {name}")
        if status in (401, 403):
            raise RegistryRefused(f"{self.registry}: {question.problem}; {login_hint(self.registry)}")
        if status != 429 and status < 500:
            raise RegistryRefused(f"{self.registry}: {question.problem}")
        retry_after = answer.headers.get("Retry-After") if status == 429 else None
        # Waiting as asked does not count as a failed try, for as long as a person would put up with it.
        question.tries += retry_after is None or question.seconds > PATIENCE_SECONDS
        self._pause(question.tries, retry_after)

    def _send(self, method: str, path: str, headers: dict[str, str]) -> tuple[requests.Response, bytes]:
        """An answer and its whole body, of bounded size, within the time limit.

        Raises RequestException, RegistryError, and for an invalid address ValueError or urllib3's HTTPError.
        """
        with (
            http_session.within(ANSWER_SECONDS, self.registry),
            self._session().request(
                method,
                self._base + path,
                headers=headers,
                timeout=(CONNECT_SECONDS, READ_SECONDS),
                # Given with each request, because the environment overrides the session's.
                verify=self._verify,
                stream=True,
            ) as answer,
        ):
            data = self._body(answer)
            length = answer.headers.get("Content-Length", "")
            if (
                method != "HEAD"
                and length.isdecimal()
                and "Content-Encoding" not in answer.headers
                and len(data) < int(length)
            ):
                raise requests.ConnectionError(f"the answer was cut short after {len(data)} of {length} bytes")
        return answer, data

    def _body(self, answer: requests.Response) -> bytes:
        """Raises RegistryError if it is too large."""
        data = b""
        for piece in answer.iter_content(1 << 16):
            data += piece
            if len(data) > ANSWER_BYTES:
                raise RegistryError(f"{self.registry}: an answer of more than {ANSWER_BYTES >> 20} MiB")
        return data

    def _session(self) -> requests.Session:
        if not hasattr(self._local, "session"):
            self._local.session = http_session.Session()
        session: requests.Session = self._local.session
        return session

    # Rate limits.

    def _wait(self) -> None:
        """A Retry-After holds for all threads. They come back a little apart, not all at once."""
        apart = random.uniform(0, APART_SECONDS)  # noqa: S311
        while (left := self._not_before + apart - time.monotonic()) > 0:
            self._sleep(min(left, 1.0))

    def _sleep(self, seconds: float) -> None:
        """Raises RegistryError once the client is closed."""
        if self._closed.wait(seconds):
            raise RegistryError(f"{self.registry}: no longer asked")

    def _pause(self, tries: int, retry_after: str | None = None) -> None:
        seconds = _seconds(retry_after)
        if seconds is None:
            self._sleep(min(WAIT_SECONDS * 2**tries, 20.0) * random.uniform(0.75, 1.25))  # noqa: S311
        else:
            with self._lock:
                self._not_before = max(self._not_before, time.monotonic() + min(seconds, MAX_WAIT_SECONDS))

    # Authentication.

    def _authorization(self, scope: str) -> dict[str, str]:
        with self._lock:
            token = self._tokens.get(scope)
            if token and token[1] > time.monotonic():
                return {"Authorization": f"Bearer {token[0]}"}
            if self._basic:
                return {"Authorization": requests.auth._basic_auth_str(*self._basic)}
        return {}

    def _authenticate(self, challenge: str, scope: str) -> None:
        """Answer a 401, by name and password or by a token from the service it names. Raises RegistryError."""
        kind, realm, fields = _challenged(challenge)
        credentials = _credentials(self.registry)
        if kind.lower() == "basic":
            if credentials is None:
                raise RegistryRefused(f"{self.registry} wants a login; {login_hint(self.registry)}")
            with self._lock:
                self._basic = credentials
            return
        if kind.lower() != "bearer" or not realm.hostname:
            raise RegistryRefused(f"{self.registry} answers 401 without saying how to log in: {challenge[:200]!r}")
        # A registry must not have a password sent in the clear.
        if realm.scheme != "https" and not self._may_be_clear(realm):
            raise RegistryRefused(f"{self.registry}: it asks for a login at {realm.geturl()[:200]}, without TLS")
        query = {"service": fields.get("service", ""), "scope": fields.get("scope", scope)}
        answer, document = self._token_answer(realm, query, credentials)
        token = document.get("token") or document.get("access_token")
        # It goes into a header.
        if not isinstance(token, str) or not (token.isascii() and token.isprintable()):
            problem = f"{self.registry}: no token from {realm.netloc}: it answers {answer.status_code}"
            if answer.status_code in (400, 401, 403):
                raise RegistryRefused(f"{problem}; {login_hint(self.registry)}")
            raise RegistryError(problem)
        expires_in = document.get("expires_in")
        seconds = expires_in if isinstance(expires_in, int) and 0 < expires_in < 86400 else TOKEN_SECONDS
        with self._lock:
            self._tokens[scope] = token, time.monotonic() + 0.9 * seconds

    def _token_answer(
        self, realm: SplitResult, query: dict[str, str], credentials: tuple[str, str] | None
    ) -> tuple[requests.Response, dict[str, Any]]:
        """What a token service answers; an empty document if it is an error. Raises RegistryError."""
        limits: dict[str, Any] = {"timeout": (CONNECT_SECONDS, READ_SECONDS), "allow_redirects": False, "stream": True}
        try:
            with http_session.within(ANSWER_SECONDS, f"{self.registry}: {realm.netloc}"):
                if credentials and credentials[0] == TOKEN_USER:
                    grant = {"grant_type": "refresh_token", "refresh_token": credentials[1], "client_id": "taskgate"}
                    answer = self._session().post(realm.geturl(), data={**grant, **query}, **limits)
                else:
                    url = f"{realm.geturl()}{'&' if realm.query else '?'}{urlencode(query)}"
                    answer = self._session().get(url, auth=credentials or http_session.no_auth, **limits)
                with answer:
                    document = json.loads(self._body(answer)) if answer.ok else {}
        except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError, RecursionError) as error:
            reason = classification.reason_of(error)
            raise RegistryError(f"{self.registry}: no token from {realm.netloc}: {reason}") from error
        return answer, document if isinstance(document, dict) else {}

    def _may_be_clear(self, realm: SplitResult) -> bool:
        """May a password go there without TLS? If the registry is on the loopback interface, or has none itself."""
        base = urlsplit(self._base)
        return base.scheme == "http" and (is_loopback(self.registry) or realm.hostname == base.hostname)


def _credentials(registry: str) -> tuple[str, str] | None:
    """From docker's config.json and its credential helpers. Raises RegistryError."""
    try:
        config = docker.auth.load_config().resolve_authconfig(None if registry == HUB else registry)
    except Exception as error:
        raise RegistryError(f"docker's credentials for {registry} can't be read: {error}") from error
    # Credential helpers spell the keys differently from the file.
    entry = {name.lower(): value for name, value in (config or {}).items()}
    if entry.get("identitytoken"):
        return TOKEN_USER, str(entry["identitytoken"])
    return (str(entry["username"]), str(entry.get("password") or "")) if entry.get("username") else None


def _manifest(reference: Reference) -> str:
    return f"/v2/{quote(reference.repository)}/manifests/{quote(reference.what, safe=':')}"


def _pull(repository: str) -> str:
    return f"repository:{repository}:pull"


def _is_own(answer: requests.Response) -> bool:
    """Is it the registry's own? What a redirect to another host leads to is fetched without a login, or not at all."""
    return len({urlsplit(response.url)[:2] for response in (*answer.history, answer)}) == 1


def _sender(answer: requests.Response) -> str:
    return "it" if _is_own(answer) else f"it redirects to {urlsplit(answer.url).netloc[:200]}, which"


def _object(data: bytes, what: str) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RegistryError(f"{what} is not JSON") from error
    if not isinstance(document, dict):
        raise RegistryError(f"{what} is not a JSON object")
    return document


def _texts(page: dict[str, Any], name: str) -> list[str]:
    """A list of strings; null stands for an empty one."""
    texts = page.get(name)
    return [text for text in texts if isinstance(text, str) and len(text) <= NAME] if isinstance(texts, list) else []


def _of_registry(answer: requests.Response) -> bool:
    """Is this 200 a registry's, by its headers alone?"""
    kind = answer.headers.get("Content-Type", "").partition(";")[0].strip()
    return VERSION in answer.headers or DIGEST in answer.headers or kind in (*INDEXES, *MANIFESTS)


def _has_errors(data: bytes) -> bool:
    """Is it a registry's error document, not any web server's?"""
    try:
        return "errors" in json.loads(data)
    except (ValueError, TypeError, RecursionError):
        return False


def _error_text(data: bytes) -> str:
    try:
        first = json.loads(data)["errors"][0]
        return f"{first.get('code')} {first.get('message')}"[:300]
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        return data[:200].decode("utf-8", "replace").strip()


def _challenged(challenge: str) -> tuple[str, SplitResult, dict[str, str]]:
    """A WWW-Authenticate header: its scheme, the URL of its realm, and its fields."""
    kind, _, rest = challenge.partition(" ")
    fields = {name.lower(): value for name, value in FIELD.findall(rest)}
    try:
        return kind, urlsplit(fields.get("realm", "")), fields
    except ValueError:
        return kind, urlsplit(""), fields


def _seconds(retry_after: str | None) -> float | None:
    """The seconds of a Retry-After header, which may hold a date."""
    if not retry_after:
        return None
    if re.fullmatch(r"\d{1,9}", retry_after.strip(), re.ASCII):
        return float(retry_after.strip())
    try:
        return max(0.0, (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None
