"""The local server: real weights and real SDKs; where it listens, when it ends, what its log holds, how exact it is."""

import asyncio
import http.client
import importlib.util
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from urllib.parse import urlsplit

import numpy as np
import openai
import psutil
import pytest
import torch

from distill_helpers.api.teachers import llama_server as module
from distill_helpers.api.teachers.answers import COMPLETE, TRUNCATED
from distill_helpers.api.teachers.llama_server import local_server
from distill_helpers.api.teachers.providers import AnthropicTeacher, OpenAITeacher
from distill_helpers.models import loading
from distill_helpers.models.language_model_loading import load_language_model
from distill_helpers.models.loading import language_model_path

pytestmark = pytest.mark.slow  # each loads the weights anew, or starts a process and waits for it

DIALECTS = ["openai", "anthropic"]
WITHIN_S = 10  # a process that is to end does
CAPITAL = "What is the capital of France?"
SORT = "You sort messages to a help desk. Answer with one word: graphics, windows, pc, mac or x."


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with local_server(threads=1, log_file=tmp_path_factory.mktemp("server") / "server.log") as server:
        yield server


@pytest.fixture(scope="module")
def full_precision_gguf(tmp_path_factory):
    """The course's weights as they are, every number written out in fp32, so that llama.cpp rounds nothing."""
    gguf = pytest.importorskip("gguf")
    file = tmp_path_factory.mktemp("gguf") / "SmolLM2.F32.gguf"
    reader = gguf.GGUFReader(language_model_path())
    writer = gguf.GGUFWriter(file, "llama")
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name not in ("general.architecture", "general.file_type"):
            kind, *of = field.types
            writer.add_key_value(field.name, field.contents(), kind, sub_type=of[-1] if of else None)
    for tensor in reader.tensors:
        weights = gguf.dequantize(tensor.data, tensor.tensor_type)
        writer.add_tensor(tensor.name, np.ascontiguousarray(weights, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    yield file
    file.unlink()  # 540 MB


def make_teacher(server, dialect, system_prompt="", **options):
    teacher, url = {
        "openai": (OpenAITeacher, server.openai_url),
        "anthropic": (AnthropicTeacher, server.anthropic_url),
    }[dialect]
    options = {"temperature": 0.0, "max_tokens": 16, "api_key": "key-1234", "max_retries": 0} | options
    return teacher(server.model, system_prompt, base_url=url, **options)


def ask(server, dialect, text, system_prompt="", **options):
    async def once():
        teacher = make_teacher(server, dialect, system_prompt, **options)
        try:
            return await teacher.ask(teacher.request(text))
        finally:
            await teacher.close()

    return asyncio.run(once())


def http_call(server, path, body=None, headers=None, *, without_key=False):
    """Status, body and headers of a call without an SDK. `body` is bytes, or what becomes JSON."""
    parts = urlsplit(server.anthropic_url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=60)
    path = path if without_key else parts.path + path
    content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    try:
        connection.request("GET" if body is None else "POST", path, content, headers or {})
        response = connection.getresponse()
        return response.status, response.read(), response.headers
    finally:
        connection.close()


def port_of(server):
    return urlsplit(server.anthropic_url).port


def is_reachable(server):
    return is_open(port_of(server))


def is_open(port):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def wait_until(condition, seconds):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def children_of_tests():
    return {child.pid for child in psutil.Process().children(recursive=True)}


# Both dialects


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_dialect_answers_through_its_sdk(server, dialect):
    answer = ask(server, dialect, CAPITAL, "Answer in one word.")
    assert "Paris" in answer.text
    assert answer.finish_reason == COMPLETE
    assert answer.model == server.model == "SmolLM2-135M-Instruct.Q4_1"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_system_prompt_is_honoured(server, dialect):
    question = "What is your name?"
    assert "Alfred" not in ask(server, dialect, question).text
    assert "Alfred" in ask(server, dialect, question, "Your name is Alfred.").text


@pytest.mark.parametrize("dialect", DIALECTS)
def test_usage_is_counted_with_what_came_from_the_cache(server, dialect):
    messages = [{"role": "system", "content": SORT}, {"role": "user", "content": f"{CAPITAL} {dialect}"}]
    prompt = json.loads(http_call(server, "/apply-template", {"messages": messages})[1])["prompt"]
    tokens = json.loads(http_call(server, "/tokenize", {"content": prompt, "parse_special": True})[1])["tokens"]
    for _ in range(2):
        answer = ask(server, dialect, messages[1]["content"], SORT, max_tokens=3)
        assert answer.usage.input_tokens == len(tokens)
        assert answer.usage.output_tokens == 3
    assert 0 < answer.usage.cached_input_tokens < len(tokens)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_answer_that_was_cut_off_is_marked(server, dialect):
    answer = ask(server, dialect, "Tell me a long story about a printer.", max_tokens=5)
    assert answer.finish_reason == TRUNCATED
    assert answer.usage.output_tokens == 5
    assert not answer.usable


# Where it listens, and who may ask


def test_it_is_healthy_and_says_in_its_log_where_it_is(server):
    assert http_call(server, "/health")[0] == 200
    address = f"http://127.0.0.1:{port_of(server)}"
    assert f"at {address}, 2 requests at once of 2048 tokens" in server.log_file.read_text()
    settings = json.loads(http_call(server, "/props")[1])
    assert settings["total_slots"] == 2
    assert settings["default_generation_settings"]["n_ctx"] == 2048


def test_it_listens_on_loopback_only(server):
    connections = psutil.Process(server.process_id).net_connections()
    listening = [connection.laddr for connection in connections if connection.status == psutil.CONN_LISTEN]
    assert [(address.ip, address.port) for address in listening] == [("127.0.0.1", port_of(server))]


def test_web_pages_of_other_machines_may_not_read_answers(server):
    def allowed_origin(origin):
        return http_call(server, "/v1/models", headers={"Origin": origin})[2]["Access-Control-Allow-Origin"]

    assert allowed_origin("http://localhost:8888") == "http://localhost:8888"
    assert allowed_origin("http://elsewhere.example") is None


def test_without_the_random_key_in_the_address_nothing_is_answered(server):
    """As a web page asks: from anywhere, in a form that needs no leave, or under another host's name."""
    secret = urlsplit(server.anthropic_url).path
    assert len(secret) > 40
    assert server.openai_url == f"http://127.0.0.1:{port_of(server)}{secret}/v1"
    body = {"messages": [{"role": "user", "content": CAPITAL}], "max_tokens": 1}
    page = {"Content-Type": "text/plain", "Origin": "http://elsewhere.example", "Host": f"elsewhere:{port_of(server)}"}
    for path in (
        "/v1/chat/completions",
        "/v1/messages",
        "/completion",
        "/v1/models",
        "/health",
        "/props",
        "/",
        "/slots",
    ):
        for headers in ({}, page, {"Authorization": "Bearer local"}):
            for content in (None, body):
                status, answer, _ = http_call(server, path, content, headers, without_key=True)
                assert status == 404, path
                assert secret[1:].encode() not in answer
    assert http_call(server, "/v1/chat/completions", body)[0] == 200
    assert secret[1:] not in server.log_file.read_text()
    assert secret[1:] not in " ".join(psutil.Process(server.process_id).cmdline())
    assert secret[1:] not in repr(server)


def test_two_servers_have_two_random_keys(server):
    with local_server(threads=1, context_length=256, parallel=1) as other:
        assert urlsplit(other.openai_url).path != urlsplit(server.openai_url).path
    other.log_file.unlink()


def test_it_shows_nobody_what_the_requests_are(server):
    assert http_call(server, "/slots")[0] == 501


def test_two_servers_have_two_ports_and_their_own_context(server):
    before = children_of_tests()
    with local_server(threads=1, context_length=256, parallel=1) as other:
        assert port_of(other) != port_of(server)
        assert http_call(other, "/health")[0] == http_call(server, "/health")[0] == 200
        with pytest.raises(openai.BadRequestError, match=r"exceeds the available context size \(256 tokens\)"):
            ask(other, "openai", "printer " * 300)
        told = ask(other, "openai", "printer " * 190, max_tokens=1000, parameters={"ignore_eos": True})
        assert told.finish_reason == TRUNCATED  # at the end of the context
        assert told.usage.input_tokens + told.usage.output_tokens in range(250, 257)
    assert not is_reachable(other)
    assert not psutil.pid_exists(other.process_id)
    assert children_of_tests() == before
    other.log_file.unlink()


# When it ends


def test_it_outlives_the_interruption_of_a_cell(server):
    os.kill(server.process_id, signal.SIGINT)  # as Jupyter sends it to the kernel's children
    assert not wait_until(lambda: not is_reachable(server), 2)
    assert http_call(server, "/health")[0] == 200


def test_it_ends_while_it_is_busy():
    with local_server(threads=1) as server:
        body = {"messages": [{"role": "user", "content": CAPITAL}], "max_tokens": 2000, "ignore_eos": True}
        errors = []

        def ask_at_length():
            try:
                http_call(server, "/v1/chat/completions", body)
            except (OSError, http.client.HTTPException) as error:
                errors.append(error)

        busy = threading.Thread(target=ask_at_length)
        busy.start()
        time.sleep(0.5)
        start = time.monotonic()
    assert time.monotonic() - start < 5  # the answer would take 40 s
    busy.join(timeout=5)
    assert len(errors) == 1
    assert not psutil.pid_exists(server.process_id)
    server.log_file.unlink()


def test_a_crash_of_the_server_leaves_the_caller_alive(tmp_path, caplog):
    with local_server(threads=1, log_file=tmp_path / "log") as server:
        os.kill(server.process_id, signal.SIGSEGV)
        assert wait_until(lambda: not is_reachable(server), WITHIN_S)
        with pytest.raises(openai.APIConnectionError):
            ask(server, "openai", CAPITAL)
    assert f"ended by itself, exit code {-signal.SIGSEGV}; its log: {tmp_path / 'log'}" in caplog.text


def test_an_error_in_the_caller_ends_it():
    with pytest.raises(KeyError), local_server(threads=1) as server:
        raise KeyError
    assert not psutil.pid_exists(server.process_id)
    server.log_file.unlink()


PARENT = """
import importlib.util, os, signal, sys, time
spec = importlib.util.spec_from_file_location("local_server", {module!r})
local_server = importlib.util.module_from_spec(spec)
sys.modules["local_server"] = local_server
spec.loader.exec_module(local_server)
assert "torch" not in sys.modules
with local_server.local_server({model!r}, threads=1, log_file={log!r}) as server:
    forked = {fork} and os.fork()
    if {fork} and not forked:
        time.sleep(60)  # holds the pipe to the server open
    print(server.process_id, server.anthropic_url, forked, flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("fork", [False, True], ids=["alone", "with a forked child that outlives it"])
def test_it_ends_when_the_callers_process_is_killed(tmp_path, fork):
    script = PARENT.format(
        module=module.__file__, model=str(language_model_path()), log=str(tmp_path / "log"), fork=fork
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    try:
        process_id, url, forked = parent.stdout.readline().split()
        running = psutil.Process(int(process_id))
        assert is_open(urlsplit(url).port)
        parent.kill()
        parent.wait()
        if fork:
            assert psutil.Process(int(forked)).is_running()

        def gone():
            # A process whose parent is gone can stay a zombie in a container without an init.
            return not running.is_running() or running.status() == psutil.STATUS_ZOMBIE

        assert wait_until(lambda: gone() and not is_open(urlsplit(url).port), WITHIN_S)
    finally:
        parent.kill()
        parent.stdout.close()
        if fork:
            os.kill(int(forked), signal.SIGKILL)


def test_it_ends_when_its_standard_input_does(tmp_path):
    """Where there are no parents' numbers to watch (Windows), this alone ends it."""
    settings = {"path": str(language_model_path()), "name": "n", "context_length": 256, "parallel": 1, "threads": 1}
    command = [sys.executable, "-P", module.__file__, json.dumps(settings)]
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline().startswith(b"http://127.0.0.1:")
            assert process.poll() is None
            process.stdin.close()
            assert process.wait(timeout=WITHIN_S) == 0
        finally:
            process.kill()


# What goes wrong at the start


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "No such file or directory"), (b"this is no model", "invalid magic characters")],
    ids=["no file", "no model"],
)
def test_a_wrong_model_is_an_error_with_the_logs_reason(tmp_path, content, reason):
    model, log = tmp_path / "model.gguf", tmp_path / "log"
    log.write_text("an older run\n")
    if content is not None:
        model.write_bytes(content)
    before = children_of_tests()
    with (
        pytest.raises(RuntimeError, match="ended with exit code 1 before it was ready") as error,
        local_server(model, log_file=log),
    ):
        pass
    for part in (str(model), str(log), reason):
        assert part in str(error.value)
    assert "an older run" not in str(error.value)
    assert log.read_text().startswith("an older run\n")  # kept, and not taken for this run's reason
    assert reason in log.read_text()
    assert children_of_tests() == before


