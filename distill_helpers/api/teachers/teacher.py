"""What a teacher behind an API can do: the interface that the collector and the batch files use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from distill_helpers.api.teachers.answers import TeacherAnswer

__all__ = ["Teacher"]


class Teacher(Protocol):
    """What the collector needs of a teacher. Write a class with these six names for a third dialect.

    Attributes:
        model: the name by which a price table knows the model.
        failures: what `ask` raises if a single request fails. Such a failure is recorded, and the collection goes on.
            Any other error ends the collection.

    Example:
        >>> class Shouting:
        ...     model = "shouting-1"
        ...     failures = (OSError,)
        ...     def request(self, text):
        ...         return {"model": self.model, "max_tokens": 9, "messages": [{"role": "user", "content": text}]}
        ...     async def ask(self, request):
        ...         return self.read({"said": request["messages"][-1]["content"].upper()})
        ...     def read(self, response):
        ...         return dh.api.TeacherAnswer(response["said"], "stop", self.model)
        ...     async def close(self):
        ...         pass
        >>> collector = dh.api.APIDistillationDataCollector(Shouting())
        >>> collection = collector.collect(["no sound", "no picture"], "answers.jsonl", progress=False)
        >>> [example.teacher_output for example in collection.examples]
        ['NO SOUND', 'NO PICTURE']
    """

    model: str
    failures: tuple[type[Exception], ...]

    def request(self, text: str) -> dict[str, Any]:
        """The body of the call that asks about a text, as JSON. The same text always gives the same body."""

    async def ask(self, request: Mapping[str, Any]) -> TeacherAnswer:
        """Send a request and read the answer; raises `failures`."""

    def read(self, response: Mapping[str, Any]) -> TeacherAnswer:
        """Read the answer from a response's body; raises `MalformedAnswerError`."""

    async def close(self) -> None:
        """Close the connections. Another request opens new ones."""
