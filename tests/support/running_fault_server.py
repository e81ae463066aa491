"""What a test sees of a running `fault_server.py`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from distill_helpers.api.teachers.providers import AnthropicTeacher, OpenAITeacher

KEY = "sk-secret-0123456789"


@dataclass(frozen=True)
class FaultServer:
    """A running `fault_server.py`."""

    url: str
    log: Path

    def asked(self) -> Counter[str]:
        """How often each text was asked about so far."""
        lines = self.log.read_text().splitlines()
        return Counter(line.removeprefix("asked ") for line in lines if line.startswith("asked "))

    def openai(self, **options: object) -> OpenAITeacher:
        """A teacher that asks here; few and quick retries."""
        settings: dict = {"max_retries": 2, "timeout_s": 2.0, "max_tokens": 50} | options
        return OpenAITeacher("faulty-1", api_key=KEY, base_url=f"{self.url}/v1", **settings)

    def anthropic(self, **options: object) -> AnthropicTeacher:
        """The same in the other dialect."""
        settings: dict = {"max_retries": 2, "timeout_s": 2.0, "max_tokens": 50} | options
        return AnthropicTeacher("faulty-1", api_key=KEY, base_url=self.url, **settings)
