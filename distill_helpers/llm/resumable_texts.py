"""The texts that a language model has written so far, in a file that survives an interruption."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["WrittenBatches"]


class WrittenBatches:
    """Batches of texts by name. Each batch is added to a file when it is finished.

    Args:
        file: read if it exists. A last line that an interruption has cut off is removed. Its folder is made if it does
            not exist. None keeps nothing.
        settings: returns everything that the texts depend on. It is only called if there is a file.

    Raises:
        ValueError: the file was written with other settings.
    """

    def __init__(self, file: str | Path | None, settings: Callable[[], list[Any]]) -> None:
        self._file = None if file is None else Path(file)
        self._texts: dict[str, list[Any]] = {}
        self._key = ""
        if self._file is not None:
            self._key = hashlib.sha256(json.dumps(settings()).encode()).hexdigest()[:16]
            self._file.parent.mkdir(parents=True, exist_ok=True)  # now, not after the first batch has been written
            self._read(self._file)

    def read_or_write(self, name: str, write: Callable[[], list[Any]]) -> list[Any]:
        """The texts of a batch, or whatever `write` returns for each of them.

        If the file does not have the batch, `write` makes it, and it is added to the file.
        """
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
        complete = content[: content.rfind(b"\n") + 1]
        if len(complete) < len(content):  # the next batch must not continue a line that an interruption cut off
            file.write_bytes(complete)
        batches = [json.loads(line) for line in complete.decode().splitlines()]
        if any(batch["key"] != self._key for batch in batches):
            raise ValueError(f"{file} was written with another model, examples or settings; choose another file")
        self._texts = {batch["batch"]: batch["texts"] for batch in batches}
