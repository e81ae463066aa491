"""The fault server as a fixture, and a price table for the model that it plays."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import running_fault_server
from api_prices import price
from running_fault_server import FaultServer

from distill_helpers.api.costs.price_table import PriceTable


@pytest.fixture
def start_fault_server(tmp_path: Path) -> Iterator[Callable[[float], FaultServer]]:
    """Start a server with a delay in seconds before each answer."""
    running: list[subprocess.Popen] = []

    def start(delay: float = 0.0) -> FaultServer:
        folder = tmp_path / f"server {len(running)}"
        folder.mkdir()
        script = Path(running_fault_server.__file__).with_name("fault_server.py")
        running.append(subprocess.Popen([sys.executable, script, folder / "port", folder / "log", str(delay)]))
        for _ in range(600):
            if (folder / "port").exists():
                return FaultServer(f"http://127.0.0.1:{(folder / 'port').read_text()}", folder / "log")
            time.sleep(0.05)
        raise TimeoutError("the fault server did not start")

    yield start
    for process in running:
        process.kill()
        process.wait()


@pytest.fixture
def server(start_fault_server: Callable[[float], FaultServer]) -> FaultServer:
    """A server that answers at once."""
    return start_fault_server(0.0)


@pytest.fixture
def prices() -> PriceTable:
    """One dollar for a million tokens of any kind."""
    return PriceTable([price("faulty-1", input=1, cached_input=1, cache_write=1, output=1)])
