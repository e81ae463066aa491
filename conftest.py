"""For every test and every notebook: no network, and nbval compares text, not pictures or progress bars."""

import os
import sys
import tempfile
from functools import cache
from pathlib import Path

import pytest

OFFLINE = str(Path(__file__).parent / "tests" / "offline")
# Before transformers is imported, and inherited by notebook kernels and other child processes.
os.environ["PYTHONPATH"] = os.pathsep.join([OFFLINE, *filter(None, [os.environ.get("PYTHONPATH")])])
# A record of solved exercises that is the tests' own; most tests write none.
os.environ["DISTILL_HELPERS_RECORD"] = str(Path(tempfile.gettempdir()) / f"record-of-tests-{os.getpid()}.txt")
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
sys.path.insert(0, OFFLINE)
sys.modules.pop("sitecustomize", None)
import sitecustomize  # noqa: E402, F401  (installs the audit hook in this process)


def pytest_collectstart(collector: pytest.Collector) -> None:
    if hasattr(collector, "skip_compare"):  # a notebook: text progress bars go to stderr
        from widget_words import WIDGET_HTML, words_alone

        collector.skip_compare += ("stderr",)
        # nbval hands the pattern and this function to `re.sub`; its file of patterns can name texts alone.
        collector.sanitize_patterns[WIDGET_HTML] = words_alone


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.suffix == ".ipynb":
            item.add_marker("slow")
            if _is_timed(item.path):
                item.add_marker("alone")


@cache
def _is_timed(notebook: Path) -> bool:
    """Whether cells measure a time, which other tests on the same machine would stretch."""
    text = notebook.read_text(encoding="utf-8")
    return "perf_counter" in text or "timing=True" in text
