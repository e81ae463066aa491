"""A teacher's targets of every token of a data set, computed once and read from disk as they are needed.

The files are those of `target_cache`: a folder for each key, shards with a checksum, an interrupted run goes on behind
its last whole shard. They are memory-mapped: a batch reads its own rows and no others.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from tqdm.auto import tqdm

from distill_helpers.llm.completion_dataset import CompletionCollator, CompletionDataset
from distill_helpers.llm.output_heads import last_hidden_states, logits_of, output_head
from distill_helpers.llm.token_level import completion_hidden_states
from distill_helpers.llm.token_targets import DenseTargets, HiddenTargets, SampledTargets, TokenTargets, TopKTargets
from distill_helpers.models.batching import OTHER_TOKENIZER, check_vocabulary, evaluation_mode
from distill_helpers.models.loading import LanguageModel, pick_device
from distill_helpers.targets.cache import cache_key, read_or_compute

__all__ = ["KINDS", "TokenTargetStore", "precompute_token_targets"]

#: What can be kept of a token.
KINDS: dict[str, type[TokenTargets]] = {
    "hidden": HiddenTargets,
    "top_k": TopKTargets,
    "sampled": SampledTargets,
    "dense": DenseTargets,
}
#: Bytes of one file at most, unless a single sequence has more: what an interruption can cost.
SHARD_BYTES = 2**26
#: Tokens whose logits are made at a time.
_CHUNK = 128


class TokenTargetStore:
    """Targets on disk, by sequence: `store[i]` are those of the i-th sequence's tokens to learn.

    Args:
        files: the shards, in order.
        n_tokens: tokens to learn in each sequence.
        first: the first sequence of each shard.
        make: makes targets of their tensors.
    """

    def __init__(
        self, files: list[Path], n_tokens: list[int], first: list[int], make: Callable[..., TokenTargets]
    ) -> None:
        self.files, self.n_tokens, self._first, self._make = files, n_tokens, first, make
        self._where: list[tuple[int, int]] = []
        for shard, (start, stop) in enumerate(zip(first, [*first[1:], len(n_tokens)], strict=True)):
            rows = accumulate(n_tokens[start:stop], initial=0)
            self._where += [(shard, row) for row, _ in zip(rows, range(start, stop), strict=False)]
        self._open: dict[int, Any] = {}

    @property
    def n_bytes(self) -> int:
        """On disk, of all tokens."""
        return sum(file.stat().st_size for file in self.files)

    @property
    def bytes_per_token(self) -> float:
        """On disk, the files' heads included."""
        return self.n_bytes / sum(self.n_tokens)

    def __len__(self) -> int:
        return len(self.n_tokens)

    def __getitem__(self, index: int) -> TokenTargets:
        shard, row = self._where[index]
        if shard not in self._open:
            self._open[shard] = safe_open(self.files[shard], framework="pt")
        file = self._open[shard]
        rows = slice(row, row + self.n_tokens[index])
        return self._make(**{name: file.get_slice(name)[rows] for name in file.keys()})  # noqa: SIM118 - not a mapping

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_open": {}}  # each worker of a DataLoader opens the files for itself


