"""JupyterLab in a folder of its own, the kernel behind a page, and a page with one notebook."""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient

from distill_helpers.course.folders import NOTEBOOKS

__all__ = ["Lab", "kernel_of", "running_lab"]

START_TIMEOUT = 120.0
"""Seconds that JupyterLab and a kernel may take to come up."""
SETTINGS = NOTEBOOKS / "jupyterlab"
"""JupyterLab's settings of `make course`."""


@dataclass(frozen=True)
class Lab:
    """A running JupyterLab.

    Args:
        url: such as "http://127.0.0.1:40123/".
        token: asked for by every page.
        root: its folder, in which notebooks are put.
        runtime: where kernels leave their connection files.
    """

    url: str
    token: str
    root: Path
    runtime: Path

    def address(self, notebook: str) -> str:
        """Make the address of a page that shows the notebook, and no notebook that was open before."""
        return f"{self.url}lab/tree/{notebook}?token={self.token}&reset"

    def sessions(self) -> list[dict[str, Any]]:
        """Ask for the open notebooks with their kernels."""
        with urllib.request.urlopen(f"{self.url}api/sessions?token={self.token}", timeout=30) as answer:
            return json.load(answer)

    def shut_down(self, notebook: str) -> None:
        """End the kernel of a notebook."""
        for session in self.sessions():
            if session["path"] == notebook:
                address = f"{self.url}api/sessions/{session['id']}?token={self.token}"
                urllib.request.urlopen(urllib.request.Request(address, method="DELETE"), timeout=30).close()


@contextmanager
def running_lab(folder: Path) -> Iterator[Lab]:
    """Start this Python's JupyterLab on a free loopback port, with the settings of `make course`.

    The user's own settings, the kernels' files and the notebooks are in `folder`.

    Raises:
        RuntimeError: JupyterLab ended or did not answer in time; the error contains its log.
    """
    root, runtime, log = folder / "notebooks", folder / "runtime", folder / "jupyter.log"
    root.mkdir()
    places = {"JUPYTER_RUNTIME_DIR": runtime} | {
        name: folder / name.lower() for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR")
    }
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--ServerApp.root_dir={root}"]
    command += [f"--LabApp.app_settings_dir={SETTINGS}", "--expose-app-in-browser"]
    command += ["--ServerApp.ip=127.0.0.1", "--ServerApp.port=0", "--ServerApp.port_retries=0"]
    # After a test run that was killed, kernels without a page end first, then the server.
    command += ["--MappingKernelManager.cull_idle_timeout=300", "--ServerApp.shutdown_no_activity_timeout=600"]
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            cwd=root,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | {name: str(place) for name, place in places.items()},
        )
    try:
        deadline = time.monotonic() + START_TIMEOUT
        # JupyterLab writes this file when the port is bound. From then on a request waits and is not refused. For a
        # moment the file is empty.
        while not (content := "".join(file.read_text() for file in runtime.glob(f"jpserver-{process.pid}.json"))):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()}")
            time.sleep(0.1)
        server = json.loads(content)
        yield Lab(server["url"], server["token"], root, runtime)
    finally:
        # After SIGTERM the server asks nothing and ends its kernels.
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


class Kernel:
    """Evaluates expressions in the kernel that the page uses, without a trace in its history."""

    def __init__(self, client: BlockingKernelClient) -> None:
        self._client = client

    def evaluate(self, expression: str, timeout: float = 60.0) -> Any:
        """Evaluate an expression whose value JSON can carry, after everything that the kernel was asked before.

        Raises:
            RuntimeError: the expression raised an exception.
        """
        asked = {"value": f"__import__('json').dumps({expression})"}
        reply = self._client.execute(
            "", silent=True, store_history=False, user_expressions=asked, reply=True, timeout=timeout
        )
        value = reply["content"]["user_expressions"]["value"]
        if value["status"] != "ok":
            raise RuntimeError(f"{expression}\n{value['ename']}: {value['evalue']}")
        return json.loads(ast.literal_eval(value["data"]["text/plain"]))


@contextmanager
def kernel_of(lab: Lab, notebook: str) -> Iterator[Kernel]:
    """Connect to the kernel of an open notebook.

    Raises:
        RuntimeError: the page started no kernel in time.
        TimeoutError: the kernel did not answer in time.
    """
    deadline = time.monotonic() + START_TIMEOUT
    while not (ids := [s["kernel"]["id"] for s in lab.sessions() if s["path"] == notebook]):
        if time.monotonic() > deadline:
            raise RuntimeError(f"no kernel for {notebook}")
        time.sleep(0.2)
    client = BlockingKernelClient(connection_file=str(lab.runtime / f"kernel-{ids[0]}.json"))
    client.load_connection_file()
    client.start_channels()
    try:
        kernel = Kernel(client)
        # `wait_for_ready` would take a kernel that starts slowly for a dead one.
        kernel.evaluate("None", timeout=START_TIMEOUT)
        yield kernel
    finally:
        client.stop_channels()
