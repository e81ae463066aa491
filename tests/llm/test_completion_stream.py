"""Hugging Face data sets: the columns say what they hold, whole or as a stream, and bad rows are named."""

import pytest
import torch
from torch.utils.data import DataLoader
from training_runs import arguments

from distill_helpers import DistillationConfig
from distill_helpers.llm import CompletionCollator, CompletionDataset, CompletionStream, LLMDistillationTrainer
from distill_helpers.llm.completion_stream import _CHUNK

datasets = pytest.importorskip("datasets")
CHAT = [{"role": "user", "content": "no sound"}, {"role": "assistant", "content": "my mac"}]
TURNS = "{% for m in messages %}{{ m.role }} {{ m.content }} [SEP]{% endfor %}"
ROWS = {
    "messages": [{"messages": CHAT}] * 3,
    "pairs": [{"prompt": "no sound", "completion": f" my mac {i}"} for i in range(3)],
    "text": [{"text": f"no sound on my mac {i}", "number": i} for i in range(3)],
}


@pytest.fixture
def tokenizer(language_tokenizer, monkeypatch):
    monkeypatch.setattr(language_tokenizer, "chat_template", TURNS)
    return language_tokenizer


def iterable(rows):
    return datasets.IterableDataset.from_generator(lambda: iter(rows))


def made(rows, tokenizer):
    """The same data set by the method for its columns."""
    if "messages" in rows[0]:
        return CompletionDataset.from_messages(rows, tokenizer)
    if "prompt" in rows[0]:
        columns = ([row[name] for row in rows] for name in ("prompt", "completion"))
        return CompletionDataset.from_pairs(*columns, tokenizer)
    return CompletionDataset.from_texts([row["text"] for row in rows], tokenizer)


@pytest.mark.parametrize("kind", ROWS)
def test_the_columns_say_what_they_hold(kind, tokenizer):
    rows = ROWS[kind]
    expected = list(made(rows, tokenizer))
    table = datasets.Dataset.from_list(rows)
    assert list(CompletionDataset.from_hf(table, tokenizer)) == expected
    assert list(CompletionDataset.from_hf(rows, tokenizer)) == expected
    for source in (table, iterable(rows), rows):
        stream = CompletionStream(source, tokenizer)
        assert list(stream) == list(stream) == expected  # it can be read again


def test_lengths_and_ends_are_handed_on(tokenizer):
    rows = ROWS["pairs"]
    for options in ({"end": False}, {"max_length": 9}):
        expected = CompletionDataset.from_pairs(
            [row["prompt"] for row in rows], [row["completion"] for row in rows], tokenizer, **options
        )
        assert list(CompletionDataset.from_hf(rows, tokenizer, **options)) == list(expected)
        assert list(CompletionStream(iterable(rows), tokenizer, **options)) == list(expected)


def test_turns_are_split(tokenizer):
    rows = [{"messages": CHAT * 2}, {"messages": CHAT}]
    expected = list(CompletionDataset.from_messages(rows, tokenizer, split_turns=True))
    assert len(expected) == 3
    assert list(CompletionDataset.from_hf(rows, tokenizer, split_turns=True)) == expected
    assert list(CompletionStream(iterable(rows), tokenizer, split_turns=True)) == expected


BAD_ROWS = [
    ("text", {"text": ""}, "row {} has an empty text in the column 'text'"),
    ("text", {"text": "  "}, "row {} has an empty text in the column 'text'"),
    ("text", {"text": None}, "row {} has None, a NoneType, in the column 'text'"),
    ("text", {"text": float("nan")}, "row {} has nan, a float, in the column 'text'"),
    ("text", {"text": 7}, "row {} has 7, a int, in the column 'text'"),
    ("text", {"text": b"no"}, "row {} has b'no', a bytes, in the column 'text'"),
    ("text", {"prompt": "a", "completion": "b"}, "row {} has no column 'text'"),
    ("text", "no sound", "row {} must be a mapping of columns, got str"),
    ("pairs", {"prompt": "no sound", "completion": ""}, "row {} has an empty text in the column 'completion'"),
    ("pairs", {"prompt": "no sound"}, "row {} has no column 'completion'"),
    ("pairs", {"prompt": CHAT[:1], "completion": CHAT[1:]}, "row {} has a list in the column 'prompt'; a conversation"),
    ("pairs", {"prompt": "no sound " * 600, "completion": "a"}, "row {} has no completion"),
    ("messages", {"messages": []}, "row {} has no turn of the assistant"),
    ("messages", {"messages": "no sound"}, "row {} must be a list of messages"),
    ("messages", {"messages": CHAT[:1]}, "row {} has no turn of the assistant"),
    ("messages", {"messages": [CHAT[0], {"role": "assistant", "content": None}]}, "row {} has a message whose content"),
    (
        "messages",
        {"messages": [CHAT[0], {"role": "assistant", "content": 7}]},
        "row {} has a message whose content is 7",
    ),
    ("messages", {"messages": [CHAT[0], {"role": "assistant", "content": " "}]}, "row {} has an empty turn"),
    ("messages", {"messages": [CHAT[0], {"role": "assistant"}]}, "row {} has a message whose content is None"),
]


