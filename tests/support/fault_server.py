"""An HTTP server that misbehaves as providers do: real sockets, a process of its own.

    python fault_server.py PORT_FILE LOG_FILE [DELAY_S]

It speaks just enough of both dialects. What it does is written in the text that it is asked about, as `[fault N]`: the
first N requests about this text meet the fault, later ones get an answer; without N every request meets it. `written`
makes texts that say in which words the server answers or refuses. It appends
a line to LOG_FILE when a request comes and when its answer has been sent: `asked TEXT`, `answered TEXT`.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import socket
import struct
import sys
from collections import Counter
from pathlib import Path

SEEN: Counter[str] = Counter()


def openai_answer(text: str, content: str | None = None, reason: str = "stop", **message: object) -> dict:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "faulty-1",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": f"answer to {text}" if content is None else content}
                | message,
                "finish_reason": reason,
            }
        ],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    }


def anthropic_answer(text: str, content: str | None = None, reason: str = "end_turn", **_: object) -> dict:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "faulty-1",
        "content": [{"type": "text", "text": f"answer to {text}" if content is None else content}],
        "stop_reason": reason,
        "stop_sequence": None,
        "usage": {"input_tokens": 10, "output_tokens": 5},
    }


ERRORS = {
    "429": (429, {}),
    "429 retry-after": (429, {"retry-after": "1"}),
    "500": (500, {}),
    "503": (503, {}),
    "400": (400, {}),
    "401": (401, {}),
    "402": (402, {}),
    "403": (403, {}),
    "404": (404, {}),
}


def written(fault: str, fields: object) -> str:
    """A text that is answered with these fields ("answer"), or refused with this body ("refuse").

    The JSON is encoded: a word that a text holds is left out of a server's reason.
    """
    return f"[{fault}] {base64.b64encode(json.dumps(fields).encode()).decode()}"


def response(status: int, body: bytes, headers: dict[str, str] | None = None) -> bytes:
    head = {"content-type": "application/json", "content-length": str(len(body))} | (headers or {})
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    return f"HTTP/1.1 {status} X\r\n{lines}\r\n".encode() + body


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, log: Path, delay: float) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(re.search(rb"content-length: (\d+)", head.lower())[1])  # type: ignore[index]
            body = json.loads(await reader.readexactly(length))
            text = body["messages"][-1]["content"]
            write_line(log, f"asked {text}")
            if not await answer(writer, text, anthropic=b"/v1/messages" in head.split(b"\r\n")[0], delay=delay):
                return
            write_line(log, f"answered {text}")
    except (asyncio.IncompleteReadError, ConnectionError):
        pass  # the client has gone, as a killed one does
    finally:
        writer.close()


def write_line(log: Path, line: str) -> None:
    if log.name != "null":  # /dev/null: nobody reads it, and opening it would cost time
        with log.open("a") as file:
            file.write(line + "\n")


def faulty(fault: str, text: str, *, anthropic: bool) -> bytes:
    """A response that is sent whole."""
    make = anthropic_answer if anthropic else openai_answer
    if fault in ERRORS:
        status, headers = ERRORS[fault]
        error = {"error": {"message": f"could not answer {text!r}", "type": "faulty", "code": "faulty"}}
        return response(status, json.dumps(error).encode(), headers)
    if fault in ("refuse", "answer"):
        fields = json.loads(base64.b64decode(text.rpartition("] ")[2]))
        return (
            response(400, json.dumps(fields).encode())
            if fault == "refuse"
            else response(200, json.dumps(make(text) | fields).encode())
        )
    refusal = {"reason": "refusal"} if anthropic else {"refusal": "I can't."}
    bodies = {
        "malformed": '{"choices": [{"mess',
        "another shape": '{"choices": []}',
        "empty": json.dumps(make(text, content="")),
        "truncated": json.dumps(make(text, content="answer to", reason="max_tokens" if anthropic else "length")),
        "refused": json.dumps(make(text, content="", **refusal)),
    }
    return response(200, bodies[fault].encode())


async def answer(writer: asyncio.StreamWriter, text: str, *, anthropic: bool, delay: float) -> bool:
    """Answer a request; False when the connection is to end."""
    SEEN[text] += 1
    fault, times = "", 0
    if match := re.search(r"\[(.+?)(?: (\d+) times)?\]", text):
        fault, times = match[1], int(match[2] or 10**9)
    if fault not in ERRORS:  # no server thinks long before it refuses
        await asyncio.sleep(delay)
    good = response(200, json.dumps((anthropic_answer if anthropic else openai_answer)(text)).encode())
    stays = True
    if not fault or SEEN[text] > times:
        writer.write(good)
    elif fault == "reset":
        linger = struct.pack("ii", 1, 0)  # closing sends RST instead of FIN
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()
        return False
    elif fault == "half an answer":
        writer.write(good[:-20])
        stays = False
    elif fault == "time-out":
        await asyncio.sleep(30)
        stays = False
    elif fault == "slow":
        for byte in good:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.001)
    else:
        writer.write(faulty(fault, text, anthropic=anthropic))
    await writer.drain()
    return stays


async def main(port_file: Path, log: Path, delay: float) -> None:
    log.touch()
    server = await asyncio.start_server(lambda r, w: serve(r, w, log, delay), "127.0.0.1", 0, backlog=1024)
    port_file.with_suffix(".part").write_text(str(server.sockets[0].getsockname()[1]))
    port_file.with_suffix(".part").rename(port_file)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]) if len(sys.argv) > 3 else 0.0))
