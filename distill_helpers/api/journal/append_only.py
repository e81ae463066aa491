"""Files that only grow, a line at a time, and stay readable whatever interrupts the writing."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import IO

__all__ = ["repair_last_line", "write_lines"]

_STEP = 1 << 16


def write_lines(file: IO[bytes], *lines: bytes) -> None:
    """Append lines, each with its end, whole or not at all; they are not synced to the disk yet.

    Args:
        file: open in binary mode without a buffer.
        *lines: without their ends.

    Raises:
        OSError: the disk does not take them, say because it is full; the file is then as it was.
    """
    start = file.seek(0, os.SEEK_END)
    try:
        view = memoryview(b"".join(line + b"\n" for line in lines))
        while view:
            view = view[file.write(view) :]
    except OSError:
        file.truncate(start)  # half a line in the middle would make the file unreadable
        raise


def repair_last_line(file: IO[bytes], read: Callable[[bytes], object]) -> int:
    """End a whole last line that lacks its end, and cut off one that is torn. Synced where something was done.

    Args:
        file: open in binary mode without a buffer, for reading and writing.
        read: a line's reader, which raises ValueError for a line that is not whole.

    Returns:
        Bytes cut off.
    """
    size = file.seek(0, os.SEEK_END)
    start, tail = size, b""
    while start > 0 and b"\n" not in tail:
        step = min(start, _STEP)
        start -= step
        file.seek(start)
        tail = file.read(step) + tail
    last = tail[tail.rfind(b"\n") + 1 :]
    if not last:
        return 0
    try:
        read(last)
    except ValueError:
        file.truncate(size - len(last))
        cut = len(last)
    else:
        file.seek(0, os.SEEK_END)
        file.write(b"\n")
        cut = 0
    os.fsync(file.fileno())
    return cut
