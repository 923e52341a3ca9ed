"""The population rule: what fails alike in nearly every image of a run is rarely the fault of the images.

The agent, the runtime, the manifest or this host is the likelier cause. Such a run has come to no verdict that should
be acted on: it says so first, and lists nothing.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass

from taskgate.harness.gate.verdict import Outcome, Record, Verdict
from taskgate.harness.tasks.task import Task

# Fewer images than this say nothing about a common cause. Tags of the same image count once.
MIN_IMAGES = 3
# Of the images in which the check ran, so many must fail alike.
SHARE = 0.9
# What the manifest itself claims (a path, a user, a module) is likelier to be wrong: more than half are enough.
CLAIM_SHARE = 0.5
# And so many of all images that were judged: a check that only a few tasks have says little about the run.
JUDGED_SHARE = 0.5

JUDGED = (Verdict.HEALTHY, Verdict.BROKEN)
RAN = (Outcome.PASS, Outcome.WARN, Outcome.FAIL)
# What differs from image to image in a reason that is the same.
DIGEST = re.compile(r"\b(?:sha256:)?(?=[0-9a-f]*\d)[0-9a-f]{7,64}\b")
ADDRESS = re.compile(r"\b0x[0-9a-f]+\b", re.I)
TEMPORARY = re.compile(r"/tmp/[^\s'\":;,]+")  # noqa: S108
NUMBER = re.compile(r"\d+")
# As the engine layer reports an image that it may not pull.
ABSENT = re.compile(r"is not on (?:this host|the engine)\b")
REASON_CHARACTERS = 1000


@dataclass(frozen=True, slots=True)
class CommonFailure:
    """A check that fails alike in `failed` of the `ran` distinct images in which it ran.

    `reason` is one image's; `task_ids` are the tasks that are broken by it. `field`: the manifest's field that is
    probably wrong, where what fails is a claim of the manifest's own; else None.
    """

    check: str
    reason: str
    task_ids: tuple[str, ...]
    failed: int
    ran: int
    field: str | None = None


@dataclass(slots=True)
class _Group:
    reason: str
    images: set[str]
    records: list[Record]


def common_failures(
    records: Iterable[Record], tasks: Mapping[str, Task], listed: Container[str] = ()
) -> list[CommonFailure]:
    """What fails alike in nearly every image, the most frequent first.

    `tasks`: the manifest's, by id. `listed`: the tasks that were on the skip list before the run. What is known of
    them from before says nothing new, and does not count.
    """
    records = list(records)
    judged = [
        record
        for record in records
        if record.verdict in JUDGED and record.findings and not (record.cached and record.task_id in listed)
    ]
    everything = len({_image(record) for record in judged})
    common = _never_pulled(records, tasks)
    for (check, _), group in _groups(judged).items():
        failed, field = len(group.images), claim(check, group, tasks)
        if failed < MIN_IMAGES or failed < JUDGED_SHARE * everything:
            continue
        ran = len({_image(record) for record in judged if _ran(record, check)})
        if failed > CLAIM_SHARE * ran if field else failed >= SHARE * ran:
            broken = tuple(record.task_id for record in group.records if record.check == check)
            if broken:
                common.append(CommonFailure(check, group.reason, broken, failed, ran, field))
    return sorted(common, key=lambda failure: (-failure.failed, failure.check, failure.reason))


def banner(failures: list[CommonFailure], *, trusted: bool) -> list[str]:
    """What a reader must know first, as lines of text that still have to be escaped."""
    lines = []
    for failure in failures:
        share = f"in {failure.failed} of {failure.ran} images"
        if failure.field:
            head = f"PROBABLY A MISTAKE IN THE MANIFEST: `{failure.field}` does not hold {share}"
        else:
            head = f"THE SAME FAILURE {share.upper()}: probably not the images' fault"
        lines += [head, f"  {failure.check}: {failure.reason}"]
        if failure.field:
            lines.append(f"  Check `{failure.field}` in the manifest (in `defaults`, or as the importer sets it).")
        else:
            lines.append("  Look first at what all of them share: the agent, the runtime, the manifest, this host.")
    if all(failure.field == "pull" for failure in failures):
        # Infra is never listed.
        return lines
    if trusted:
        lines.append("  Taken as the images' fault all the same (--trust-common-failures).")
    else:
        lines.append(
            "  Nothing was added to the skip list. If the images really are at fault, run again with"
            " --trust-common-failures."
        )
    return lines


def claim(check: str, group: _Group, tasks: Mapping[str, Task]) -> str | None:
    """The manifest's field that such a failure speaks against; None where it is a matter of the image alone."""
    first = next((task for record in group.records if (task := tasks.get(record.task_id))), None)
    if first is None:
        return None
    reason = group.reason
    if check == "workdir" and (path := re.match(r"(.+?) (?:does not exist|is not a directory)", reason)):
        # It may also be the image's own.
        return {first.workdir: "workdir", first.repo_path: "repo_path"}.get(path[1])
    if check == "git_repo" and re.search(r"does not exist|is not a (?:directory|git repository)", reason):
        return "repo_path"
    if check == "agent_start":
        return _agent_claim(reason, first)
    fields = {
        "user": "user" if first.user else None,
        "git_commit": "base_commit",
        "python_available": "python" if "the manifest asks for" in reason else None,
        "required": "require",
    }
    return fields.get(check)


