"""Messages that a language model writes: what the prompt holds, and what an interruption costs."""

import copy
import json

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from distill_helpers import LabelledTexts
from distill_helpers.llm import synthetic_data
from distill_helpers.llm.synthetic_data import list_prompt, lower_case_words, write_messages
from distill_helpers.models.language_model_loading import load_language_model
from distill_helpers.models.text_models import LanguageModel

SCREEN, PRINTER = "comp.graphics", "comp.windows.x"


@pytest.fixture(scope="module")
def writer(small_tokenizer):
    """A causal model with random weights: what it writes makes no sense, but is a function of what it reads."""
    tokenizer = copy.deepcopy(small_tokenizer)
    tokenizer.padding_side, tokenizer.model_max_length = "left", 512
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=None,
        initializer_range=0.3,
    )
    torch.manual_seed(0)
    return LanguageModel(LlamaForCausalLM(config).eval(), tokenizer)


@pytest.fixture(scope="module")
def write(writer, help_desk):
    def call(n_per_topic=5, **options):
        defaults = {"topics": [SCREEN, PRINTER], "batch_size": 3, "max_new_tokens": 8, "progress": False}
        return write_messages(writer, help_desk.train, n_per_topic, **defaults | options)

    return call


# The form


def test_lower_case_words_leaves_letters_and_the_first_words():
    assert lower_case_words("I'm using Windows 3.1 -- HELP!\n") == "i m using windows help"
    assert lower_case_words("one two three", 2) == "one two"
    assert len(lower_case_words("a " * 50).split()) == 26
    assert len(lower_case_words("a " * 50, None).split()) == 50
    assert lower_case_words("12 ...") == ""


def test_the_help_desks_messages_have_this_form_already(help_desk):
    for data in (help_desk.train, help_desk.validation, help_desk.test):
        assert [lower_case_words(text) for text in data.texts] == data.texts


def test_the_prompt_is_a_list_with_a_line_for_each_example():
    assert list_prompt("printers", ["it smokes", "it rattles"]).split("\n") == [
        "Messages that people wrote to a help desk about printers:",
        "- it smokes",
        "- it rattles",
        "",
    ]


# Writing


def test_each_topic_gets_its_messages(write):
    messages = write()
    assert len(messages) == 10
    assert [m.topic for m in messages].count(SCREEN) == 5
    assert all(m.text == lower_case_words(m.text) != "" for m in messages)


def test_messages_are_a_function_of_the_seed_and_the_rest_of_the_program_is_not(write):
    torch.manual_seed(1)
    first, after = write(seed=1), torch.rand(1)
    torch.rand(7)
    assert write(seed=1) == first
    assert write(seed=2) != first
    torch.manual_seed(1)
    assert torch.rand(1) == after


@pytest.mark.slow
def test_temperature_and_top_k_are_obeyed(write):
    assert write(temperature=1e-4) == write(temperature=1e-4, top_k=1) == write(top_k=1)
    assert write() != write(top_k=1)


def test_openings_come_from_messages_of_the_topic_that_the_prompt_does_not_show(write, help_desk, monkeypatch):
    prompts = []
    monkeypatch.setattr(
        synthetic_data, "list_prompt", lambda about, shown: prompts.append((about, shown)) or list_prompt(about, shown)
    )
    messages = write(topics={SCREEN: "screens", PRINTER: "printers"}, opening_words=4)
    assert [about for about, _ in prompts] == ["screens", "printers"] * 2  # the topics take turns
    names = {"screens": SCREEN, "printers": PRINTER}
    of_topic = {
        name: {t for t, label in zip(help_desk.train.texts, help_desk.train.labels, strict=True) if label == i}
        for i, name in enumerate(help_desk.label_names)
    }
    for about, shown in prompts:
        assert len(set(shown)) == 8
        assert set(shown) <= of_topic[names[about]]
    assert len({tuple(shown) for _, shown in prompts}) == 4  # other examples each time
    for topic in names.values():
        openings = tuple(" ".join(text.split()[:4]) for text in of_topic[topic])
        written = [m.text for m in messages if m.topic == topic]
        assert len({" ".join(text.split()[:4]) for text in written}) == 5
        assert all(text.startswith(openings) for text in written)  # the model may go on with the last word


