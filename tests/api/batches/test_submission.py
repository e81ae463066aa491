"""Submission and download: the real SDKs, real sockets, a server that answers with the recorded shapes."""

import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import anthropic
import openai
import pytest

from distill_helpers.api.batches.submission import fetch_batch_results, submit_batch

RECORDED = Path(__file__).with_name("recorded")
SECRET = "".join(("Mei", "er of Ulm"))  # in two pieces, since a traceback shows the lines of this file
OPENAI_BATCH, ANTHROPIC_BATCH = "batch_abc123", "msgbatch_01HkcTjaV5uDC8jWR4ZsDV8d"


class BatchServer(ThreadingHTTPServer):
    """Answers each method and path with a status and a body, and keeps what it is sent."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.answers: dict[str, tuple[int, bytes]] = {}
        self.received: list[tuple[str, bytes]] = []
        self.cut_after: int | None = None

    def has(self, request: str, name: str, **changes: object) -> None:
        """Answer with a recorded file, some fields of its JSON changed."""
        body = (RECORDED / name).read_bytes()
        if name.endswith(".json"):
            body = json.dumps(json.loads(body) | changes).encode()
        self.answers[request] = 200, body

    def asked(self, request: str) -> list[bytes]:
        return [body for name, body in self.received if name == request]


class _Handler(BaseHTTPRequestHandler):
    server: BatchServer

    def do_GET(self) -> None:
        name = f"{self.command} {self.path}"
        self.server.received.append((name, self.rfile.read(int(self.headers.get("content-length") or 0))))
        status, body = self.server.answers.get(name, (404, b'{"error": {"message": "no such thing", "type": "x"}}'))
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.server.cut_after])
        self.close_connection = self.server.cut_after is not None

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[BatchServer]:
    with BatchServer() as server:
        server.has("POST /v1/files", "openai_file.json")
        server.has(
            "POST /v1/batches", "openai_batch.json", status="validating", output_file_id=None, error_file_id=None
        )
        server.has(f"GET /v1/batches/{OPENAI_BATCH}", "openai_batch.json")
        server.has("GET /v1/files/file-out123/content", "openai_output.jsonl")
        server.has("GET /v1/files/file-err123/content", "openai_errors.jsonl")
        results = f"/v1/messages/batches/{ANTHROPIC_BATCH}/results"
        batch = {"results_url": server.url + results}
        server.has(
            "POST /v1/messages/batches", "anthropic_batch.json", processing_status="in_progress", results_url=None
        )
        server.has(f"GET /v1/messages/batches/{ANTHROPIC_BATCH}", "anthropic_batch.json", **batch)
        server.has(f"GET {results}", "anthropic_results.jsonl")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def clients(server: BatchServer) -> tuple[openai.OpenAI, anthropic.Anthropic]:
    settings = {"api_key": "sk-secret-0123456789", "max_retries": 1, "timeout": 5.0}
    return openai.OpenAI(base_url=f"{server.url}/v1", **settings), anthropic.Anthropic(base_url=server.url, **settings)


@pytest.fixture
def requests_path(tmp_path: Path) -> Path:
    lines = [{"custom_id": f"k{i}", "params": {"max_tokens": 5, "messages": [{"content": SECRET}]}} for i in range(3)]
    path = tmp_path / "requests.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_a_file_goes_to_openai_and_becomes_a_batch(server: BatchServer, requests_path: Path) -> None:
    client, _ = clients(server)
    assert submit_batch(client, requests_path) == OPENAI_BATCH
    [upload] = server.asked("POST /v1/files")
    assert requests_path.read_bytes() in upload
    assert b'name="purpose"\r\n\r\nbatch\r\n' in upload
    assert b'filename="requests.jsonl"' in upload
    [created] = server.asked("POST /v1/batches")
    assert json.loads(created) == {
        "input_file_id": "file-abc123",
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
    }


def test_a_file_goes_to_anthropic_as_a_batch(server: BatchServer, requests_path: Path) -> None:
    _, client = clients(server)
    assert submit_batch(client, requests_path) == ANTHROPIC_BATCH
    [created] = server.asked("POST /v1/messages/batches")
    assert json.loads(created) == {"requests": [json.loads(line) for line in requests_path.read_text().splitlines()]}


@pytest.mark.parametrize(("provider", "create"), [(0, "POST /v1/batches"), (1, "POST /v1/messages/batches")])
def test_a_file_is_submitted_once(server: BatchServer, requests_path: Path, provider: int, create: str) -> None:
    client = clients(server)[provider]
    batch_id = submit_batch(client, requests_path)
    with pytest.raises(FileExistsError, match=rf"submitted as {batch_id}; .*requests\.jsonl\.batch"):
        submit_batch(client, requests_path)
    assert len(server.asked(create)) == 1
    requests_path.with_name("requests.jsonl.batch").unlink()
    submit_batch(client, requests_path)
    assert len(server.asked(create)) == 2


@pytest.mark.parametrize(("provider", "create"), [(0, "POST /v1/batches"), (1, "POST /v1/messages/batches")])
def test_the_call_that_costs_money_is_not_repeated(
    server: BatchServer, requests_path: Path, provider: int, create: str
) -> None:
    client = clients(server)[provider]
    server.answers[create] = 500, b"{}"
    with pytest.raises((openai.InternalServerError, anthropic.InternalServerError)) as caught:
        submit_batch(client, requests_path)
    assert len(server.asked(create)) == 1
    assert SECRET not in str(caught.value)
    assert [path.name for path in requests_path.parent.iterdir()] == ["requests.jsonl"]  # so it can be submitted again


def test_no_text_in_the_logs(server: BatchServer, requests_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for client in clients(server):
        submit_batch(client, requests_path)
        requests_path.with_name("requests.jsonl.batch").unlink()
    assert SECRET in requests_path.read_text()
    assert SECRET not in caplog.text


def test_openai_results_come_as_they_are(server: BatchServer, tmp_path: Path) -> None:
    client, _ = clients(server)
    paths = fetch_batch_results(client, OPENAI_BATCH, tmp_path / "new" / "folder")
    assert paths == [
        tmp_path / "new/folder/batch_abc123-output.jsonl",
        tmp_path / "new/folder/batch_abc123-errors.jsonl",
    ]
    assert paths[0].read_bytes() == (RECORDED / "openai_output.jsonl").read_bytes()
    assert paths[1].read_bytes() == (RECORDED / "openai_errors.jsonl").read_bytes()
    assert set((tmp_path / "new/folder").iterdir()) == set(paths)


def test_anthropic_results_come_as_they_are(server: BatchServer, tmp_path: Path) -> None:
    _, client = clients(server)
    [path] = fetch_batch_results(client, ANTHROPIC_BATCH, tmp_path) or []
    assert path == tmp_path / f"{ANTHROPIC_BATCH}-results.jsonl"
    assert path.read_bytes() == (RECORDED / "anthropic_results.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("status", "output", "errors", "names"),
    [
        ("completed", "file-out123", None, ["output"]),
        ("expired", "file-out123", "file-err123", ["output", "errors"]),
        ("cancelled", None, "file-err123", ["errors"]),
        ("cancelled", None, None, []),
        ("validating", None, None, None),
        ("in_progress", None, None, None),
        ("finalizing", None, None, None),
        ("cancelling", None, None, None),
    ],
)
def test_every_state_of_openai(
    server: BatchServer, tmp_path: Path, status: str, output: str | None, errors: str | None, names: list[str] | None
) -> None:
    changes = {"status": status, "output_file_id": output, "error_file_id": errors}
    server.has(f"GET /v1/batches/{OPENAI_BATCH}", "openai_batch.json", **changes)
    paths = fetch_batch_results(clients(server)[0], OPENAI_BATCH, tmp_path)
    assert (None if paths is None else [path.stem.split("-")[1] for path in paths]) == names


@pytest.mark.parametrize("status", ["in_progress", "canceling"])
def test_anthropic_at_work(server: BatchServer, tmp_path: Path, status: str) -> None:
    server.has(f"GET /v1/messages/batches/{ANTHROPIC_BATCH}", "anthropic_batch.json", processing_status=status)
    assert fetch_batch_results(clients(server)[1], ANTHROPIC_BATCH, tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_openai_refuses_names_code_and_line_and_no_text(server: BatchServer, tmp_path: Path) -> None:
    fault = {"code": "invalid_json_line", "line": 7, "message": f"can't read {SECRET}", "param": None}
    changes = {"status": "failed", "errors": {"object": "list", "data": [fault]}, "output_file_id": None}
    server.has(f"GET /v1/batches/{OPENAI_BATCH}", "openai_batch.json", **changes)
    with pytest.raises(RuntimeError, match=r"batch_abc123 failed before it began: invalid_json_line \(line 7\)$"):
        fetch_batch_results(clients(server)[0], OPENAI_BATCH, tmp_path)


@pytest.mark.parametrize(("provider", "batch_id"), [(0, OPENAI_BATCH), (1, ANTHROPIC_BATCH)])
def test_a_download_that_breaks_off_leaves_no_file_that_looks_whole(
    server: BatchServer, tmp_path: Path, provider: int, batch_id: str
) -> None:
    server.cut_after = 1000  # every recorded batch is shorter, every recorded result file longer
    assert min(len(path.read_bytes()) for path in RECORDED.glob("*.jsonl")) > 1000
    with pytest.raises(Exception, match=r"(?i)peer closed|incomplete|connection"):
        fetch_batch_results(clients(server)[provider], batch_id, tmp_path)
    assert all(path.suffix == ".part" for path in tmp_path.iterdir())
    server.cut_after = None
    assert fetch_batch_results(clients(server)[provider], batch_id, tmp_path)
    assert all(path.suffix == ".jsonl" for path in tmp_path.iterdir())


def test_a_batch_that_is_not_there(server: BatchServer, tmp_path: Path) -> None:
    with pytest.raises(openai.NotFoundError):
        fetch_batch_results(clients(server)[0], "batch_other", tmp_path)
    with pytest.raises(anthropic.NotFoundError):
        fetch_batch_results(clients(server)[1], "msgbatch_other", tmp_path)