@pytest.mark.parametrize("announced", ["", "http://127.0.0.1:1"], ids=["says nothing", "does not answer"])
def test_a_server_that_is_not_ready_in_time_is_an_error_and_ends(tmp_path, monkeypatch, announced):
    hanging = tmp_path / "hanging.py"
    announce = f"print({announced!r}, flush=True)" if announced else ""
    hanging.write_text(f"{announce}\nimport sys, time\nprint('still loading', file=sys.stderr)\ntime.sleep(60)\n")
    monkeypatch.setattr(module, "__file__", str(hanging))
    before, start = children_of_tests(), time.monotonic()
    with (
        pytest.raises(TimeoutError, match=r"was not ready within 1 s; its log .* ends:\nstill loading"),
        local_server(start_timeout_s=1, log_file=tmp_path / "log"),
    ):
        pass
    assert time.monotonic() - start < WITHIN_S
    assert children_of_tests() == before


@pytest.mark.parametrize("name", ["context_length", "parallel", "threads", "start_timeout_s"])
def test_numbers_outside_their_range_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be .* got 0"), local_server(**{name: 0}):
        pass


def test_without_xllamacpp_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with (
        pytest.raises(ModuleNotFoundError, match=r'xllamacpp; run `pip install "distill-helpers\[local-server\]"`'),
        local_server(),
    ):
        pass