def test_the_model_may_begin_by_itself(write, help_desk):
    alone = write(opening_words=0, n_per_topic=12, batch_size=12)
    openings = {" ".join(text.split()[:2]) for text in help_desk.train.texts}
    assert any(" ".join(m.text.split()[:2]) not in openings for m in alone)


def test_a_message_written_in_a_batch_is_the_one_written_alone(writer):
    # The prompt is read once for the batch and openings of other lengths leave gaps behind it; neither may show.
    model, tokenizer = writer
    prompt, openings = (
        list_prompt("windows", ["the window is black", "how do i set it"]),
        ["re", "i have a problem", ""],
    )
    greedy = {"do_sample": False, "max_new_tokens": 10}
    together = synthetic_data._continue(writer, prompt, openings, [], 0, greedy)
    assert len(set(together)) == 3
    for opening, message in zip(openings, together, strict=True):
        head = tokenizer(prompt)["input_ids"][:-1]  # without [SEP], which ends a text
        ids = head + tokenizer(f"- {opening}", add_special_tokens=False)["input_ids"]
        with torch.inference_mode():
            for _ in range(10):
                ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
        alone = tokenizer.decode(ids[len(head) :], skip_special_tokens=True)
        assert alone == f"- {message}"
        assert message.startswith(opening)


def test_a_message_ends_with_its_line(writer, monkeypatch):
    lines = ["- re my screen is black", "- re help\n- and another message", "- \nnothing"]
    monkeypatch.setattr(writer.tokenizer, "batch_decode", lambda *_, **__: lines)
    texts = synthetic_data._continue(writer, "a list", ["re", "re", ""], [], 0, {"max_new_tokens": 1})
    assert texts == ["re my screen is black", "re help", ""]


def test_tokens_with_a_line_break_stop_the_model(writer, write, monkeypatch):
    tokenizer = writer[1]
    stops = []
    original = type(tokenizer).decode
    monkeypatch.setattr(tokenizer, "decode", lambda ids, **k: "x\n" if ids == [7] else original(tokenizer, ids, **k))
    monkeypatch.setattr(synthetic_data, "_continue", lambda *a: stops.extend(a[3]) or ["x"] * len(a[2]))
    write(1, topics=[SCREEN])
    assert stops == [7]  # this tokenizer has no token for the end of a text


def test_normalise_is_the_callers_choice_and_empty_messages_are_left_out(write):
    assert [m.text for m in write(normalise=str.upper)] == [m.text.upper() for m in write(normalise=str.lower)]
    assert write(normalise=lambda _: " ") == []


def test_the_model_is_left_in_its_mode(writer, write):
    model = writer[0]
    try:
        model.train()
        write(1)
        assert model.training
    finally:
        model.eval()


# The file


class KilledError(Exception):
    pass


def test_an_interrupted_run_goes_on_behind_its_last_batch(write, tmp_path, monkeypatch):
    expected, file, batches = write(), tmp_path / "messages.jsonl", []
    original = synthetic_data._continue

    def killed_in_the_third(*arguments):
        if len(batches) == 2:
            raise KilledError
        batches.append(arguments)
        return original(*arguments)

    monkeypatch.setattr(synthetic_data, "_continue", killed_in_the_third)
    with pytest.raises(KilledError):
        write(file=file)
    assert len(file.read_text().splitlines()) == 2
    with file.open("a") as out:
        out.write('{"key": "cut o')  # killed while writing
    monkeypatch.setattr(synthetic_data, "_continue", lambda *a: batches.append(a) or original(*a))
    assert write(file=file) == expected
    assert len(batches) == 4
    assert write(file=file) == expected
    assert len(batches) == 4  # nothing was left to do
    assert len([json.loads(line) for line in file.read_text().splitlines()]) == 4


