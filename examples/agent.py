"""The demo agent: fixes what it finds in a repository, and reports what it did.

    python -m agent TASK_ID         works on one task, in the folder where it is started
    python -m agent --serve [PORT]  answers /health and gets its task by a POST to /run

It leaves trajectory.json and prediction.json in $TASKGATE_OUT and, for a task that asks for one, the archive that
$TASKGATE_SUBMISSION names. Real agents call a model; this one replaces `a - b` by `a + b`.
"""

from __future__ import annotations

import asyncio
import http.server
import json
import os
import subprocess
import sys
import tarfile
import urllib.request
from pathlib import Path

NAME = "demo"
BUG, FIXED = "return a - b", "return a + b"
# What most agents import; the gate's agent_start shows that they are there.
LIBRARIES = (asyncio, json, subprocess, urllib.request)


def run(task_id: str, folder: Path | None = None) -> dict[str, object]:
    """Work on the repository in `folder` (here, if None); the prediction."""
    folder = folder or Path.cwd()
    out = Path(os.environ.get("TASKGATE_OUT", "."))
    steps: list[dict[str, object]] = []
    for path in sorted(folder.rglob("*.py")):
        text = path.read_text(errors="replace") if path.is_file() else ""
        if BUG in text:
            path.write_text(text.replace(BUG, FIXED))
            steps.append({"action": "edit", "path": str(path.relative_to(folder))})
    if advice := _ask(task_id):
        steps.append({"action": "ask", "answer": advice})
    diff = subprocess.run(["git", "diff"], cwd=folder, capture_output=True, text=True, check=False)
    steps.append({"action": "git diff", "status": diff.returncode})
    prediction: dict[str, object] = {"task_id": task_id, "model_name_or_path": NAME, "model_patch": diff.stdout}
    # An empty patch counts for those alone that say that they submitted it.
    trajectory: dict[str, object] = {"task_id": task_id, "agent": NAME, "exit_status": "submitted", "steps": steps}
    _write(out / "trajectory.json", trajectory)
    _write(out / "prediction.json", prediction)
    if wanted := os.environ.get("TASKGATE_SUBMISSION"):
        with tarfile.open(wanted, "w:gz") as tar:
            for path in sorted(folder.iterdir()):
                if path.name != ".git" and path != Path(wanted):
                    tar.add(path, path.name)
    return prediction


def _ask(task_id: str) -> str | None:
    """One call of the model, if the run offers an endpoint."""
    url = os.environ.get("TASKGATE_ENDPOINT")
    if not url:
        return None
    question = urllib.request.Request(f"{url}/ask", json.dumps({"task_id": task_id}).encode())  # noqa: S310
    with urllib.request.urlopen(question, timeout=30) as answer:  # noqa: S310
        return str(answer.read(4096).decode("utf-8", "replace"))


def _write(path: Path, document: dict[str, object]) -> None:
    """Whole or not at all: an agent may be ended at any moment."""
    fresh = path.with_name(f".{path.name}")
    fresh.write_text(json.dumps(document, indent=1))
    fresh.replace(path)


class Handler(http.server.BaseHTTPRequestHandler):
    """GET /health, POST /run."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(200 if self.path == "/health" else 404, {"agent": NAME})

    def do_POST(self) -> None:
        task = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        self._answer(200, run(task["task_id"]))

    def log_message(self, format: str, *args: object) -> None:
        print(format % args, flush=True)

    def _answer(self, status: int, document: dict[str, object]) -> None:
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def main() -> None:
    if sys.argv[1:2] == ["--serve"]:
        port = int(sys.argv[2]) if len(sys.argv) > 2 else 8000
        http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
    elif len(sys.argv) == 2:
        print(f"{NAME}: working on {sys.argv[1]}", flush=True)
        run(sys.argv[1])
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