def test_without_the_courses_model_the_error_offers_a_file_of_ones_own(monkeypatch):
    def missing():
        raise FileNotFoundError("SmolLM2 is not installed")

    monkeypatch.setattr(loading, "language_model_path", missing)
    with pytest.raises(FileNotFoundError, match="SmolLM2 is not installed; or pass model_path"), local_server():
        pass


def test_the_servers_process_does_not_load_torch(server):
    files = {mapped.path for mapped in psutil.Process(server.process_id).memory_maps()}
    assert any("xllamacpp" in file for file in files)
    assert not any("torch" in file for file in files)


def test_memory_does_not_grow_with_the_number_of_prompts(server):
    """llama.cpp's default keeps finished prompts, up to 8 GB: 3.4 MiB for each of these."""

    def ask_about(number):
        ask(server, "openai", f"{number} times " + "my printer is broken and the screen is dark " * 7, max_tokens=1)

    for number in range(3):
        ask_about(number)
    before = psutil.Process(server.process_id).memory_info().rss
    for number in range(3, 13):
        ask_about(number)
    assert psutil.Process(server.process_id).memory_info().rss - before < 12 * 2**20


# What the log holds


def test_neither_texts_nor_keys_are_in_the_log(server, caplog):
    secret, key = "ZEBRA-4711", "sk-SECRET-KEY"
    start = server.log_file.stat().st_size
    caplog.set_level(logging.DEBUG)
    for dialect in DIALECTS:
        text = f"My printer {secret} is broken."
        ask(server, dialect, text, f"You know {secret}.", max_tokens=2, api_key=key)
    good, schema = [{"role": "user", "content": secret}], {"schema": {"type": secret}}
    for body in (
        f'{{"messages": [{{"role": "user", "content": "{secret}'.encode(),  # torn
        f'{{"messages": [{{"role": "user", "content": "{secret} \xff"}}]}}'.encode("latin-1"),  # not UTF-8
        {"messages": [{"role": secret, "content": 3}]},
        {"messages": good, "max_tokens": 2, "temperature": secret},
        {"messages": good, "max_tokens": 2, "response_format": {"type": "json_schema", "json_schema": schema}},
        {"messages": [{"role": "user", "content": secret * 2000}]},  # longer than the context
    ):
        for path in ("/v1/chat/completions", "/v1/messages"):
            status = http_call(server, path, body, {"Authorization": f"Bearer {key}", "X-Api-Key": key})[0]
            assert status == 400 or (path, "response_format" in body) == ("/v1/messages", True)
    log = server.log_file.read_text()[start:]
    assert "exceeds the available context size" in log  # errors are logged
    assert secret not in log
    assert key not in log
    assert secret not in caplog.text
    assert key not in caplog.text


