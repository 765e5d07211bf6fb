"""Server-sent events, from bytes to the data of each event (https://html.spec.whatwg.org, section 9.2.6)."""

from __future__ import annotations

import re


class EventDecoder:
    """Events from bytes, in whatever pieces they come.

    Only `data` matters here: servers repeat an event's name inside it.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._after_cr = False

    def feed(self, chunk: bytes) -> list[str]:
        """The data of each event that this chunk completes. An event that is never completed is dropped."""
        if self._after_cr:
            chunk = chunk.removeprefix(b"\n")
        self._after_cr = chunk.endswith(b"\r")
        *lines, self._rest = re.split(rb"\r\n|\n|\r", self._rest + chunk)
        found = []
        for line in lines:
            if line:
                name, _, entry = line.removeprefix(b"\xef\xbb\xbf").partition(b":")
                if name == b"data":
                    self._data.append(entry.removeprefix(b" "))
            elif self._data:
                found.append(b"\n".join(self._data).decode("utf-8", "replace"))
                self._data = []
        return found
