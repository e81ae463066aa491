"""Files of lines that only grow, and that stay readable whatever interrupts the writing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

__all__ = ["append_lines", "numbered_lines", "private_file", "repair_last_line"]

_STEP = 1 << 16


def private_file(path: str, flags: int) -> int:
    """An `opener` for `open`: a new file belongs to its owner alone (mode 0600), since it holds people's texts.

    A file that exists keeps its mode.
    """
    return os.open(path, flags, 0o600)


def append_lines(file: IO[bytes], *lines: bytes) -> None:
    """Append lines and their ends, either all of them or nothing. The lines are not yet synced to the disk.

    Args:
        file: open in binary mode without a buffer.
        *lines: without their ends.

    Raises:
        OSError: the disk refuses the lines, for instance because it is full; the file is then as it was.
    """
    start = file.seek(0, os.SEEK_END)
    try:
        view = memoryview(b"".join(line + b"\n" for line in lines))
        while view:
            view = view[file.write(view) :]
    except OSError:
        file.truncate(start)  # half a line in the middle would make the file unreadable
        raise


def numbered_lines(path: Path, read: Callable[[bytes], object]) -> Iterator[tuple[int, bytes]]:
    """Each line's number, counted from 1, and the line without its end.

    A last line without its end is left out, unless `read` can read it: another process is writing the line, or a kill
    has torn it.

    Args:
        path: the file.
        read: reads a line, and raises ValueError if the line is torn.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.endswith(b"\n"):
                yield number, line[:-1]
            elif _can_be_read(line, read):
                yield number, line


def _can_be_read(line: bytes, read: Callable[[bytes], object]) -> bool:
    try:
        read(line)
    except (ValueError, RecursionError):
        return False
    return True


def repair_last_line(file: IO[bytes], read: Callable[[bytes], object]) -> int:
    """Repair a last line that lacks its end: a whole line gets its end, and a torn line is cut off.

    After a repair the file is synced to the disk.

    Args:
        file: open in binary mode without a buffer, for reading and writing.
        read: reads a line, and raises ValueError if the line is torn.

    Returns:
        The number of bytes that were cut off.
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
    if _can_be_read(last, read):
        file.seek(0, os.SEEK_END)
        file.write(b"\n")
        cut = 0
    else:
        file.truncate(size - len(last))
        cut = len(last)
    os.fsync(file.fileno())
    return cut
