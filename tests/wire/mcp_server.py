"""An MCP server on standard streams, written down to the wire so that it can also behave badly. Run as a process:

    python -P tests/wire/mcp_server.py LOG TOOLS [--silent]

TOOLS is a JSON file with the list of tools: it is read at every listing, so that a test can change what is offered.
Which tool does what goes by its name, see `Speaker.call`. LOG gets a line for each start, call, cancellation and end.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

Json = dict[str, Any]
LIST_CHANGED = {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}


class Speaker:
    """One session."""

    def __init__(self, log: Path, tools: Path) -> None:
        self.log, self.tools = log, tools
        self.lock = threading.Lock()
        self.cancelled: set[Any] = set()
        self.answers: dict[str, Json] = {}
        self.answered = threading.Event()

    def note(self, text: str) -> None:
        with self.log.open("a") as file:
            file.write(text + "\n")

    def send(self, message: Json) -> None:
        with self.lock:
            sys.stdout.write(json.dumps(message) + "\n")
            sys.stdout.flush()

    def take(self, message: Json) -> None:
        """Handle one message; a call runs in a thread, so that it can be cancelled."""
        method, identity, params = message.get("method"), message.get("id"), message.get("params", {})
        if method is None:
            self.answers[str(identity)] = message.get("result", message.get("error", {}))
            self.answered.set()
        elif method == "notifications/cancelled":
            self.cancelled.add(params["requestId"])
            self.note("cancelled")
        elif method == "tools/call":
            threading.Thread(target=self.answer_call, args=(identity, params), daemon=True).start()
        elif identity is not None:
            result = self.result(method, params)
            error = {"error": {"code": -32601, "message": f"no method {method}"}}
            self.send({"jsonrpc": "2.0", "id": identity} | (error if result is None else {"result": result}))

    def result(self, method: str, params: Json) -> Json | None:
        if method == "initialize":
            capabilities = {"tools": {"listChanged": True}, "resources": {}, "prompts": {}}
            info = {"name": "test", "version": "1"}
            return {"protocolVersion": "2025-06-18", "capabilities": capabilities, "serverInfo": info}
        if method == "tools/list":  # two pages, so that clients which read one are found out
            listed = json.loads(self.tools.read_text())
            first = not params.get("cursor")
            return {"tools": listed[:1] if first else listed[1:]} | ({"nextCursor": "more"} if first else {})
        if method == "resources/list":
            return {"resources": [{"uri": "note://one", "name": "one", "description": "the first note"}]}
        if method == "resources/templates/list":
            return {"resourceTemplates": []}
        if method == "resources/read":
            return {"contents": [{"uri": params["uri"], "text": "read " + params["uri"]}]}
        if method == "prompts/list":
            arguments = [{"name": "topic", "required": True}, {"name": "style"}]
            return {"prompts": [{"name": "essay", "arguments": arguments}]}
        if method == "prompts/get":
            text = "Write about " + json.dumps(params.get("arguments", {}), sort_keys=True)
            return {"messages": [{"role": "user", "content": {"type": "text", "text": text}}]}
        return None

    def answer_call(self, identity: Any, params: Json) -> None:
        self.note("call " + params["name"])
        text, is_error = self.call(identity, params)
        if identity not in self.cancelled:
            content = [{"type": "text", "text": text}]
            self.send({"jsonrpc": "2.0", "id": identity, "result": {"content": content, "isError": is_error}})

    def call(self, identity: Any, params: Json) -> tuple[str, bool]:
        """What the tool of this name does: its text, and whether that is an error."""
        arguments = params.get("arguments", {})
        match params["name"]:
            case "die":
                os._exit(3)
            case "fail":
                return "it did not work", True
            case "big":
                return "x" * 50_000, False
            case "env":
                return json.dumps(dict(os.environ)), False
            case "announce":
                self.send(LIST_CHANGED)
            case "slow":
                token = params.get("_meta", {}).get("progressToken")
                for step in range(int(arguments.get("steps", 100))):
                    told = {"progressToken": token, "progress": step + 1, "total": 100, "message": "working"}
                    self.send({"jsonrpc": "2.0", "method": "notifications/progress", "params": told})
                    time.sleep(0.1)
            case "hang":
                time.sleep(60)
            case "ask":
                return self.elicit(arguments), False
        return "echo " + json.dumps(arguments, sort_keys=True), False

    def elicit(self, params: Json) -> str:
        self.send({"jsonrpc": "2.0", "id": "ask-1", "method": "elicitation/create", "params": params})
        self.answered.wait(20)
        return json.dumps(self.answers["ask-1"], sort_keys=True)


def main(log: str, tools: str, *flags: str) -> None:
    speaker = Speaker(Path(log), Path(tools))
    speaker.note(f"start {os.getpid()}")
    sys.stderr.write("the test server speaks\n")
    sys.stderr.flush()
    for line in sys.stdin:
        if "--silent" not in flags:
            speaker.take(json.loads(line))
    speaker.note("end")


if __name__ == "__main__":
    main(*sys.argv[1:])
