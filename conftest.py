"""For every test and every notebook: no network, and nbval compares text, not pictures or progress bars."""

import os
import sys
from pathlib import Path

import pytest

OFFLINE = str(Path(__file__).parent / "tests" / "offline")
# Before transformers is imported, and inherited by notebook kernels and other child processes.
os.environ["PYTHONPATH"] = os.pathsep.join([OFFLINE, *filter(None, [os.environ.get("PYTHONPATH")])])
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
sys.path.insert(0, OFFLINE)
sys.modules.pop("sitecustomize", None)
import sitecustomize  # noqa: E402, F401  (installs the audit hook in this process)


def pytest_collectstart(collector: pytest.Collector) -> None:
    if hasattr(collector, "skip_compare"):  # a notebook: text progress bars go to stderr
        collector.skip_compare += ("stderr",)