@pytest.mark.parametrize(("kind", "row", "message"), BAD_ROWS)
@pytest.mark.parametrize("before", [1, _CHUNK + 3])
def test_a_bad_row_is_named(kind, row, message, before, tokenizer):
    rows = [*(ROWS[kind] * _CHUNK)[:before], row, *ROWS[kind]]
    expected = rf"^{message.format(before)}"
    with pytest.raises(ValueError, match=expected):
        CompletionDataset.from_hf(rows, tokenizer)
    read = []
    with pytest.raises(ValueError, match=expected):
        read.extend(CompletionStream(rows, tokenizer))


def test_what_a_data_set_fills_up_with_none_is_not_rendered(tokenizer, monkeypatch):
    """A message with a name gives all messages of an Arrow table one."""
    named = (
        "{% for m in messages %}{% if m.name is defined %}({{ m.name }}){% endif %}{{ m.content }} [SEP]{% endfor %}"
    )
    monkeypatch.setattr(tokenizer, "chat_template", named)
    rows = [{"messages": [{"role": "user", "content": "no sound", "name": "mac"}, CHAT[1]]}, {"messages": CHAT}]
    table = datasets.Dataset.from_list(rows)
    assert table[1]["messages"][0]["name"] is None
    assert list(CompletionDataset.from_hf(table, tokenizer)) == list(CompletionDataset.from_messages(rows, tokenizer))


@pytest.mark.parametrize("make", [CompletionDataset.from_hf, CompletionStream], ids=["whole", "stream"])
def test_columns_that_do_not_say_it_are_refused(make, tokenizer):
    with pytest.raises(ValueError, match=r"has the columns \['answer', 'question'\], but it needs 'messages', or"):
        make(datasets.Dataset.from_list([{"question": "a", "answer": "b"}]), tokenizer)
    with pytest.raises(ValueError, match=r"either of which could be meant; keep one of them with dataset.select_col"):
        make(datasets.Dataset.from_list([{"text": "a", "messages": CHAT}]), tokenizer)
    with pytest.raises(ValueError, match="the data set has no row"):
        make(datasets.Dataset.from_dict({"text": []}), tokenizer)
    with pytest.raises(ValueError, match="row 0 must be a mapping of columns, got str"):
        make(["no sound"], tokenizer)
    with pytest.raises(TypeError, match=r"one split of the data set, such as dataset\['validation'\]"):
        make(datasets.DatasetDict({"validation": datasets.Dataset.from_list(ROWS["text"])}), tokenizer)


def test_one_cannot_stand_for_the_other(tokenizer):
    with pytest.raises(TypeError, match=r"IterableDataset has no length, .* pass it to CompletionStream"):
        CompletionDataset.from_hf(iterable(ROWS["text"]), tokenizer)
    with pytest.raises(TypeError, match="a generator can be read once"):
        CompletionStream((row for row in ROWS["text"]), tokenizer)


def test_a_stream_holds_few_rows(tokenizer):
    seen = []

    class Rows:
        def __iter__(self):
            for number in range(10**9):
                seen.append(number)
                yield ROWS["text"][number % 3]

    stream = iter(CompletionStream(Rows(), tokenizer))
    for _ in range(3 * _CHUNK):
        next(stream)
    assert len(seen) <= 1 + 3 * _CHUNK


