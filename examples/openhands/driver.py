"""A driver for OpenHands' agent-server: one conversation a task, through a RemoteWorkspace.

    pip install openhands-sdk openhands-tools        (Python 3.12 or newer, on this host)
    taskgate run --images=manifest.yaml --out=results --endpoint=https://model.example/v1 \
        --endpoint-header='Authorization: Bearer {API_KEY}' --driver='python examples/openhands/driver.py'

TASKGATE_URL has the key as the first part of its path, so that the SDK's HTTP and WebSocket clients need no header.
The agent itself runs in the task's container; its model is what taskgate's --endpoint reaches from there.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from openhands.sdk import LLM, Agent, Conversation, Tool
from openhands.sdk.workspace import RemoteWorkspace
from openhands.tools.file_editor import FileEditorTool
from openhands.tools.terminal import TerminalTool


def main() -> None:
    task = json.loads(os.environ["TASKGATE_TASK"])
    out = Path(os.environ["TASKGATE_OUT"])
    llm = LLM(
        model=os.environ.get("MODEL", "openai/gpt-4o"),
        # The endpoint's address in the container; the relay adds the real key.
        base_url=os.environ["TASKGATE_ENDPOINT"],
        api_key="added-by-the-relay",
        usage_id="agent",
    )
    agent = Agent(llm=llm, tools=[Tool(name=TerminalTool.name), Tool(name=FileEditorTool.name)])
    workspace = RemoteWorkspace(host=os.environ["TASKGATE_URL"], working_dir=task["workdir"])
    conversation = Conversation(agent=agent, workspace=workspace, visualizer=None)
    try:
        conversation.send_message(f"Fix the bug in the repository at {task['workdir']}. Do not commit.")
        conversation.run()
        diff = workspace.execute_command(f"git -C {task['workdir']} diff", timeout=60)
        events = [event.model_dump(mode="json") for event in conversation.state.events]
        status = conversation.state.execution_status.value
    finally:
        conversation.close()
    write(out / "trajectory.json", {"task_id": task["task_id"], "exit_status": status, "steps": events})
    write(out / "prediction.json", {"task_id": task["task_id"], "model_patch": diff.stdout})


def write(path: Path, document: dict[str, object]) -> None:
    fresh = path.with_name(f".{path.name}")
    fresh.write_text(json.dumps(document, indent=1))
    fresh.replace(path)


if __name__ == "__main__":
    main()
