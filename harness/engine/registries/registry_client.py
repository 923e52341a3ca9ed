"""One registry, as many threads use it: authentication, paging, and its limits obeyed."""

from __future__ import annotations

import json
import random
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
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
# Go's answer to plain HTTP on a TLS port.
NO_TLS = b"HTTP request to an HTTPS server"
# Where engines look for the authorities of a registry of one's own.
AUTHORITIES = Path("/etc/docker/certs.d")
# What most registries say with every answer, and with a manifest.
VERSION = "Docker-Distribution-Api-Version"
DIGEST = "Docker-Content-Digest"
# Of a challenge. It is looked for from the beginning of a word alone: words may be as long as a header.
FIELD = re.compile(r'(?<![a-zA-Z_])([a-zA-Z_]++)="([^"]*)"')
PAGE = 500
PAGES = 10_000
# Of repositories and tags, in all that is asked for; longer ones are none that an image could have.
NAMES, NAME = 2_000_000, 512
ANSWER_BYTES = 8 << 20
CONNECT_SECONDS, READ_SECONDS, ANSWER_SECONDS = 10.0, 30.0, 120.0
TRIES = 6
WAIT_SECONDS, MAX_WAIT_SECONDS = 0.5, 120.0
APART_SECONDS = 0.5
# A host that refuses connections or has no address: a restart takes no longer.
UNREACHABLE_SECONDS = 2.0
UNREACHABLE = (ConnectionRefusedError, socket.gaierror)
PATIENCE_SECONDS = 600.0
TOKEN_SECONDS = 60
# Docker's user name for an identity token.
TOKEN_USER = "<token>"  # noqa: S105


