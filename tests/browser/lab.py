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

__all__ = ["Lab", "kernel_of", "running_lab"]

START_TIMEOUT = 120.0
"""Seconds that JupyterLab and a kernel may take to come up."""


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
        """Of the page that shows the notebook and nothing left over from another."""
        return f"{self.url}lab/tree/{notebook}?token={self.token}&reset"

    def sessions(self) -> list[dict[str, Any]]:
        """Open notebooks with their kernels."""
        with urllib.request.urlopen(f"{self.url}api/sessions?token={self.token}", timeout=30) as answer:
            return json.load(answer)

    def shut_down(self, notebook: str) -> None:
        """Ends the kernel of a notebook."""
        for session in self.sessions():
            if session["path"] == notebook:
                address = f"{self.url}api/sessions/{session['id']}?token={self.token}"
                urllib.request.urlopen(urllib.request.Request(address, method="DELETE"), timeout=30).close()


@contextmanager
def running_lab(folder: Path) -> Iterator[Lab]:
    """JupyterLab of this Python on a free loopback port; its settings, kernels' files and notebooks are in `folder`.

    Raises:
        RuntimeError: it ended, or did not answer in time; with its log.
    """
    root, runtime, log = folder / "notebooks", folder / "runtime", folder / "jupyter.log"
    root.mkdir()
    places = {"JUPYTER_RUNTIME_DIR": runtime} | {
        name: folder / name.lower() for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR")
    }
    # No question about announcements over the widgets, and no search for a newer version, which would be refused.
    settings = places["JUPYTER_CONFIG_DIR"] / "lab/user-settings/@jupyterlab/apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text('{"fetchNews": "false", "checkForUpdates": false}')
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--ServerApp.root_dir={root}"]
    command += ["--ServerApp.ip=127.0.0.1", "--ServerApp.port=0", "--ServerApp.port_retries=0"]
    # For a test run that is killed: kernels without a page end, and then the server.
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
        # Written when the port is bound, so that a request waits for an answer and is not refused.
        while not (found := list(runtime.glob(f"jpserver-{process.pid}.json"))):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()}")
            time.sleep(0.1)
        server = json.loads(found[0].read_text())
        yield Lab(server["url"], server["token"], root, runtime)
    finally:
        # SIGTERM asks nothing back and lets the server end its kernels.
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


class Kernel:
    """Evaluates expressions in the kernel that the page uses, without a trace in its history."""

    def __init__(self, client: BlockingKernelClient) -> None:
        self._client = client

    def evaluate(self, expression: str, timeout: float = 60.0) -> Any:
        """Value of an expression, as JSON can carry it; waits until the kernel has done what was asked before.

        Raises:
            RuntimeError: what the expression raised.
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
    """The kernel of an open notebook.

    Raises:
        RuntimeError: none was asked for in time.
        TimeoutError: it did not answer in time.
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
        # Not `wait_for_ready`, which takes a kernel that is slow to come up for a dead one.
        kernel.evaluate("None", timeout=START_TIMEOUT)
        yield kernel
    finally:
        client.stop_channels()
