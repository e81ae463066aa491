"""A teacher's targets for every token of a data set, computed once and read from disk as they are needed.

The files follow `targets.cache`: one folder for each key, shards with a checksum, and an interrupted run that goes on
after its last complete shard. The shards are memory-mapped, so that a batch reads its own rows and no others.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import reduce
from itertools import accumulate, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from torch import Tensor
from tqdm.auto import tqdm

from distill_helpers.llm.completion_batches import CompletionCollator
from distill_helpers.llm.completion_dataset import CompletionDataset, check_map_style
from distill_helpers.llm.given_models import language_models
from distill_helpers.llm.output_heads import head_width, last_hidden_states, output_head
from distill_helpers.llm.seeds import derived_seed
from distill_helpers.llm.target_kinds import check_kind
from distill_helpers.llm.token_level import completion_hidden_states
from distill_helpers.llm.token_targets import TargetSettings, TokenTargets
from distill_helpers.models.batching import (
    OTHER_TOKENIZER,
    check_batch_size,
    check_vocabulary,
    evaluation_mode,
    to_device,
)
from distill_helpers.models.loading import pick_device
from distill_helpers.models.text_models import LanguageModel
from distill_helpers.targets.cache import cache_key, read_or_compute, tensor_bytes

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["TokenTargetStore", "precompute_token_targets"]

#: The largest size of a shard in bytes, which is the most that an interruption can cost. A single sequence may have
#: more.
SHARD_BYTES = 2**26
#: The number of tokens whose logits are computed at a time.
_CHUNK = 128


class TokenTargetStore:
    """Targets on disk, by sequence: `store[i]` are the targets of the i-th sequence's tokens to learn.

    Args:
        files: the shards, in order.
        n_tokens: the number of tokens to learn in each sequence.
        first: the first sequence of each shard.
        empty: targets of no token, which say the kind and what does not depend on the token.
        checksums: of each sequence's rows, from `row_checksum`, when the shards were found whole. A sequence whose rows
            have changed on the disk since then is refused when it is read.
    """

    def __init__(
        self, files: list[Path], n_tokens: list[int], first: list[int], empty: TokenTargets, checksums: list[int]
    ) -> None:
        self.files, self.n_tokens, self._first, self._empty = files, n_tokens, first, empty
        self._checksums = checksums
        self._places: list[tuple[int, int]] = []  # shard and first row of each sequence
        for shard, (start, stop) in enumerate(zip(first, [*first[1:], len(n_tokens)], strict=True)):
            rows = accumulate(n_tokens[start:stop], initial=0)
            self._places += [(shard, row) for row, _ in zip(rows, range(start, stop), strict=False)]
        self._open: dict[int, Any] = {}

    @property
    def n_bytes(self) -> int:
        """The size on disk, for all tokens."""
        return sum(file.stat().st_size for file in self.files)

    @property
    def bytes_per_token(self) -> float:
        """The size on disk for one token, with its part of the files' headers."""
        return self.n_bytes / sum(self.n_tokens)

    def __len__(self) -> int:
        return len(self.n_tokens)

    def __getitem__(self, index: int) -> TokenTargets:
        shard, row = self._places[index]
        if shard not in self._open:
            self._open[shard] = safe_open(self.files[shard], framework="pt")
        file = self._open[shard]
        rows = slice(row, row + self.n_tokens[index])
        tensors = {name: file.get_slice(name)[rows] for name in file.keys()}  # noqa: SIM118 - not a mapping
        if row_checksum(tensors) != self._checksums[index]:
            raise ValueError(
                f"the targets of sequence {index} in {self.files[shard]} have changed since they were opened; call"
                " precompute_token_targets again, which computes damaged files anew"
            )
        return replace(self._empty, **tensors)

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_open": {}}  # each worker of a DataLoader opens the files for itself

    def __repr__(self) -> str:
        kind = type(self._empty).__name__
        return (
            f"TokenTargetStore({kind} of {len(self):,} sequences, {sum(self.n_tokens):,} tokens,"
            f" {self.bytes_per_token:,.0f} bytes each)"
        )


def row_checksum(tensors: Mapping[str, Tensor]) -> int:
    """The CRC-32 of some rows of targets. It notices flipped bytes, and costs less than to read them from the disk."""
    return reduce(lambda crc, name: zlib.crc32(tensor_bytes(tensors[name]), crc), sorted(tensors), 0)


