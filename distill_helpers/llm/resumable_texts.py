"""What a language model has written so far, in a file that an interruption can't spoil."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["WrittenBatches"]


class WrittenBatches:
    """Batches of texts by name, each added to a file when it is finished.

    Args:
        file: read if it exists, a last line that an interruption cut off excepted; None keeps nothing.
        settings: returns everything that the texts depend on; called only where there is a file.

    Raises:
        ValueError: a file that other settings wrote.
    """

    def __init__(self, file: str | Path | None, settings: Callable[[], list[Any]]) -> None:
        self._file = None if file is None else Path(file)
        self._texts: dict[str, list[str]] = {}
        self._key = ""
        if self._file is not None:
            self._key = hashlib.sha256(json.dumps(settings()).encode()).hexdigest()[:16]
            self._read(self._file)

    def read_or_write(self, name: str, write: Callable[[], list[str]]) -> list[str]:
        """The texts of a batch: from the file, or what `write` returns, which is added to it."""
        if name not in self._texts:
            self._texts[name] = write()
            if self._file is not None:
                with self._file.open("a", encoding="utf-8") as out:
                    out.write(json.dumps({"key": self._key, "batch": name, "texts": self._texts[name]}) + "\n")
        return self._texts[name]

    def _read(self, file: Path) -> None:
        if not file.exists():
            return
        content = file.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):  # a batch that an interruption cut off; what is added must not join it
            file.write_bytes(whole)
        batches = [json.loads(line) for line in whole.decode().splitlines()]
        if any(batch["key"] != self._key for batch in batches):
            raise ValueError(f"{file} was written with another model, examples or settings; give another file")
        self._texts = {batch["batch"]: batch["texts"] for batch in batches}