class Client:
    """Speaks to `registry`. Thread-safe. `scheme`: http or https, where it is not the usual one."""

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
        """End all waiting: what is still under way fails."""
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
        """Is there a manifest of that name? A HEAD, which no registry counts as a pull. Raises RegistryError."""
        try:
            answer, _ = self._ask("HEAD", _manifest(reference), _pull(reference.repository), accept=ACCEPT)
            # To some web sites every page is there.
            if not _of_registry(answer) and not isinstance(self.manifest(reference).get("schemaVersion"), int):
                raise RegistryError(f"{self.registry}: what it has as {reference.repository} is no manifest")
        except ImageNotFound:
            return False
        return True

    def manifest(self, reference: Reference) -> dict[str, Any]:
        """The manifest or index; `mediaType` is filled in. Raises ImageNotFound, RegistryError."""
        answer, data = self._ask("GET", _manifest(reference), _pull(reference.repository), accept=ACCEPT)
        told = _object(data, f"{self.registry}: the manifest of {reference.repository}")
        told.setdefault("mediaType", answer.headers.get("Content-Type", "").partition(";")[0].strip())
        return told

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
                raise RegistryError(f"{self.registry}: its pages go in a circle")
        raise RegistryError(f"{self.registry}: more than {PAGES} pages")

    def _following(self, url: str, link: str) -> str | None:
        """The path of the next page, by a Link header; None where there is none. Raises RegistryError."""
        found = re.match(r'\s*<([^>]*)>\s*;\s*rel="?next"?', link)
        if not found:
            return None
        try:
            following = urlsplit(urljoin(self._base + url, found[1]))
        except ValueError as error:
            raise RegistryError(f"{self.registry}: its next page is nowhere: {found[1][:200]!r}") from error
        # Credentials are this registry's, wherever its answers point.
        if f"{following.scheme}://{following.netloc}" != self._base and following.netloc != urlsplit(self._base).netloc:
            raise RegistryError(f"{self.registry}: its next page is said to be on {following.netloc}")
        return str(following._replace(scheme="", netloc="").geturl())

    def _ask(
        self, method: str, path: str, scope: str, *, accept: str = "application/json"
    ) -> tuple[requests.Response, bytes]:
        """One answer of 200. Waits as it is told to, tries again what may pass. Raises ImageNotFound, RegistryError."""
        said = "it did not answer"
        challenged = False
        tries, begun = 0, time.monotonic()
        # A registry that is down costs the first question the waiting, not every one of ten thousand.
        while tries < (1 if self._failing else TRIES):
            self._wait()
            try:
                answer, data = self._send(method, path, {"Accept": accept, **self._authorization(scope)})
            except (requests.RequestException, OSError) as error:
                said = classification.reason_of(error)
                tries += 1
                cause = classification.root_cause(error)
                if isinstance(cause, UNREACHABLE) and time.monotonic() - begun >= UNREACHABLE_SECONDS:
                    break
                if isinstance(cause, ssl.SSLCertVerificationError):
                    break
                self._pause(tries)
                continue
            except (ValueError, urllib3.exceptions.HTTPError) as error:
                raise RegistryError(
                    f"{self.registry} can't be asked, or sends to where nobody can be: {error}"
                ) from error
            status = answer.status_code
            if status == 400 and NO_TLS in data and self._base.startswith("http:"):
                # On the loopback interface, too, a registry may want TLS.
                self._base = f"https:{self._base.removeprefix('http:')}"
                continue
            self._failing = self._failing and status >= 500
            if status == 200:
                return answer, data
            said = f"{_who(answer)} answers {status}: {_said(data)}"
            # Whoever a redirect leads to is nobody to log in to.
            if status == 401 and not challenged and _is_own(answer):
                challenged = True
                self._authenticate(answer.headers.get("WWW-Authenticate", ""), scope)
                continue
            told_by_registry = VERSION in answer.headers or _has_errors(data)
            if status == 404 and method == "HEAD" and not told_by_registry:
                # Without words it can't be told from somebody in between who knows no such page.
                method = "GET"
                continue
            if status == 404 and told_by_registry:
                raise ImageNotFound(f"{self.registry} has no {path.partition('?')[0].removeprefix('/v2/')}")
            if status in (401, 403):
                raise RegistryRefused(f"{self.registry}: {said}; {login_hint(self.registry)}")
            if status != 429 and status < 500:
                raise RegistryRefused(f"{self.registry}: {said}")
            told = answer.headers.get("Retry-After") if status == 429 else None
            # To wait as it was asked to is no failure, for as long as a person would put up with it.
            tries += told is None or time.monotonic() - begun > PATIENCE_SECONDS
            self._pause(tries, told)
        self._failing = True
        raise RegistryError(f"{self.registry}: {said} (tried {tries} times)", transient=False)

    def _send(self, method: str, path: str, headers: dict[str, str]) -> tuple[requests.Response, bytes]:
        """An answer and its body, whole, in time and of bounded size.

        Raises RequestException, RegistryError, and for a host that can't be one ValueError or urllib3's HTTPError.
        """
        with (
            http_session.within(ANSWER_SECONDS, self.registry),
            self._session().request(
                method,
                self._base + path,
                headers=headers,
                timeout=(CONNECT_SECONDS, READ_SECONDS),
                # Said with each request: what the session says gives way to the environment.
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
        """Raises RegistryError for one that is too large."""
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

    # Its limits.

    def _wait(self) -> None:
        """What one thread was told holds for all of them. They come back a little apart, not all at once."""
        apart = random.uniform(0, APART_SECONDS)  # noqa: S311
        while (left := self._not_before + apart - time.monotonic()) > 0:
            self._sleep(min(left, 1.0))

    def _sleep(self, seconds: float) -> None:
        """Raises RegistryError once nobody waits for an answer any more."""
        if self._closed.wait(seconds):
            raise RegistryError(f"{self.registry}: no longer asked")

    def _pause(self, tries: int, told: str | None = None) -> None:
        seconds = _seconds(told)
        if seconds is None:
            self._sleep(min(WAIT_SECONDS * 2**tries, 20.0) * random.uniform(0.75, 1.25))  # noqa: S311
        else:
            with self._lock:
                self._not_before = max(self._not_before, time.monotonic() + min(seconds, MAX_WAIT_SECONDS))

    # Who asks.

    def _authorization(self, scope: str) -> dict[str, str]:
        with self._lock:
            token = self._tokens.get(scope)
            if token and token[1] > time.monotonic():
                return {"Authorization": f"Bearer {token[0]}"}
            if self._basic:
                return {"Authorization": requests.auth._basic_auth_str(*self._basic)}
        return {}

    def _authenticate(self, challenge: str, scope: str) -> None:
        """Answer a 401: with a name and a password, or with a token from where it says. Raises RegistryError."""
        kind, realm, fields = _challenged(challenge)
        known = _credentials(self.registry)
        if kind.lower() == "basic":
            if known is None:
                raise RegistryRefused(f"{self.registry} wants a login; {login_hint(self.registry)}")
            with self._lock:
                self._basic = known
            return
        if kind.lower() != "bearer" or not realm.hostname:
            raise RegistryRefused(f"{self.registry} answers 401 and doesn't say how to log in: {challenge[:200]!r}")
        # A password must not go over the wire in the clear because a registry says so.
        if realm.scheme != "https" and not self._may_be_clear(realm):
            raise RegistryError(f"{self.registry} wants its tokens to be had from {realm.geturl()[:200]}, without TLS")
        asked = {"service": fields.get("service", ""), "scope": fields.get("scope", scope)}
        limits: dict[str, Any] = {"timeout": (CONNECT_SECONDS, READ_SECONDS), "allow_redirects": False, "stream": True}
        try:
            with http_session.within(ANSWER_SECONDS, f"{self.registry}: {realm.netloc}"):
                if known and known[0] == TOKEN_USER:
                    data = {"grant_type": "refresh_token", "refresh_token": known[1], "client_id": "taskgate", **asked}
                    answer = self._session().post(realm.geturl(), data=data, **limits)
                else:
                    url = f"{realm.geturl()}{'&' if realm.query else '?'}{urlencode(asked)}"
                    answer = self._session().get(url, auth=known or http_session.no_auth, **limits)
                with answer:
                    told = json.loads(self._body(answer)) if answer.ok else {}
        except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError, RecursionError) as error:
            raise RegistryError(
                f"{self.registry}: no token could be had from {realm.netloc}: {classification.reason_of(error)}"
            ) from error
        token = told.get("token") or told.get("access_token") if isinstance(told, dict) else None
        # It goes into a header.
        if not isinstance(token, str) or not (token.isascii() and token.isprintable()):
            denied = f"; {login_hint(self.registry)}" if answer.status_code in (400, 401, 403) else ""
            kind_of_error = RegistryRefused if denied else RegistryError
            raise kind_of_error(
                f"{self.registry}: no token could be had: {answer.status_code} from {realm.netloc}{denied}"
            )
        lasts = told.get("expires_in")
        with self._lock:
            seconds = lasts if isinstance(lasts, int) and 0 < lasts < 86400 else TOKEN_SECONDS
            self._tokens[scope] = token, time.monotonic() + 0.9 * seconds

    def _may_be_clear(self, realm: SplitResult) -> bool:
        """May a password go there without TLS? From the loopback interface, and to a registry that is asked without."""
        base = urlsplit(self._base)
        return base.scheme == "http" and (is_loopback(self.registry) or realm.hostname == base.hostname)


def _credentials(registry: str) -> tuple[str, str] | None:
    """From docker's config.json and its credential helpers. Raises RegistryError."""
    try:
        known = docker.auth.load_config().resolve_authconfig(None if registry == HUB else registry)
    except Exception as error:
        raise RegistryError(f"docker's credentials for {registry} can't be read: {error}") from error
    # A credential helper's answer is spelled otherwise than the file's.
    told = {name.lower(): value for name, value in (known or {}).items()}
    if told.get("identitytoken"):
        return TOKEN_USER, str(told["identitytoken"])
    return (str(told["username"]), str(told.get("password") or "")) if told.get("username") else None


def _manifest(reference: Reference) -> str:
    return f"/v2/{quote(reference.repository)}/manifests/{quote(reference.what, safe=':')}"


def _pull(repository: str) -> str:
    return f"repository:{repository}:pull"


def _is_own(answer: requests.Response) -> bool:
    """Is it of the registry itself? What a redirect to another host leads to is had without a login, or not at all."""
    return len({urlsplit(one.url)[:2] for one in (*answer.history, answer)}) == 1


def _who(answer: requests.Response) -> str:
    return "it" if _is_own(answer) else f"it sends to {urlsplit(answer.url).netloc[:200]}, which"


def _object(data: bytes, what: str) -> dict[str, Any]:
    try:
        told = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RegistryError(f"{what} is no JSON") from error
    if not isinstance(told, dict):
        raise RegistryError(f"{what} is no JSON object")
    return told


def _texts(page: dict[str, Any], name: str) -> list[str]:
    """A list of texts; engines write null for none."""
    found = page.get(name)
    return [text for text in found if isinstance(text, str) and len(text) <= NAME] if isinstance(found, list) else []


def _of_registry(answer: requests.Response) -> bool:
    """Is this 200 a registry's, by its headers alone?"""
    kind = answer.headers.get("Content-Type", "").partition(";")[0].strip()
    return VERSION in answer.headers or DIGEST in answer.headers or kind in (*INDEXES, *MANIFESTS)


def _has_errors(data: bytes) -> bool:
    """Are these the words of a registry, and not those of any web server?"""
    try:
        return "errors" in json.loads(data)
    except (ValueError, TypeError, RecursionError):
        return False


def _said(data: bytes) -> str:
    try:
        first = json.loads(data)["errors"][0]
        return f"{first.get('code')} {first.get('message')}"[:300]
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        return data[:200].decode("utf-8", "replace").strip()


def _challenged(challenge: str) -> tuple[str, SplitResult, dict[str, str]]:
    """A WWW-Authenticate header: its kind, whom to ask, and all that it says."""
    kind, _, rest = challenge.partition(" ")
    fields = {name.lower(): value for name, value in FIELD.findall(rest)}
    try:
        return kind, urlsplit(fields.get("realm", "")), fields
    except ValueError:
        return kind, urlsplit(""), fields


def _seconds(told: str | None) -> float | None:
    """A Retry-After: seconds, or a date."""
    if not told:
        return None
    if re.fullmatch(r"\d{1,9}", told.strip(), re.ASCII):
        return float(told.strip())
    try:
        return max(0.0, (parsedate_to_datetime(told) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None
