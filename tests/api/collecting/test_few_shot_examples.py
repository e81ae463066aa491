"""Few-shot examples: earlier turns of every request, in both dialects, and a part of the journal's key."""

import pytest

from distill_helpers.api import AnthropicTeacher, OpenAITeacher
from distill_helpers.api.journal.journal import request_key

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
