"""The folder of a student: whose student it holds, that the student is whole, and that one training writes it."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from filelock import FileLock, Timeout
from transformers import PreTrainedModel

from distill_helpers.models.adapters import merged_copy
from distill_helpers.models.text_models import TextClassifier
from distill_helpers.training.checkpoints import damaged_file, differences, hashes_of, read_record, write_atomically

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["finished_student", "locked", "move_finished", "refuse_other_models", "save_student"]

# The folder of an adapter, beside the whole student.
_ADAPTER = "adapter"
# The file that is written last. It says which run's result the folder holds, and what the files' hashes are.
_FINISHED = "finished-run.key"
_ANOTHER_WAY = "choose another output_dir, or pass resume=False, which trains anew and replaces it"
_WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.pth", "*.index.json", "config.json", "adapter_config.json")


@contextlib.contextmanager
def locked(output_dir: Path) -> Iterator[None]:
    """Keep other trainings out of a folder. The lock of a process that was killed does not count.

    Raises:
        RuntimeError: another training writes into the folder, with its process.
    """
    output_dir.mkdir(parents=True, exist_ok=True)
    lock, owner = FileLock(output_dir / ".training.lock"), output_dir / ".training.pid"
    try:
        lock.acquire(timeout=0)
    except Timeout:
        # Another file than the lock, which is emptied by everybody who tries to get it.
        process = owner.read_text(encoding="utf-8") if owner.is_file() else "unknown"
        raise RuntimeError(
            f"another training, process {process}, writes into {output_dir}; wait until it ends, or choose another"
            " output_dir"
        ) from None
    try:
        owner.write_text(str(os.getpid()), encoding="utf-8")
        yield
    finally:
        owner.unlink(missing_ok=True)
        Path(lock.lock_file).unlink(missing_ok=True)  # while it is held, so that nobody's newer lock is deleted
        lock.release()


def finished_student(
    output_dir: Path, run: dict[str, Any], student: TextClassifier
) -> tuple[PreTrainedModel, pd.DataFrame] | None:
    """The model and the history of this very run, read from its folder; None where the folder does not hold it.

    Args:
        output_dir: the folder.
        run: what the run depends on, from `checkpoints.describe_run`.
        student: the student as it was before its training.

    Raises:
        ValueError: the folder holds the result of this run, but a file has changed or is missing.
    """
    import pandas as pd

    record = read_record(output_dir / _FINISHED)
    if record is None or record.get("run") != run:
        return None
    hashes = record.get("files")
    wrong = damaged_file(output_dir, hashes) if hashes else f"{_FINISHED} does not name its files"
    if wrong is not None:
        raise ValueError(
            f"{output_dir} holds the finished student of this call, but {wrong}; pass resume=False to train the student"
            " anew, or restore the file"
        )
    warnings.warn(
        f"{output_dir} holds the finished student of this very call; the student is read back and not trained again"
        " (resume=False would train it again)",
        stacklevel=3,
    )
    history = pd.read_csv(output_dir / "history.csv")
    if isinstance(student.model, PreTrainedModel):
        model: Any = type(student.model).from_pretrained(output_dir, dtype=torch.float32, local_files_only=True)
        return model.to(student.model.device).eval(), history
    # An adapter of PEFT goes back into the base that the caller has.
    adapted: Any = student.model
    adapted.load_adapter(str(output_dir / _ADAPTER), adapted.active_adapter)
    return adapted.eval(), history


def save_student(model: Any, folder: Path) -> None:
    """Save a student so that the folder can be loaded alone.

    An adapter of PEFT is saved merged into its base, whose weights are nowhere else, and by itself in a folder below.
    """
    if not isinstance(model, PreTrainedModel):
        model.save_pretrained(folder / _ADAPTER)
        model = merged_copy(model)
    model.save_pretrained(folder)


def refuse_other_models(output_dir: Path, run: dict[str, Any]) -> None:
    """Raise ValueError if the folder holds a model that this run would replace, and say how that model differs."""
    finished = output_dir / _FINISHED
    if finished.is_file():
        record = read_record(finished)
        if record is None or not isinstance(record.get("run"), dict):
            raise ValueError(
                f"{output_dir} holds a finished student, but {_FINISHED} in it is damaged or of another version, so"
                f" that nobody can say whether it is the student of this call; {_ANOTHER_WAY}"
            )
        if record["run"] != run:
            raise ValueError(
                f"{output_dir} holds a finished student of another run, which differs in"
                f" {differences(record['run'], run)}; {_ANOTHER_WAY}"
            )
        return
    for pattern in _WEIGHTS:
        for path in sorted(output_dir.glob(pattern)):
            raise ValueError(
                f"{output_dir} holds {path.name}, of a model that no finished run of this function has left there;"
                f" {_ANOTHER_WAY}"
            )


def move_finished(assembly: Path, output_dir: Path, run: dict[str, Any]) -> None:
    """Move a complete student to its place, over the one that is there, and write down whose student it is.

    Args:
        assembly: a folder with all files of the student, on the same disk.
        output_dir: the student's place. Files of the student that a finished run has left there are deleted first, so
            that none of them is taken for one of its successor.
        run: what the run depends on, from `checkpoints.describe_run`.
    """
    before = read_record(output_dir / _FINISHED)
    (output_dir / _FINISHED).unlink(missing_ok=True)
    for name in before.get("files", ()) if before is not None else ():
        (output_dir / name).unlink(missing_ok=True)
    names = [path.relative_to(assembly).as_posix() for path in assembly.rglob("*") if path.is_file()]
    # The model card is for readers, who may edit it.
    hashes = hashes_of(assembly, (name for name in names if name != "README.md"))
    for name in names:
        (output_dir / name).parent.mkdir(parents=True, exist_ok=True)
        (assembly / name).replace(output_dir / name)
    write_atomically(output_dir / _FINISHED, {"run": run, "files": hashes})
