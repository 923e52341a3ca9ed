"""`taskgate run` for the tests: an image with an agent that does what its task's id says, and the command itself."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from examples import images

TASKGATE = [sys.executable, "-c", "import sys; from taskgate.harness.cli.main import main; sys.exit(main())"]


def harmless(shown: str) -> bool:
    """Does it hold nothing that a terminal or a CI job acts on?"""
    return not {"\x1b", "\x07", "\u202e"} & set(shown) and not re.search(r"##[\w-]*\[|^\s*::", shown, re.M)


# Its behaviour is the id up to the first hyphen.
AGENT = r"""#!/usr/bin/python3
import json, os, pathlib, signal, socket, sys, tarfile, time

task, out = sys.argv[1], pathlib.Path(os.environ["TASKGATE_OUT"])
act = task.partition("-")[0]
trajectory = {"task_id": task, "steps": [{"act": act}]}
prediction = {"instance_id": task, "model_patch": "a patch"}

def leave():
    (out / "trajectory.json").write_text(json.dumps(trajectory))
    (out / "prediction.json").write_text(json.dumps(prediction))

print("working on", task, flush=True)
if act == "slow":
    time.sleep(float(task.split("-")[1]))
elif act == "never":
    leave()
    time.sleep(3600)
elif act == "patient":
    time.sleep(3600)
elif act == "cut":
    leave()
    (out / "trajectory.json").write_text('{"task_id": "' + task + '", "steps": [{"a')
    sys.exit()
elif act == "other":
    prediction["instance_id"] = "somebody-else"
elif act == "unnamed":
    del trajectory["task_id"]
elif act == "empty":
    prediction = {"task_id": task, "model_patch": ""}
    trajectory["steps"] = []
elif act == "nothing":
    prediction["model_patch"] = ""
    trajectory["info"] = {"exit_status": "submitted"}
elif act == "silent":
    prediction["model_patch"] = ""
elif act == "crashed":
    print("Traceback: something broke")
    leave()
    sys.exit(1)
elif act == "late":
    trajectory["info"] = {"exit_status": "Submitted"}
    leave()
    sys.exit(1)
elif act == "limited":
    trajectory["info"] = {"exit_status": "RateLimitError"}
elif act == "refused":
    print("openai.AuthenticationError: Error code: 401 - Incorrect API key provided")
    sys.exit(1)
elif act == "daemon":
    import subprocess
    subprocess.Popen(["sleep", "3600"])
    print("last words")
elif act == "infra":
    trajectory["infra_failure"] = "the model's server answers 503"
elif act == "none":
    sys.exit(3)
elif act == "later":
    print("the model's server is down")
    sys.exit(75)
elif act == "telling":
    print(dict(os.environ))
    sys.stdout.write("a half: " + os.environ["TOKEN"][:5])
    sys.stdout.flush()
    time.sleep(0.3)
    print(os.environ["TOKEN"][5:])
    trajectory["out"] = sorted(os.environ)
elif act == "excuse":
    trajectory["status"] = "infra failure" + "." * 160 + " 401 for the key " + os.environ["TOKEN"]
elif act == "link":
    leave()
    (out / "prediction.json").unlink()
    (out / "prediction.json").symlink_to("/etc/passwd")
    sys.exit()
elif act == "fifo":
    leave()
    (out / "prediction.json").unlink()
    os.mkfifo(out / "prediction.json")
    sys.exit()
elif act == "hog":
    leave()
    held = []
    while True:
        held.append(bytearray(os.urandom(1 << 20)))
elif act == "writer":
    leave()
    with open("/var/tmp/big", "wb") as file:
        for _ in range(64):
            file.write(os.urandom(4 << 20))
    time.sleep(3600)
elif act == "forks":
    leave()
    while True:
        try:
            os.fork()
        except OSError:
            time.sleep(0.1)
elif act == "submits":
    with tarfile.open(os.environ["TASKGATE_SUBMISSION"], "w:gz") as tar:
        tar.add("/testbed/src", "src")
elif act == "damages":
    pathlib.Path(os.environ["TASKGATE_SUBMISSION"]).write_bytes(b"\x1f\x8b\x08 no archive")
elif act == "reads":
    trajectory["read"] = (pathlib.Path(os.environ["TASKGATE_IN"]) / "problem.txt").read_text()
leave()
"""


def working(client: Any, sound: str) -> str:
    """The corpus's base with that agent as agent_run."""
    lines = f"FROM {sound}\nCOPY agent_run /usr/local/bin/agent_run\nRUN chmod 755 /usr/local/bin/agent_run"
    # Another checkout's tests may build theirs on the same engine.
    tag = hashlib.sha256(AGENT.encode()).hexdigest()[:12]
    return images.build(client, f"taskgate-test/working:{tag}", lines, {"agent_run": AGENT.encode()})


@dataclass
class Ran:
    """What a run gave."""

    status: int
    output: str
    out: Path

    def result(self, task_id: str) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((self.out / task_id / "result.json").read_text())
        return document

    def told(self) -> dict[str, str]:
        """What became of each task, from the journal; the last line counts."""
        lines = [json.loads(line) for line in (self.out / "journal.jsonl").read_text().splitlines()]
        return {line["task_id"]: line["what"] for line in lines}


class Run:
    """`run(manifest, "-j", "2")` in `folder`; the manifest is kept from call to call."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.out = folder, folder / "out"

    def argv(self, manifest: str | None, *args: str) -> list[str]:
        if manifest is not None:
            (self.folder / "m.yaml").write_text(manifest)
        return [*TASKGATE, "run", "--images=m.yaml", "--out=out", *args]

    def __call__(self, manifest: str | None, *args: str, env: dict[str, str] | None = None) -> Ran:
        return self.done(self.argv(manifest, *args), env)

    def result_of(self, task_id: str) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((self.out / task_id / "result.json").read_text())
        return document

    def status(self, *args: str) -> tuple[int, dict[str, tuple[str, str | None]]]:
        done = self.done([*TASKGATE, "status", "out", "--json", *args])
        rows = [json.loads(line) for line in done.output.splitlines()]
        return done.status, {row["task_id"]: (row["state"], row["reason"]) for row in rows}

    def done(self, argv: list[str], env: dict[str, str] | None = None) -> Ran:
        done = subprocess.run(
            argv, cwd=self.folder, env={**os.environ, **(env or {})}, capture_output=True, text=True, timeout=300,
            check=False,
        )  # fmt: skip
        return Ran(done.returncode, done.stdout + done.stderr, self.out)


def manifest(image: str, *tasks: str, defaults: str = "") -> str:
    """Tasks of one image; `tasks` are ids, or rows such as `{id: a, network: none}` without the image."""
    rows = [task if task.startswith("{") else f"{{id: {task}}}" for task in tasks]
    head = (
        f"version: 1\ndefaults: {{repo_path: /testbed, pull: never, agent: {{run: [agent_run]}}{defaults}}}\ntasks:\n"
    )
    return head + "".join(f"- {row[:-1]}, image: '{image}'}}\n" for row in rows)
