"""A server that answers every request after the same time, and costs next to no processor time for it.

    python fixed_delay_server.py PORT_FILE DELAY_S

On the machine of the client that is measured, each millisecond of the server's would be one of the client's.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

BODY = json.dumps(
    {
        "model": "m",
        "choices": [{"message": {"role": "assistant", "content": "an answer"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5},
    }
).encode()
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(BODY), BODY)


class FixedDelay(asyncio.Protocol):
    """One connection: requests with a content-length, one after another."""

    def __init__(self, delay: float) -> None:
        self.delay, self.received = delay, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, end, body = self.received.partition(b"\r\n\r\n")
        if end and len(body) >= int(head.lower().partition(b"content-length:")[2].split(maxsplit=1)[0]):
            self.received = b""
            asyncio.get_running_loop().call_later(self.delay, self.transport.write, ANSWER)  # type: ignore[attr-defined]


async def main(port_file: Path, delay: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: FixedDelay(delay), "127.0.0.1", 0, backlog=1024)
    port_file.with_suffix(".part").write_text(str(server.sockets[0].getsockname()[1]))
    port_file.with_suffix(".part").rename(port_file)  # whole, or not there
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), float(sys.argv[2])))
