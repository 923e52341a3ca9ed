"""A stand-in for a model, which speaks OpenAI's chat completions: it asks for one command, then says that it is done.

python examples/openhands/model.py PORT
"""

from __future__ import annotations

import http.server
import json
import sys
import time

COMMAND = "sed -i 's/return a - b/return a + b/' calc.py && git diff --stat"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.path.endswith("/chat/completions"):
            self._answer({"error": f"there is no {self.path} here"}, 404)
            return
        acted = any(message["role"] == "tool" for message in asked["messages"])
        tools = {tool["function"]["name"] for tool in asked.get("tools", [])}
        if "terminal" in tools and not acted:
            message = self._call("terminal", {"command": COMMAND, "summary": "fix the sum"})
        else:
            message = self._call("finish", {"message": "The sum is a sum.", "summary": "done"})
        self._answer(
            {
                "id": "chatcmpl-1",
                "object": "chat.completion",
                "created": int(time.time()),
                "model": asked["model"],
                "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}],
                "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
            }
        )

    def _call(self, name: str, arguments: dict[str, str]) -> dict[str, object]:
        function = {"name": name, "arguments": json.dumps(arguments)}
        call = {"id": f"call_{name}", "type": "function", "function": function}
        return {"role": "assistant", "content": "", "tool_calls": [call]}

    def _answer(self, document: dict[str, object], status: int = 200) -> None:
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def main() -> None:
    # The relay is a container: this must listen on more than the loopback interface.
    http.server.ThreadingHTTPServer(("0.0.0.0", int(sys.argv[1])), Handler).serve_forever()  # noqa: S104


if __name__ == "__main__":
    main()
