"""The baseline: the least code that streams from an OpenAI-compatible server and resends a growing history.

Run as `python -P -m evals.bench.bare_httpx URL`; it stops when the server no longer asks for the tool.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import httpx


async def main(url: str) -> None:
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "You are a helpful agent."},
        {"role": "user", "content": "go on until you are done"},
    ]
    parameters = {"type": "object", "properties": {"number": {"type": "integer"}}, "required": ["number"]}
    tools = [{"type": "function", "function": {"name": "noop", "description": "Nothing.", "parameters": parameters}}]
    async with httpx.AsyncClient(timeout=60) as client:
        while True:
            body = {"model": "bench", "messages": messages, "tools": tools, "stream": True}
            content = ""
            calls: list[dict[str, Any]] = []
            async with client.stream("POST", f"{url}/chat/completions", json=body) as response:
                async for line in response.aiter_lines():
                    if not line.startswith("data: ") or line == "data: [DONE]":
                        continue
                    delta = json.loads(line[6:])["choices"][0]["delta"]
                    content += delta.get("content") or ""
                    calls += delta.get("tool_calls") or []
            messages.append({"role": "assistant", "content": content, "tool_calls": calls})
            if not calls:
                return
            number = json.loads(calls[0]["function"]["arguments"])["number"]
            messages.append({"role": "tool", "tool_call_id": calls[0]["id"], "content": f"the number is {number}"})


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
