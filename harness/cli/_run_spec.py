"""From the options of `taskgate run` to what a run does with every task."""

from __future__ import annotations

import argparse
import os
import re
import shlex
from pathlib import Path
from urllib.parse import urlsplit

from taskgate.harness.base import files
from taskgate.harness.base.errors import UsageError
from taskgate.harness.base.redaction import redacted
from taskgate.harness.engine.discovery import find_engine
from taskgate.harness.runner import driver
from taskgate.harness.runner.inputs import Inputs
from taskgate.harness.runner.run_spec import RunSpec
from taskgate.harness.sandbox.isolation.endpoint import GATEWAY, Endpoint, is_loopback
from taskgate.harness.tasks import manifest
from taskgate.harness.tasks.task import Agent, Budget, Task
from taskgate.harness.tasks.values import VARIABLE

SECRET_CHARACTERS = 4
MAX_SECONDS = 30 * 86400


def run_spec(given: argparse.Namespace) -> RunSpec:
    """Raises UsageError."""
    for name, value, least in (("--jobs", given.jobs, 1), ("--retries", given.retries, 0), ("--calls", given.calls, 1)):
        if value is not None and value < least:
            raise UsageError(f"must be {least} or more", field=name)
    for name, seconds in (("--time", given.time), ("--collect-timeout", given.collect_timeout)):
        if not 0 < seconds <= MAX_SECONDS:
            raise UsageError(f"must be more than 0 and at most {MAX_SECONDS} seconds", field=name)
    if given.inputs and not files.is_folder(Path(given.inputs)):
        raise UsageError(f"there is no folder {given.inputs}", field="--inputs")
    return RunSpec(
        agent=None if given.agent is None else _agent(given.agent),
        budget=Budget(given.time, given.calls),
        env=dict(_pair(text, "--env") for text in given.env),
        secrets=dict(_secret(text) for text in given.secret),
        endpoint=_endpoint(given.endpoint, given.endpoint_header),
        inputs=Path(given.inputs) if given.inputs else None,
        driver=None if given.driver is None else _driver(given.driver),
        retries=given.retries,
        collect_seconds=given.collect_timeout,
    )


def _agent(text: str) -> Agent:
    if text.endswith((".yaml", ".yml", ".json")):
        return manifest.load_agent(Path(text))
    return Agent(run=_argv(text, "--agent"))


def _argv(text: str, field: str) -> tuple[str, ...]:
    try:
        argv = tuple(shlex.split(text))
    except ValueError as error:
        raise UsageError(f"can't be split into words: {error}", field=field) from error
    if not argv:
        raise UsageError("is empty", field=field)
    return argv


def _driver(text: str) -> tuple[str, ...]:
    argv = _argv(text, "--driver")
    driver.check(argv)
    return argv


def _pair(text: str, field: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not VARIABLE.fullmatch(name) or not equals:
        raise UsageError(f"{text!r} is not of the form NAME=VALUE", field=field)
    return name, value


def _secret(text: str) -> tuple[str, str]:
    name, equals, file = text.partition("=")
    if not VARIABLE.fullmatch(name):
        raise UsageError(f"{name!r} is no name of a variable", field="--secret")
    try:
        value = Path(file).read_text().strip() if equals else os.environ.get(name)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} can't be read: {error}", field="--secret") from error
    if value is None:
        raise UsageError(f"{name} is not set in this environment", field="--secret")
    if len(value) < SECRET_CHARACTERS or "\0" in value:
        raise UsageError(
            f"{name} is shorter than {SECRET_CHARACTERS} characters: it can't be kept out of logs", field="--secret"
        )
    return name, value


def _endpoint(url: str | None, headers: list[str]) -> Endpoint | None:
    if url is None:
        if headers:
            raise UsageError("needs an --endpoint", field="--endpoint-header")
        return None
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        sound = None
    if not sound or parts.query or parts.fragment or not url.isascii() or not url.isprintable() or " " in url:
        raise UsageError(f"{redacted(url)!r} is no URL such as https://host/v1", field="--endpoint")
    if is_loopback(parts.hostname or ""):
        raise UsageError(
            f"{redacted(url)!r}: the relay that makes the calls is a container and can't reach this machine's loopback "
            f"interface; let the service listen on 0.0.0.0 or the engine's bridge, and write {GATEWAY} for its host",
            field="--endpoint",
        )
    return Endpoint(url, dict(_header(text) for text in headers))


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name, re.ASCII):
        raise UsageError(f"{text!r} is not of the form NAME: VALUE", field="--endpoint-header")

    def variable(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            raise UsageError(f"{match[1]} is not set in this environment", field="--endpoint-header")
        return os.environ[match[1]]

    value = re.sub(rf"\{{({VARIABLE.pattern})\}}", variable, value.strip())
    if not value.isprintable():
        raise UsageError(f"the value of {name} holds a control character", field="--endpoint-header")
    return name, value


def examine(tasks: dict[str, Task], spec: RunSpec, hosts: list[str | None], shown: str) -> None:
    """What can be known to be wrong before anything is started. Raises UsageError."""
    served = False
    for task in tasks.values():
        try:
            served = bool(spec.agent_of(task).server) or served
            if spec.inputs and (folder := spec.inputs_of(task)):
                for _ in Inputs(spec.inputs).walk(folder):
                    pass
        except UsageError as error:
            raise UsageError(error.problem, file=shown, field=error.field) from error
    for host in hosts if served else ():
        url = find_engine(host).url
        if urlsplit(url).scheme not in ("unix", "http+unix") and urlsplit(url).hostname not in (
            "localhost", "127.0.0.1", "::1",
        ):  # fmt: skip
            raise UsageError(
                f"{redacted(url)}: a server agent is reached over the loopback interface of the engine's own machine; "
                "run there",
                field="--docker-host",
            )