@pytest.mark.slow
@pytest.mark.parametrize("sharded", [True, False])
def test_every_worker_reads_its_part(sharded, tokenizer):
    rows = [{"text": f"no sound {'mac ' * (i % 9 + 1)}"} for i in range(150)]
    source = rows
    if sharded:
        source = datasets.IterableDataset.from_generator(
            lambda parts: (rows[i] for part in parts for i in range(part, 150, 4)), gen_kwargs={"parts": [0, 1, 2, 3]}
        )
    stream = CompletionStream(source, tokenizer)
    loader = DataLoader(stream, batch_size=4, num_workers=2, collate_fn=CompletionCollator(tokenizer))
    read = []
    for batch in loader:
        both = zip(batch["input_ids"], batch["attention_mask"].bool(), strict=True)
        read += [tuple(ids[tokens].tolist()) for ids, tokens in both]
    assert sorted(read) == sorted(tuple(item["input_ids"]) for item in CompletionStream(rows, tokenizer))


@pytest.mark.slow
@pytest.mark.parametrize("packed_length", [None, 40])
def test_a_training_from_a_stream_is_that_from_a_data_set(
    make_language_model, tokenizer, pairs, tmp_path, packed_length
):
    rows = [{"prompt": a, "completion": b} for a, b in zip(*pairs, strict=True)]
    weights, losses = [], []
    for data in (CompletionDataset.from_hf(rows, tokenizer), CompletionStream(iterable(rows), tokenizer)):
        student = make_language_model(0).model
        trainer = LLMDistillationTrainer(
            student,
            DistillationConfig(alpha=0.5),
            arguments(tmp_path, max_steps=6, train_sampling_strategy="sequential"),
            train_dataset=data,
            eval_dataset=data,
            teacher=make_language_model(1),
            data_collator=CompletionCollator(tokenizer, packed_length=packed_length),
        )
        trainer.train()  # 18 items: the 12 rows and once more the first half
        weights.append(torch.cat([parameter.detach().flatten() for parameter in student.parameters()]))
        losses.append(trainer.evaluate()["eval_loss"])
    assert torch.equal(*weights)
    assert losses[0] == losses[1]


def test_what_a_stream_cannot_do_is_refused(make_language_model, tokenizer, tmp_path):
    stream = CompletionStream(iterable(ROWS["text"]), tokenizer)
    soft, student, teacher = DistillationConfig(alpha=1.0), make_language_model(0), make_language_model(1)
    with pytest.raises(ValueError, match="max_steps"):
        LLMDistillationTrainer(student, soft, arguments(tmp_path, max_steps=-1), train_dataset=stream, teacher=teacher)
    with pytest.raises(ValueError, match="pass teacher="):
        LLMDistillationTrainer(student, soft, arguments(tmp_path), train_dataset=stream)
    with pytest.raises(ValueError, match="a stream of plain texts has no prompts"):
        LLMDistillationTrainer(
            student, soft, arguments(tmp_path), train_dataset=stream, teacher=teacher, on_policy_fraction=0.5
        )


def test_several_processes_and_streams(make_language_model, tokenizer, tmp_path, monkeypatch):
    from transformers import TrainingArguments

    from distill_helpers.llm.trainer import _check_streams

    stream = CompletionStream(iterable(ROWS["pairs"]), tokenizer)
    data = CompletionDataset.from_hf(ROWS["pairs"], tokenizer)
    args = arguments(tmp_path)
    monkeypatch.setattr(TrainingArguments, "world_size", 2)
    with pytest.raises(ValueError, match="several processes cannot evaluate a stream"):
        _check_streams(data, {"one": data, "other": stream}, args)
    assert args.accelerator_config.dispatch_batches is None
    _check_streams(stream, data, args)
    assert args.accelerator_config.dispatch_batches is False
    args.accelerator_config.dispatch_batches = True
    with pytest.raises(ValueError, match="leave it out of accelerator_config"):
        _check_streams(stream, None, args)


def test_a_stream_shuffles_anew_with_each_epoch(tokenizer):
    rows = [{"text": f"mac {'no ' * i}"} for i in range(1, 30)]
    stream = CompletionStream(iterable(rows).shuffle(seed=0, buffer_size=30), tokenizer)
    lengths = []
    for epoch in (0, 1):
        stream.set_epoch(epoch)
        lengths.append([len(item["input_ids"]) for item in stream])
    assert lengths[0] != lengths[1]
    assert sorted(lengths[0]) == sorted(lengths[1])
    CompletionStream(rows, tokenizer).set_epoch(1)
    assert repr(stream) == "CompletionStream(IterableDataset with 'text', at most 512 tokens)"