def _agent_claim(reason: str, task: Task) -> str | None:
    """Is the agent's own name wrong? A missing dependency of the agent says nothing about the manifest."""
    module = task.agent.module if task.agent else None
    if module and re.search(rf"No module named '{re.escape(module.partition('.')[0])}(?:\.[\w.]*)?'", reason):
        return "agent.module"
    return "agent" if re.search(r"the agent's program \S+ is not ", reason) else None


def normalized(reason: str, record: Record) -> str:
    """A reason without what differs from image to image: names, ids, numbers."""
    text = reason[:REASON_CHARACTERS]
    names = {record.image, record.image.partition("@")[0].rpartition(":")[0], record.task_id, record.digest}
    # The longest first: one may be a part of another.
    for name in sorted((name for name in names if name and len(name) > 2), key=len, reverse=True):
        text = text.replace(name, "NAME")
    for pattern, placeholder in ((ADDRESS, "ADDRESS"), (DIGEST, "ID"), (TEMPORARY, "TEMPORARY"), (NUMBER, "N")):
        text = pattern.sub(placeholder, text)
    return " ".join(text.split())


def _never_pulled(records: list[Record], tasks: Mapping[str, Task]) -> list[CommonFailure]:
    """`pull: never` where the host lacks most images: they are infra already, and the manifest is why."""
    absent = [
        record
        for record in records
        if record.verdict is Verdict.INFRA
        and (task := tasks.get(record.task_id))
        and task.pull == "never"
        and ABSENT.search(record.reason or "")
    ]
    failed, ran = (len({_image(record) for record in group}) for group in (absent, records))
    if failed < MIN_IMAGES or failed <= CLAIM_SHARE * ran:
        return []
    ids = tuple(record.task_id for record in absent)
    return [CommonFailure("image_exists", absent[0].reason or "", ids, failed, ran, "pull")]


def _groups(records: list[Record]) -> dict[tuple[str, str], _Group]:
    groups: dict[tuple[str, str], _Group] = {}
    for record in records:
        for finding in record.findings:
            if finding.outcome is Outcome.FAIL:
                reason = finding.reason or ""
                key = (finding.check, normalized(reason, record))
                group = groups.setdefault(key, _Group(reason, set(), []))
                group.images.add(_image(record))
                group.records.append(record)
    return groups


def _ran(record: Record, check: str) -> bool:
    return any(finding.check == check and finding.outcome in RAN for finding in record.findings)


def _image(record: Record) -> str:
    return record.digest or record.image
