"""Journal records for the tests, without a server."""

import math

from distill_helpers.api.journal.records import Failure, JournalRecord
from distill_helpers.api.teachers.answers import TeacherAnswer, TokenLogprob


def place(*tokens):
    """One position from (token as text or bytes, probability) pairs."""
    return [
        TokenLogprob(
            token if isinstance(token, str) else token.decode(errors="replace"),
            math.log(p) if p > 0 else -math.inf,
            tuple(token.encode() if isinstance(token, str) else token),
        )
        for token, p in tokens
    ]


def answered(input_text, text, *places, sample=0, finish_reason="stop", model="m"):
    return JournalRecord.of(
        {"model": model, "messages": [input_text]},
        input_text,
        TeacherAnswer(text, finish_reason, model, top_logprobs=list(places)),
        sample,
    )


def failed(input_text, sample=0):
    return JournalRecord.of({"model": "m", "messages": [input_text]}, input_text, Failure("APITimeoutError"), sample)
