"""How close a collection comes to its ideal, beside batches that wait for their slowest, against answers of 200 ms.

    python tests/benchmarks/collection_throughput.py [--waves N]

The ideal is: inputs / calls at a time × 200 ms. The share of it that is reached is printed for the package's collector
(workers, journal and syncs included) and for the article's way (batches of 10, each awaited whole, appended to a file),
round by round in turn; medians of three. A job has 50 times as many inputs as calls at a time, so that its first and
last wave, which are not full, weigh little. The server is a process of its own on the same machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import openai

from distill_helpers.api.collecting.collector import APIDistillationDataCollector
from distill_helpers.api.teachers.providers import OpenAITeacher

ANSWER_S = 0.2
SERVER = Path(__file__).with_name("fixed_delay_server.py")


@contextmanager
def slow_server(folder: Path) -> Iterator[str]:
    """Base URL of a server that answers after 200 ms."""
    process = subprocess.Popen([sys.executable, SERVER, folder / "port", str(ANSWER_S)])
    try:
        while not (folder / "port").exists():
            time.sleep(0.05)
        yield f"http://127.0.0.1:{(folder / 'port').read_text()}/v1"
    finally:
        process.kill()
        process.wait()


def package(url: str, texts: list[str], concurrent: int, journal: Path) -> None:
    """The package's collector."""
    teacher = OpenAITeacher("m", api_key="k", base_url=url, max_tokens=50)
    collected = APIDistillationDataCollector(teacher).collect(texts, journal, max_concurrent=concurrent, progress=False)
    assert len(collected.examples) == len(texts)


def batches(url: str, texts: list[str], concurrent: int, output: Path, batch_size: int = 10) -> None:
    """Batches with a semaphore, as in the article."""

    async def run() -> None:
        client, free = openai.AsyncOpenAI(api_key="k", base_url=url), asyncio.Semaphore(concurrent)

        async def ask(text: str) -> tuple[str, str]:
            async with free:
                messages = [{"role": "user", "content": text}]
                answer = await client.chat.completions.create(model="m", messages=messages, max_tokens=50)  # type: ignore[arg-type]
                return text, answer.choices[0].message.content or ""

        for start in range(0, len(texts), batch_size):
            answers = await asyncio.gather(*(ask(text) for text in texts[start : start + batch_size]))
            with output.open("a") as file:
                file.writelines(json.dumps({"input": text, "output": answer}) + "\n" for text, answer in answers)
        await client.close()

    asyncio.run(run())


WAYS = {"package": package, "article's batches": batches}


def measure(
    concurrencies: tuple[int, ...] = (5, 20, 100), waves: int = 50, rounds: int = 3, ways: tuple[str, ...] = tuple(WAYS)
) -> dict[tuple[str, int], float]:
    """Share of the ideal throughput by way and calls at a time: 1 is ideal."""
    shares: dict[tuple[str, int], list[float]] = {}
    with tempfile.TemporaryDirectory() as scratch, slow_server(Path(scratch)) as url:
        for number in range(rounds):
            for concurrent in concurrencies:
                texts = [f"text {i}" for i in range(concurrent * waves)]
                for way in ways:
                    start = time.perf_counter()
                    WAYS[way](url, texts, concurrent, Path(scratch, f"{way} {concurrent} {number}.jsonl"))
                    share = waves * ANSWER_S / (time.perf_counter() - start)
                    shares.setdefault((way, concurrent), []).append(share)
    return {key: statistics.median(values) for key, values in shares.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--waves", type=int, default=50)
    for (way, concurrent), share in sorted(measure(waves=parser.parse_args().waves).items()):
        print(f"{way:18s} {concurrent:4d} at a time: {share:6.1%} of the ideal")
