"""With a runtime: which git and which Python are judged, those that the agent finds first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from examples import images
from taskgate.checks import _registry as registry
from taskgate.harness.engine import ownership
from taskgate.harness.engine.client import Engine
from taskgate.harness.gate.gate import Gate
from taskgate.harness.gate.verdict import Outcome, Record
from taskgate.harness.tasks.runtime_spec import Runtime
from taskgate.harness.tasks.task import Agent, Require, Task

FAILING = "#!/bin/sh\necho no git here; exit 1\n"
CERTIFICATES = """
import os, ssl
assert len(ssl.create_default_context().get_ca_certs()) > 50
assert os.path.getsize(os.environ["REQUESTS_CA_BUNDLE"])
"""
GIT_CERTIFICATES = "case $(git -c 'alias.ca=!echo $GIT_SSL_CAINFO' ca) in /.taskgate/*/etc/ca.pem) ;; *) exit 1 ;; esac"


@pytest.fixture(scope="module")
def judge(client: Any) -> Iterator[Callable[..., Record]]:
    gate = Gate(Engine, registry.load(), session=ownership.new_session())
    runtime = Runtime(builder=images.base(client))

    def judge(image: str, **fields: Any) -> Record:
        given = {"repo_path": "/testbed", "pull": "never", "runtime": runtime, "agent": Agent(module="json"), **fields}
        return gate.judge(Task("one", image, **given))

    yield judge
    gate.close()


def test_the_images_git_comes_first(judge: Callable[..., Record], client: Any, sound: str) -> None:
    """The bundle's would do, and the agent never reaches it."""
    lines = f"FROM {sound}\nRUN rm /usr/bin/git\nCOPY git /usr/bin/git\nRUN chmod 755 /usr/bin/git"
    image = images.build(client, "taskgate-test/first-git:1", lines, {"git": FAILING.encode()})
    record = judge(image)
    assert (record.verdict, record.check) == ("broken", "git_available"), record
    assert record.reason and record.reason.startswith("/usr/bin/git is there but does not run: no git here")


def test_the_bundles_git_where_the_image_has_none(judge: Callable[..., Record], client: Any, sound: str) -> None:
    image = images.build(client, "taskgate-test/no-git:1", f"FROM {sound}\nRUN rm /usr/bin/git")
    record = judge(image)
    assert record.verdict == "healthy", record
    broken = images.build(
        client, "taskgate-test/no-git-no-head:1", f"FROM {sound}\nRUN rm /usr/bin/git /testbed/.git/HEAD"
    )
    record = judge(broken)
    assert record.check == "git_repo" and "/.taskgate/" in str(record.reason), record


@pytest.mark.parametrize("level", ["off", "fail"])
def test_the_bundles_python_starts_the_agent(judge: Callable[..., Record], client: Any, sound: str, level: str) -> None:
    """Whatever the image's is, and whether or not somebody looked at it before."""
    image = images.build(
        client, "taskgate-test/false-python:1", f"FROM {sound}\nRUN ln -sf /bin/false /usr/bin/python3"
    )
    record = judge(image, checks={"python_available": level})
    assert record.verdict == "healthy", record
    record = judge(image, agent=Agent(module="no_such_module"), checks={"python_available": level})
    assert record.check == "agent_start" and "/.taskgate/" in str(record.reason), record


def test_a_required_module_is_the_images(judge: Callable[..., Record], client: Any, sound: str) -> None:
    image = images.build(client, "taskgate-test/no-python:1", f"FROM {sound}\nRUN rm /usr/bin/python3*")
    record = judge(image, require=Require(modules=("json",)))
    assert record.check == "required" and "the image has no Python" in str(record.reason), record
    assert judge(sound, require=Require(modules=("json",))).verdict == "healthy"


def test_certificates_that_are_gone(judge: Callable[..., Record], client: Any, sound: str) -> None:
    """The bundle's programs take the bundle's, and the check says that the image's lead nowhere."""
    env = "ENV SSL_CERT_FILE=/gone.pem REQUESTS_CA_BUNDLE=/gone.pem GIT_SSL_CAINFO=/gone.pem"
    image = images.build(client, "taskgate-test/no-certificates:1", f"FROM {sound}\nRUN rm /usr/bin/git\n{env}")
    record = judge(image, agent=Agent(command=("python3", "-c", CERTIFICATES)))
    assert record.verdict == "healthy", record
    warned = {finding.check: finding.reason or "" for finding in record.findings if finding.outcome is Outcome.WARN}
    assert warned["environment"].count("/gone.pem") == 3, warned
    record = judge(image, agent=Agent(command=("/bin/sh", "-c", GIT_CERTIFICATES)))
    assert record.verdict == "healthy", record