def precompute_token_targets(
    teacher: LanguageModel | PreTrainedModel,
    dataset: CompletionDataset,
    kind: str = "top_k",
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    cache_dir: str | Path,
    temperature: float = 1.0,
    storage_dtype: torch.dtype = torch.float16,
    vocab_size: int | None = None,
    batch_size: int = 8,
    device: str | torch.device | None = None,
    seed: int = 0,
    progress: bool = True,
    **options: Any,
) -> TokenTargetStore:
    """Let the teacher read every sequence once, and keep what it says of each token that counts.

    With a vocabulary of 49,152, a width of 576 and the defaults, a token takes 98,304 bytes as "dense", 1,152 as
    "hidden", 388 as "top_k" and 204 as "sampled".

    Args:
        teacher: a `LanguageModel` with the tokenizer of the data set, or a bare model with its `tokenizer`.
        dataset: the sequences.
        kind: "hidden", "top_k", "sampled" or "dense", a key of `target_kinds.KINDS`.
        tokenizer: the teacher's own. Needed with a bare model, refused with a `LanguageModel`.
        cache_dir: the folder in which the folders of all keys lie.
        temperature: of the student's training. "hidden" and "dense" are good for every temperature.
        storage_dtype: the precision in which hidden states, logits and log-probabilities are kept.
        vocab_size: the number of rows of the teacher's head that are tokens; default all.
        batch_size: the number of sequences at a time. It changes the result by no more than rounding.
        device: the teacher is moved there; default the best device there is.
        seed: of the draws of "sampled".
        progress: show a progress bar.
        **options: of the kind: `k` (default 64) for "top_k", see `TopKTargets.of`; `draws` (default 50) for "sampled",
            see `SampledTargets.of`.

    Raises:
        TypeError: the kind has no such option, the teacher is not a causal language model, or the data set is a stream.
        ValueError: the kind is unknown, the tokenizer is another one or missing, a number is out of range, or the
            teacher's hidden states are not finite (with the rows of the sequences).
    """
    teacher = language_models(teacher, tokenizer=tokenizer)[0]
    check_map_style(dataset)
    kind_of_targets, options = check_kind(kind, options)
    check_batch_size(batch_size)
    check_vocabulary(teacher.tokenizer, dataset.tokenizer, OTHER_TOKENIZER)
    teacher.model.to(pick_device(device))  # type: ignore[arg-type]
    generator = torch.Generator(pick_device(device))
    settings = TargetSettings(temperature, storage_dtype, vocab_size, options, generator)
    head = output_head(teacher.model)

    @torch.no_grad()
    def targets_of(hidden: Tensor) -> TokenTargets:
        return kind_of_targets.compute(hidden, head, settings)

    # A trial with one token lets a wrong setting fail here, and gives the shapes.
    trial = targets_of(torch.zeros(1, head_width(head), dtype=teacher.model.dtype, device=teacher.model.device))
    n_tokens = dataset.n_tokens
    first = _shards(n_tokens, max(1, SHARD_BYTES // trial.bytes_per_token))
    sequences = json.dumps([dataset.token_ids, dataset.prompt_lengths, dataset.learnt])
    key = cache_key(
        teacher,
        [],
        0,
        teacher.model.dtype,
        sequences=hashlib.sha256(sequences.encode()).hexdigest(),
        kind=[kind, options, temperature, str(storage_dtype), vocab_size, seed, SHARD_BYTES],
        padding="right",  # earlier versions read with the tokenizer's padding, which moved learnt positions
    )
    folder = Path(cache_dir) / key
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{number:05d}.safetensors" for number in range(len(first))]
    checksums: list[int] = []
    with tqdm(total=len(dataset), desc="Teacher targets", unit="seq", disable=not progress) as bar:
        for number, (file, start) in enumerate(zip(files, first, strict=True)):
            stop = [*first[1:], len(dataset)][number]
            n = sum(n_tokens[start:stop])

            def compute(number: int = number, rows: range = range(start, stop)) -> dict[str, Tensor]:
                generator.manual_seed(derived_seed(seed, number))
                parts = [
                    targets_of(hidden) for hidden in _chunks(_hidden_states(teacher, dataset, rows, batch_size), _CHUNK)
                ]
                return parts[0].followed_by(parts[1:]).to("cpu").tensors

            shapes = {name: (n, *tensor.shape[1:]) for name, tensor in trial.tensors.items()}
            tensors = read_or_compute(file, shapes, compute)
            for begin, end in pairwise(accumulate(n_tokens[start:stop], initial=0)):
                checksums.append(row_checksum({name: tensor[begin:end] for name, tensor in tensors.items()}))
            bar.update(stop - start)
    return TokenTargetStore(files, n_tokens, first, trial[:0].to("cpu"), checksums)


def _shards(n_tokens: list[int], largest: int) -> list[int]:
    """The first sequence of each shard. A shard has at most `largest` tokens, or is a single sequence."""
    first, held = [0], 0
    for row, n in enumerate(n_tokens):
        if held and held + n > largest:
            first.append(row)
            held = 0
        held += n
    return first


def _chunks(parts: Iterator[Tensor], n_rows: int) -> Iterator[Tensor]:
    """The same rows, `n_rows` at a time. Targets that are drawn must not depend on how the parts were cut."""
    held: list[Tensor] = []
    for part in parts:
        rows = torch.cat([*held, part])
        n_full = len(rows) // n_rows * n_rows
        yield from rows[:n_full].split(n_rows) if n_full else ()
        held = [rows[n_full:]]
    if len(held[0]):
        yield held[0]


@torch.no_grad()
def _hidden_states(
    teacher: LanguageModel, dataset: CompletionDataset, rows: range, batch_size: int
) -> Iterator[Tensor]:
    """The teacher's hidden states for the tokens to learn of these sequences, in order, one batch at a time."""
    collate = CompletionCollator(dataset.tokenizer)
    with evaluation_mode(teacher.model):
        for start in range(rows.start, rows.stop, batch_size):
            stop = min(start + batch_size, rows.stop)
            batch = to_device(collate([dataset.sequence(row) for row in range(start, stop)]), teacher.model.device)
            labels = batch.pop("labels")
            hidden = completion_hidden_states(last_hidden_states(teacher.model, **batch), labels)
            if not hidden.isfinite().all():
                raise ValueError(
                    f"the teacher's hidden states of the sequences {start} to {stop - 1} are not finite; if the teacher"
                    " computes in half precision, try float32"
                )
            yield hidden
