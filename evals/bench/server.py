"""A server that speaks OpenAI's streaming chat form and answers at once: what is left to time is the client.

It answers each request with a call of the tool `noop`, with a number that counts up, and after `steps` of them with a
sentence. GET /times gives the arrival of each request (seconds, time.time) and forgets them.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

arrivals: list[float] = []
steps = 0


def chunk(delta: dict[str, object], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    body = {"id": "c", "object": "chat.completion.chunk", "model": "bench", "choices": [choice]}
    return f"data: {json.dumps(body)}\n\n".encode()


def reply(number: int) -> bytes:
    """The stream of the number-th reply, from 1."""
    end = b"data: [DONE]\n\n"
    if number > steps:
        return chunk({"role": "assistant", "content": "done"}) + chunk({}, "stop") + end
    function = {"name": "noop", "arguments": json.dumps({"number": number})}
    call = {"index": 0, "id": f"call_{number}", "type": "function", "function": function}
    said = chunk({"role": "assistant", "content": "I call the tool once more and look."})
    return said + chunk({"tool_calls": [call]}) + chunk({}, "tool_calls") + end


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            arrived = time.time()
            lower = head.lower()
            if b"content-length:" in lower:
                await reader.readexactly(int(lower.split(b"content-length:")[1].split(b"\r\n")[0]))
            if head.startswith(b"GET"):
                body, kind = json.dumps(arrivals).encode(), b"application/json"
                arrivals.clear()
            else:
                arrivals.append(arrived)
                body, kind = reply(len(arrivals)), b"text/event-stream"
            length = str(len(body)).encode()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: " + kind + b"\r\ncontent-length: " + length + b"\r\n\r\n")
            writer.write(body)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionResetError):
        pass
    finally:
        writer.close()


async def main() -> None:
    global steps
    steps = int(sys.argv[1])
    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 26)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