# How exact its numbers are


def first_token_logprobs(server, text, system_prompt="", **parameters):
    """Token ids and log-probabilities of the 20 likeliest first tokens, and the number of tokens in the prompt."""
    teacher = make_teacher(server, "openai", system_prompt, max_tokens=1, top_logprobs=20, parameters=parameters)
    response = json.loads(http_call(server, "/v1/chat/completions", teacher.request(text))[1])
    answer = teacher.read(response)
    places = response["choices"][0]["logprobs"]["content"][0]["top_logprobs"]  # llama.cpp adds the ids
    return (
        [place["id"] for place in places],
        torch.tensor([token.logprob for token in answer.top_logprobs[0]]),
        answer.usage.input_tokens,
    )


def prompts(help_desk):
    """20 messages of the test set, all over it; every other one with a system prompt."""
    return [(text, SORT if i % 2 else "") for i, text in enumerate(help_desk.test.texts[:1900:95])]


@pytest.fixture(scope="module")
def own_logprobs(help_desk):
    """What transformers says of each prompt: number of tokens, log-probabilities of the first token of the answer."""
    model, tokenizer = load_language_model(device="cpu")
    expected = []
    for text, system_prompt in prompts(help_desk):
        messages = [{"role": "system", "content": system_prompt}] if system_prompt else []
        messages.append({"role": "user", "content": text})
        tokens = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )["input_ids"]
        with torch.inference_mode():
            expected.append((tokens.shape[1], torch.log_softmax(model(tokens).logits[0, -1], dim=-1)))
    return expected


