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