def test_a_finished_file_can_grow(write, tmp_path):
    file = tmp_path / "messages.jsonl"
    write(3, file=file)
    before = file.read_text()
    assert write(6, file=file) == write(6)
    assert file.read_text().startswith(before)


def test_the_folder_of_the_file_is_made_before_any_message(write, tmp_path, monkeypatch):
    file = tmp_path / "new" / "folder" / "messages.jsonl"
    assert write(1, file=file) == write(1)
    assert file.exists()
    (tmp_path / "taken").write_text("")
    batches = []
    monkeypatch.setattr(synthetic_data, "_continue", lambda *arguments: batches.append(arguments))
    with pytest.raises(FileExistsError):
        write(1, file=tmp_path / "taken" / "messages.jsonl")
    assert not batches


@pytest.mark.parametrize("other", [{"seed": 1}, {"temperature": 0.5}, {"opening_words": 2}, {"topics": [SCREEN]}])
def test_a_file_of_other_settings_is_refused(write, tmp_path, other):
    file = tmp_path / "messages.jsonl"
    write(1, file=file)
    with pytest.raises(ValueError, match=r"messages\.jsonl was written with another model, examples or settings"):
        write(1, file=file, **other)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_per_topic": 0}, "n_per_topic must be at least 1, got 0"),
        ({"examples_per_prompt": 0}, "examples_per_prompt must be at least 1"),
        ({"opening_words": -1}, "opening_words must be at least 0, got -1"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"batch_size": 0}, "batch_size"),
        ({"top_k": 0}, "top_k"),
        ({"temperature": 0.0}, "temperature must be above 0, got 0.0"),
        ({"topics": []}, "one or more topics"),
        ({"topics": "comp.graphics"}, "one or more topics"),
        ({"topics": ["printers"]}, "unknown topic 'printers'"),
        ({"examples_per_prompt": 2000}, "has .* examples, 2001 are needed"),
    ],
)
def test_bad_settings(write, options, message):
    with pytest.raises(ValueError, match=message):
        write(**options)


def test_the_tokenizers_padding_does_not_matter(writer, help_desk):
    def write(**changes):
        tokenizer = copy.deepcopy(writer.tokenizer)
        for name, value in changes.items():
            setattr(tokenizer, name, value)
        return write_messages(
            LanguageModel(writer.model, tokenizer), help_desk.train, 2, max_new_tokens=5, progress=False
        )

    assert write() == write(padding_side="right") == write(padding_side="right", pad_token=None)


@pytest.mark.slow
def test_the_courses_language_model_writes_the_same_messages_each_time(help_desk):
    options = {"topics": [SCREEN, PRINTER], "max_new_tokens": 12, "batch_size": 2, "progress": False}
    writer = load_language_model(device="cpu")
    messages = write_messages(writer, help_desk.train, 2, **options)
    assert len(messages) == 4
    assert write_messages(writer, help_desk.train, 2, **options) == messages
    openings = {" ".join(text.split()[:3]) for text in help_desk.train.texts}
    assert all(" ".join(m.text.split()[:3]) in openings for m in messages)
    # Sentences of English words, not the noise that wrongly unpacked weights would make.
    english = {word for text in help_desk.transfer for word in text.split()}
    words = [word for m in messages for word in m.text.split()[3:]]
    assert sum(word in english for word in words) > 0.6 * len(words) > 0


def test_examples_with_line_breaks_stay_on_their_line(writer, monkeypatch):
    prompts = []
    monkeypatch.setattr(synthetic_data, "list_prompt", lambda a, shown: prompts.append(shown) or list_prompt(a, shown))
    examples = LabelledTexts([f"line {i}\nand another" for i in range(6)], [0, 1] * 3, ("screen", "printer"))
    write_messages(writer, examples, 1, examples_per_prompt=2, max_new_tokens=2, progress=False)
    assert len(prompts) == 2
    assert not any("\n" in text for shown in prompts for text in shown)