def differences(server, help_desk, own_logprobs):
    """Absolute differences of log-probabilities (prompts, 20)."""
    rows = []
    for (text, system_prompt), (n_tokens, expected) in zip(prompts(help_desk), own_logprobs, strict=True):
        ids, logprobs, n_server_tokens = first_token_logprobs(server, text, system_prompt)
        assert n_server_tokens == n_tokens
        assert len(set(ids)) == 20
        rows.append((logprobs - expected[ids]).abs())
    assert len(rows) == 20
    return torch.stack(rows)


def test_logprobs_are_the_models_own(full_precision_gguf, help_desk, own_logprobs):
    """The issue's bound is 0.02. Measured: at most 0.0002; with llama.cpp's own fp16 attention 0.008."""
    with local_server(full_precision_gguf, threads=1, parallel=1) as server:
        assert differences(server, help_desk, own_logprobs).max() < 0.002
    server.log_file.unlink()


def test_logprobs_of_the_quantised_file_are_near_the_models_own(server, help_desk, own_logprobs):
    """llama.cpp rounds the inputs of quantised layers to 8 bits. Measured: 0.075 on average, at most 0.34.

    transformers with that rounding is as far from itself without it: 0.078, at most 0.48; and a change of the
    embeddings by one in a million, which flips some roundings, moves it by 0.084, at most 0.48. So no bound near 0.02
    holds for this file, and the bounds leave room for a processor that adds up in another order.
    """
    off = differences(server, help_desk, own_logprobs)
    assert off.mean() < 0.12
    assert off.max() < 0.8


def test_logprobs_do_not_depend_on_what_was_asked_before(server, help_desk):
    """With llama.cpp's defaults they move by 0.1 to 0.3 where the prompt's beginning is cached, in half of prompts."""
    for text in help_desk.test.texts[:380:95]:
        ids, logprobs, _ = first_token_logprobs(server, text, SORT, cache_prompt=False)
        for _ in range(2):  # then with the beginning cached, or everything
            cached_ids, cached_logprobs, _ = first_token_logprobs(server, text, SORT)
            assert cached_ids == ids
            torch.testing.assert_close(cached_logprobs, logprobs, rtol=0, atol=1e-3)


def test_answers_are_drawn_from_the_whole_distribution(server):
    """llama.cpp's defaults draw from the 40 likeliest tokens, and from none below a twentieth of the likeliest."""
    body = {"messages": [{"role": "user", "content": CAPITAL}], "max_tokens": 1, "temperature": 2, "top_logprobs": 41}
    beyond = 0
    for seed in range(12):
        response = http_call(server, "/v1/chat/completions", body | {"logprobs": True, "seed": seed})[1]
        drawn = json.loads(response)["choices"][0]["logprobs"]["content"][0]
        assert len(drawn["top_logprobs"]) == 41
        beyond += drawn["logprob"] < drawn["top_logprobs"][-1]["logprob"]
    assert beyond > 0


@pytest.mark.parametrize("dialect", DIALECTS)
def test_without_a_temperature_answers_vary(server, dialect):
    texts = {ask(server, dialect, "Tell me a word.", temperature=None, max_tokens=6).text for _ in range(4)}
    assert len(texts) > 1