def precompute_token_targets(
    teacher: LanguageModel,
    dataset: CompletionDataset,
    kind: str = "top_k",
    *,
    cache_dir: str | Path,
    k: int = 64,
    draws: int = 50,
    temperature: float = 1.0,
    storage: torch.dtype = torch.float16,
    vocabulary_size: int | None = None,
    batch_size: int = 8,
    device: str | torch.device | None = None,
    seed: int = 0,
    progress: bool = True,
) -> TokenTargetStore:
    """Read every sequence with the teacher once, and keep what it says of each token that counts.

    Bytes a token, at a vocabulary of 49,152, a width of 576 and the defaults: dense 98,304, hidden 1,152, top-k 388,
    sampled 204.

    Args:
        teacher: its tokenizer must be the data set's.
        kind: a key of `KINDS`; see `token_targets`.
        cache_dir: where the folders of all keys lie.
        k, draws, temperature: see `TopKTargets.of` and `SampledTargets.of`.
        storage: dtype of hidden states, logits and log-probabilities.
        vocabulary_size: rows of the head that are tokens; default all.
        batch_size: sequences at a time; no influence on the result beyond rounding.
        device: default the best there is; the teacher is moved there.
        seed: of the draws.
        progress: show a progress bar.

    Raises:
        ValueError: an unknown kind, another tokenizer, numbers out of range, a teacher whose hidden states are not
            finite (with the row of the sequence).
    """
    if kind not in KINDS:
        raise ValueError(f"unknown kind {kind!r}, choose one of {list(KINDS)}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    check_vocabulary(teacher.tokenizer, dataset.tokenizer, OTHER_TOKENIZER)
    teacher.model.to(pick_device(device))  # type: ignore[arg-type]
    targets_of, shapes = _maker(teacher, kind, k, draws, temperature, storage, vocabulary_size)
    generator = torch.Generator(pick_device(device))

    n_tokens = dataset.n_tokens
    bytes_per_token = sum(tensor.nbytes for tensor in shapes.values())
    first = _shards(n_tokens, max(1, SHARD_BYTES // bytes_per_token))
    sequences = json.dumps([dataset.token_ids, dataset.prompt_lengths])
    key = cache_key(
        *teacher,
        [],
        0,
        teacher.model.dtype,
        sequences=hashlib.sha256(sequences.encode()).hexdigest(),
        kind=[kind, k, draws, temperature, str(storage), vocabulary_size, seed, SHARD_BYTES],
    )
    folder = Path(cache_dir) / key
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{number:05d}.safetensors" for number in range(len(first))]
    with tqdm(total=len(dataset), desc="Teacher targets", unit="seq", disable=not progress) as bar:
        for number, (file, start) in enumerate(zip(files, first, strict=True)):
            stop = [*first[1:], len(dataset)][number]
            n = sum(n_tokens[start:stop])

            def compute(number: int = number, rows: range = range(start, stop)) -> dict[str, Tensor]:
                generator.manual_seed(seed * 1_000_003 + number)
                parts = [
                    targets_of(hidden[i : i + _CHUNK], generator)
                    for hidden in _hidden(teacher, dataset, rows, batch_size)
                    for i in range(0, len(hidden), _CHUNK)
                ]
                return {name: tensor.cpu() for name, tensor in parts[0].followed_by(parts[1:]).tensors.items()}

            read_or_compute(file, {name: (n, *tensor.shape[1:]) for name, tensor in shapes.items()}, compute)
            bar.update(stop - start)
    options = {"temperature": float(temperature)} if kind in ("top_k", "sampled") else {}

    return TokenTargetStore(files, n_tokens, first, partial(KINDS[kind], **options))


def _maker(
    teacher: LanguageModel,
    kind: str,
    k: int,
    draws: int,
    temperature: float,
    storage: torch.dtype,
    vocabulary_size: int | None,
) -> tuple[Callable[[Tensor, torch.Generator], TokenTargets], dict[str, Tensor]]:
    """What makes targets of hidden states (tokens, width), and tensors of the shapes and dtypes of a token."""
    head = output_head(teacher.model)

    @torch.no_grad()
    def targets_of(hidden: Tensor, generator: torch.Generator) -> TokenTargets:
        if kind == "hidden":
            return HiddenTargets(hidden.to(storage))
        logits = logits_of(head, hidden)[:, :vocabulary_size]
        if kind == "top_k":
            return TopKTargets.of(logits, k, temperature, dtype=storage)
        if kind == "sampled":
            return SampledTargets.of(logits, draws, temperature, generator=generator)
        return DenseTargets.of(logits, dtype=storage)

    # A trial on one token makes a wrong setting fail here, and gives the shapes.
    device, width = teacher.model.device, teacher.model.config.get_text_config().hidden_size
    trial = targets_of(torch.zeros(1, width, dtype=teacher.model.dtype, device=device), torch.Generator(device))
    return targets_of, trial.tensors


def _shards(n_tokens: list[int], most: int) -> list[int]:
    """The first sequence of each shard of at most so many tokens, or of one sequence."""
    first, held = [0], 0
    for row, n in enumerate(n_tokens):
        if held and held + n > most:
            first.append(row)
            held = 0
        held += n
    return first


@torch.no_grad()
def _hidden(teacher: LanguageModel, dataset: CompletionDataset, rows: range, batch_size: int) -> Iterator[Tensor]:
    """The hidden states of these sequences' tokens to learn, in their order, some sequences at a time."""
    collate = CompletionCollator(dataset.tokenizer)
    with evaluation_mode(teacher.model):
        for start in range(rows.start, rows.stop, batch_size):
            own = range(start, min(start + batch_size, rows.stop))
            batch = {
                name: tensor.to(teacher.model.device)
                for name, tensor in collate([dataset.sequence(row) for row in own]).items()
                if isinstance(tensor, Tensor)
            }
            labels = batch.pop("labels")
            hidden = completion_hidden_states(last_hidden_states(teacher.model, **batch), labels)
            if not hidden.isfinite().all():
                raise ValueError(
                    f"the teacher's hidden states of the sequences {own.start} to {own.stop - 1} are not finite; in"
                    " half precision try float32"
                )
            yield hidden
