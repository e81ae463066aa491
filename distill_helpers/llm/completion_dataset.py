"""Prompts and completions for the training of a causal language model. Only the completion counts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from torch.utils.data import Dataset

from distill_helpers.data.labelled_texts import IGNORE_INDEX, check_texts
from distill_helpers.llm.chat_messages import conversation_tokens
from distill_helpers.llm.dataset_rows import MESSAGES, PAIRS, check_split, columns_of, texts_of
from distill_helpers.llm.text_borders import split_token_ids, text_token_ids, with_end
from distill_helpers.llm.token_targets import TokenTargets

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["CompletionDataset", "check_map_style"]


class SequenceTargets(Protocol):
    """What a teacher says of each sequence of a data set. A `TokenTargetStore` is an example."""

    n_tokens: list[int]

    def __getitem__(self, index: int, /) -> TokenTargets: ...


class CompletionDataset(Dataset):
    """Sequences of tokens. The first tokens of each are its prompt, which the student reads but does not learn.

    Args:
        token_ids: prompt and completion of each sequence, one after the other.
        prompt_lengths: the number of tokens in the prompt of each sequence. With 0 the whole sequence is learnt except
            for its first token, which nothing predicts.
        tokenizer: the student's own.
        learnt: for each sequence, whether each of its tokens is learnt, as in a conversation of several turns. Default:
            every token after the prompt.
        teacher_targets: what a teacher says of these sequences, from `precompute_token_targets`.

    Raises:
        ValueError: there is no sequence, a sequence has no token to learn (with its row), or the targets belong to
            other sequences.

    Example:
        >>> from distill_helpers.llm import CompletionDataset
        >>> tokenizer = dh.load_course_model("help-desk-student", device="cpu").tokenizer
        >>> data = CompletionDataset([[5, 6, 7, 8], [5, 9]], [2, 1], tokenizer)
        >>> data
        CompletionDataset(2 sequences, 3 tokens to learn)
        >>> data[0]
        {'input_ids': [5, 6, 7, 8], 'labels': [-100, -100, 7, 8]}
    """

    def __init__(
        self,
        token_ids: Sequence[Sequence[int]],
        prompt_lengths: Sequence[int],
        tokenizer: PreTrainedTokenizerBase,
        *,
        learnt: Sequence[Sequence[bool]] | None = None,
        teacher_targets: SequenceTargets | None = None,
    ) -> None:
        if not token_ids or len(token_ids) != len(prompt_lengths):
            raise ValueError(
                "there must be sequences, and a prompt length for each, got"
                f" {len(token_ids)} sequences and {len(prompt_lengths)} lengths"
            )
        for row, (ids, prompt) in enumerate(zip(token_ids, prompt_lengths, strict=True)):
            if not max(prompt, 1) < len(ids):
                raise ValueError(
                    f"row {row} has no completion: {prompt} of its {len(ids)} tokens are the prompt; shorten the"
                    " prompt, raise max_length, or leave the row out"
                )
        self.token_ids = [list(ids) for ids in token_ids]
        self.prompt_lengths = list(prompt_lengths)
        self.learnt = None if learnt is None else [list(flags) for flags in learnt]
        if self.learnt is not None:
            _check_learnt(self.learnt, self.token_ids)
        self.tokenizer = tokenizer
        if teacher_targets is not None and teacher_targets.n_tokens != self.n_tokens:
            raise ValueError(
                f"teacher_targets belong to sequences with {sum(teacher_targets.n_tokens)} tokens to learn, but this"
                f" dataset has {sum(self.n_tokens)}; compute them for this dataset"
            )
        self.teacher_targets = teacher_targets

    @classmethod
    def from_pairs(
        cls,
        prompts: Sequence[str],
        completions: Sequence[str],
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_length: int = 512,
        end: bool = True,
        finished: Sequence[bool] | None = None,
        keep_cut: bool = True,
    ) -> CompletionDataset:
        """Prompts and completions.

        The tokens of both decode to the joined text. The prompt has the tokens that it has when it is continued, with
        one beginning of text: a prompt that a chat template rendered gets no second one.

        Args:
            prompts: as the model is to see them, with the markup of a chat template if there is one.
            completions: begin each with a blank if one separates it from its prompt. The result of
                `teacher_completions` says which of its texts are finished; other sequences of texts count as finished.
            max_length: of prompt and completion together, in tokens. What is longer is cut at the end.
            end: append the tokenizer's end-of-text token, so that the student learns to stop. It is the first to go if
                a sequence is cut. A completion that has an end marker already, such as a chat template's end of turn,
                gets no second one, and a completion that is not finished gets none.
            finished: for each completion, whether it was written to its end and not cut. Default:
                `completions.finished` if there is such a thing, else all are.
            keep_cut: whether completions that are not finished are kept, without an end, or left out with their
                prompts.

        Raises:
            ValueError: the numbers of prompts, completions and `finished` differ; a text is empty, or a prompt leaves
                no room for its completion (with its row); or nothing is left.
        """
        check_texts(prompts)
        check_texts(completions)
        finished = getattr(completions, "finished", [True] * len(completions)) if finished is None else finished
        if not len(prompts) == len(completions) == len(finished):
            raise ValueError(
                f"there are {len(prompts)} prompts, {len(completions)} completions and {len(finished)} entries of"
                " finished; pass as many of each"
            )
        split = split_token_ids(tokenizer, prompts, completions)
        cut = [ids for _, ids in split]
        ended = with_end(tokenizer, cut) if end else cut
        rows = [row for row, whole in enumerate(finished) if whole or keep_cut]
        if not rows:
            raise ValueError("every completion was cut, and keep_cut is False; raise max_new_tokens, or keep them")
        token_ids = [(split[row][0] + (ended if finished[row] else cut)[row])[:max_length] for row in rows]
        return cls(token_ids, [len(split[row][0]) for row in rows], tokenizer)

    @classmethod
    def from_texts(
        cls,
        texts: Sequence[str],
        tokenizer: PreTrainedTokenizerBase,
        *,
        prompt_tokens: int = 0,
        max_length: int = 512,
    ) -> CompletionDataset:
        """Plain texts, cut after `max_length` tokens. The first `prompt_tokens` of each are its prompt.

        Each text gets what the tokenizer adds at its beginning and end, unless the text has it already.

        Raises:
            ValueError: a text is empty, or no longer than its prompt (with its row).
        """
        check_texts(texts)
        encoded = text_token_ids(tokenizer, texts)
        cut = [ids[:max_length] for ids in encoded]
        return cls(cut, [prompt_tokens] * len(texts), tokenizer)

    @classmethod
    def from_messages(
        cls,
        rows: Iterable[Any],
        tokenizer: PreTrainedTokenizerBase,
        *,
        column: str = "messages",
        max_length: int = 512,
        split_turns: bool = False,
    ) -> CompletionDataset:
        """Conversations, rendered by the tokenizer's chat template. What the assistant writes is learnt, in every turn.

        The end marker of a turn is learnt too. If the template has `{% generation %}` blocks, they say what the
        assistant writes. Otherwise its turns are found by rendering the conversation up to each of them, with the
        template's generation prompt. A template without one leaves the turn's heading to the assistant.

        Args:
            rows: a Hugging Face data set, or any iterable. A row is a list of messages with `role` and `content`, or a
                mapping that has such a list in `column`.
            tokenizer: the student's own, with a chat template.
            column: of the messages.
            max_length: in tokens. What is longer is cut at the end.
            split_turns: make a sequence of each turn of the assistant, in which that turn alone is learnt. This is the
                way for templates that drop earlier reasoning (Qwen3): each turn then follows what the model sees when
                it writes the turn. There are as many sequences as turns, more than rows.

        Raises:
            ValueError: the tokenizer has no chat template, there is no row, or (with its row) a conversation cannot be
                rendered, has nothing from the assistant within `max_length` tokens, or is rendered differently when it
                goes on, as by templates that drop earlier reasoning.

        Example:
            >>> from distill_helpers.llm import CompletionDataset
            >>> tokenizer = dh.load_course_model("help-desk-student", device="cpu").tokenizer
            >>> turns = "{% for m in messages %}{{ m.role }}: {{ m.content }}[SEP]{% endfor %}"
            >>> tokenizer.chat_template = turns + "{% if add_generation_prompt %}assistant: {% endif %}"
            >>> chat = [{"role": "user", "content": "no sound"}, {"role": "assistant", "content": "my mac"}]
            >>> CompletionDataset.from_messages([chat], tokenizer)  # two words, and the end of the turn
            CompletionDataset(1 sequences, 3 tokens to learn)
        """
        found = conversation_tokens(rows, tokenizer, column=column, split_turns=split_turns)
        token_ids, learnt = [ids[:max_length] for ids, _ in found], [flags[:max_length] for _, flags in found]
        first = [flags.index(True) if True in flags else len(flags) for flags in learnt]
        return cls(token_ids, first, tokenizer, learnt=learnt)

    @classmethod
    def from_hf(
        cls,
        dataset: Any,
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_length: int = 512,
        end: bool = True,
        split_turns: bool = False,
    ) -> CompletionDataset:
        """A Hugging Face data set whose columns say by their names what they hold. Other columns are not used.

        A column `messages` is read by `from_messages`, `prompt` and `completion` by `from_pairs`, and `text` by
        `from_texts`. What does not fit into memory is read by `CompletionStream`.

        Args:
            dataset: a `datasets.Dataset`, or a list of its rows.
            tokenizer: the student's own.
            max_length: in tokens. What is longer is cut at the end.
            end: see `from_pairs`; of prompts and completions.
            split_turns: see `from_messages`; of messages.

        Raises:
            TypeError: several splits, or an iterable data set.
            ValueError: no such columns or several of the three, no row, a row without a text, an empty one or one of
                another type (with its row), and what the three methods raise.

        Example:
            >>> from datasets import Dataset
            >>> from distill_helpers.llm import CompletionDataset
            >>> tokenizer = dh.load_course_model("help-desk-student", device="cpu").tokenizer
            >>> rows = Dataset.from_dict({"prompt": ["no sound on"], "completion": [" my mac"]})
            >>> CompletionDataset.from_hf(rows, tokenizer)
            CompletionDataset(1 sequences, 2 tokens to learn)
        """
        check_split(dataset)
        if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
            raise TypeError(
                f"a {type(dataset).__name__} has no length, and would have to be read whole; pass it to"
                " CompletionStream, or a part of it as list(dataset.take(n))"
            )
        columns = columns_of(dataset[0] if len(dataset) else None)
        if columns == MESSAGES:
            return cls.from_messages(dataset, tokenizer, max_length=max_length, split_turns=split_turns)
        texts = [texts_of(dataset, column) for column in columns]
        if columns == PAIRS:
            return cls.from_pairs(texts[0], texts[1], tokenizer, max_length=max_length, end=end)
        return cls.from_texts(texts[0], tokenizer, max_length=max_length)

    @property
    def n_tokens(self) -> list[int]:
        """The number of tokens to learn in each sequence."""
        return [sum(self.learnt_tokens(row)) for row in range(len(self))]

    def learnt_tokens(self, index: int) -> list[bool]:
        """Whether each token of a sequence is learnt."""
        ids = self.token_ids[index]
        # Nothing predicts token 0. In a batch that is padded on the left, the padding would.
        flags = [place >= max(self.prompt_lengths[index], 1) for place in range(len(ids))]
        return flags if self.learnt is None else [a and b for a, b in zip(flags, self.learnt[index], strict=True)]

    def with_targets(self, teacher_targets: SequenceTargets) -> CompletionDataset:
        """The same sequences, together with a teacher's targets."""
        return CompletionDataset(
            self.token_ids, self.prompt_lengths, self.tokenizer, learnt=self.learnt, teacher_targets=teacher_targets
        )

    def __len__(self) -> int:
        return len(self.token_ids)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = self.sequence(index)
        return item if self.teacher_targets is None else item | {"teacher_targets": self.teacher_targets[index]}

    def sequence(self, index: int) -> dict[str, Any]:
        """An item without its targets: `input_ids`, and `labels` with `IGNORE_INDEX` at tokens that are not learnt."""
        ids, learnt = self.token_ids[index], self.learnt_tokens(index)
        labels = [token if own else IGNORE_INDEX for token, own in zip(ids, learnt, strict=True)]
        return {"input_ids": ids, "labels": labels}

    def __repr__(self) -> str:
        targets = "" if self.teacher_targets is None else ", with teacher_targets"
        return f"CompletionDataset({len(self):,} sequences, {sum(self.n_tokens):,} tokens to learn{targets})"


def check_map_style(dataset: Any) -> None:
    """Raise TypeError if something is not a `CompletionDataset`, such as a stream, which has no numbered sequences."""
    if not isinstance(dataset, CompletionDataset):
        raise TypeError(
            f"a {type(dataset).__name__} has no numbered sequences; pass a CompletionDataset, such as"
            " CompletionDataset.from_hf(list(rows.take(n)), tokenizer) of an iterable data set"
        )


def _check_learnt(learnt: list[list[bool]], token_ids: list[list[int]]) -> None:
    if [len(flags) for flags in learnt] != [len(ids) for ids in token_ids]:
        raise ValueError("learnt must have an entry for each token of each sequence")
    for row, flags in enumerate(learnt):
        if not any(flags[1:]):
            raise ValueError(f"row {row} has no token to learn after its first; leave the row out")
