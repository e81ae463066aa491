"""Teachers of both dialects: few-shot examples in every request, usage with cached tokens, and what a repr shows."""

import sys

import pytest
from fault_server import anthropic_answer, openai_answer
from running_fault_server import FaultServer

from distill_helpers.api.journal.records import request_key
from distill_helpers.api.teachers.answers import Usage
from distill_helpers.api.teachers.providers import AnthropicTeacher, OpenAITeacher

EXAMPLES = [("my mac", "Mac"), ("my x terminal", "Unix")]
TURNS = [
    {"role": "user", "content": "my mac"},
    {"role": "assistant", "content": "Mac"},
    {"role": "user", "content": "my x terminal"},
    {"role": "assistant", "content": "Unix"},
    {"role": "user", "content": "the text"},
]


def teacher(kind, **options):
    return kind("m", "one word", api_key="local", base_url="http://127.0.0.1:9", **options)


def test_examples_stand_between_system_prompt_and_text() -> None:
    system = {"role": "system", "content": "one word"}
    assert teacher(OpenAITeacher, examples=EXAMPLES).request("the text")["messages"] == [system, *TURNS]
    request = teacher(AnthropicTeacher, examples=EXAMPLES).request("the text")
    assert (request["system"], request["messages"]) == ("one word", TURNS)


@pytest.mark.parametrize("kind", [OpenAITeacher, AnthropicTeacher])
def test_other_examples_are_another_key_and_none_is_the_old_one(kind) -> None:
    requests = [teacher(kind, examples=examples).request("the text") for examples in (EXAMPLES, EXAMPLES[:1], [])]
    assert len({request_key(request) for request in requests}) == 3
    assert requests[2] == teacher(kind).request("the text")


@pytest.mark.parametrize("kind", [OpenAITeacher, AnthropicTeacher])
@pytest.mark.parametrize("bad", [("a", ""), (" ", "b"), ("a",), ("a", 3), "ab cd"])
def test_an_example_that_is_no_pair_of_texts_is_refused(kind, bad) -> None:
    with pytest.raises(ValueError, match="example 1 must be a text and an answer"):
        teacher(kind, examples=[EXAMPLES[0], bad])


def test_cached_tokens_are_read_in_both_dialects(server: FaultServer) -> None:
    """Anthropic counts them beside the input, OpenAI as a part of it."""
    openai = openai_answer("text") | {
        "usage": {
            "prompt_tokens": 100,
            "completion_tokens": 5,
            "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 30},
        }
    }
    anthropic = anthropic_answer("text") | {
        "usage": {
            "input_tokens": 10,
            "output_tokens": 5,
            "cache_read_input_tokens": 60,
            "cache_creation_input_tokens": 30,
        }
    }
    expected = Usage(100, 5, 60, 30)
    assert server.openai().read(openai).usage == expected
    assert server.anthropic().read(anthropic).usage == expected


@pytest.mark.parametrize("kind", [OpenAITeacher, AnthropicTeacher])
def test_a_repr_shows_the_model_and_neither_key_nor_prompt(kind) -> None:
    shown = repr(kind("m-1", "a secret prompt", api_key="sk-secret", base_url="http://127.0.0.1:9"))
    assert shown == f"{kind.__name__}('m-1')"


@pytest.mark.parametrize(("kind", "sdk"), [(OpenAITeacher, "openai"), (AnthropicTeacher, "anthropic")])
@pytest.mark.parametrize("missing", ["the SDK", "aiohttp"])
def test_a_missing_package_is_named_with_the_extra_that_brings_it(monkeypatch, kind, sdk, missing) -> None:
    name = sdk if missing == "the SDK" else missing
    monkeypatch.setitem(sys.modules, name, None)  # makes its import fail
    with pytest.raises(ModuleNotFoundError, match=rf'package {name}; run `pip install "distill-helpers\[api\]"`'):
        kind("m", api_key="k")


@pytest.mark.parametrize(
    ("parameters", "sent"),
    [
        ({}, {"max_completion_tokens": 20, "temperature": 0.0}),
        ({"max_tokens": 30}, {"max_tokens": 30, "temperature": 0.0}),
        ({"max_tokens": 30, "max_completion_tokens": None}, {"max_tokens": 30, "temperature": 0.0}),
        ({"max_completion_tokens": None, "max_output_tokens": 9}, {"max_output_tokens": 9, "temperature": 0.0}),
        ({"max_completion_tokens": None}, {"temperature": 0.0}),
        ({"max_tokens": None, "temperature": None}, {"max_completion_tokens": 20}),
        ({"temperature": 0.7, "seed": 0}, {"max_completion_tokens": 20, "temperature": 0.7, "seed": 0}),
    ],
)
def test_each_parameter_can_be_named_or_left_out(parameters, sent) -> None:
    request = teacher(OpenAITeacher, max_tokens=20, parameters=parameters).request("the text")
    assert {name: value for name, value in request.items() if name not in ("model", "messages")} == sent


def test_log_probabilities_can_be_left_out_by_name() -> None:
    asks = teacher(OpenAITeacher, top_logprobs=5, parameters={"logprobs": None}).request("the text")
    assert (asks.get("logprobs"), asks["top_logprobs"]) == (None, 5)


def test_parameters_of_anthropic() -> None:
    asks = teacher(AnthropicTeacher, temperature=1.0, parameters={"temperature": None, "top_k": 5}).request("the text")
    assert set(asks) == {"model", "max_tokens", "top_k", "system", "messages"}
    assert "max_tokens" not in teacher(AnthropicTeacher, parameters={"max_tokens": None}).request("the text")
    cached = [{"type": "text", "text": "one word", "cache_control": {"type": "ephemeral"}}]
    assert teacher(AnthropicTeacher, parameters={"system": cached}).request("the text")["system"] == cached


@pytest.mark.parametrize("kind", [OpenAITeacher, AnthropicTeacher])
@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n": 5}, r"parameters\['n'\] is 5, .*n_samples"),
        ({"stream": True}, "'stream': an answer is read whole"),
        ({"model": "another"}, "may not hold 'model'"),
        ({"messages": []}, "may not hold 'messages'"),
    ],
)
def test_parameters_that_would_make_another_kind_of_answer_are_refused(kind, parameters, message) -> None:
    with pytest.raises(ValueError, match=message):
        teacher(kind, parameters=parameters)
    assert teacher(kind, parameters={"n": 1, "stream": False}).request("the text")["n"] == 1
