"""A server's reason: its code and parameter in every shape, and neither text nor key."""

import pytest

from distill_helpers.api.teachers.server_reasons import server_reason

REQUEST = {
    "model": "m",
    "max_completion_tokens": 5,
    "temperature": 0.0,
    "messages": [{"role": "user", "content": "hunter2 lost my_parcel"}],
}
DETAIL = [{"type": "extra_forbidden", "loc": ["body", "max_completion_tokens"], "msg": "Extra inputs", "input": 5}]


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        (
            {"code": "unsupported_parameter", "type": "t", "param": "temperature"},
            "unsupported_parameter",
            "temperature",
        ),
        ({"error": {"code": None, "type": "invalid_request_error", "param": None}}, "invalid_request_error", None),
        ({"error": {"code": 400, "type": "BadRequestError", "param": None}}, "BadRequestError", None),
        ({"detail": DETAIL}, "extra_forbidden", "max_completion_tokens"),
        ({"object": "error", "message": {"detail": DETAIL}, "type": "x"}, "extra_forbidden", "max_completion_tokens"),
        ({"type": "error", "error": {"type": "not_found_error", "message": "model: m"}}, "not_found_error", None),
        ({"error": {"message": "unknown field max_completion_tokens"}}, None, "max_completion_tokens"),
        ({"error": "unknown field max_completion_tokens"}, None, None),
        ({"error": {"message": "temperature and max_completion_tokens"}}, None, None),  # which of them?
        ({"error": {"param": "messages[0].content", "code": "c"}}, "c", "messages[0].content"),
        # Neither a text nor a key
        ({"error": {"code": "hunter2", "type": "my_parcel", "param": "lost"}}, None, None),
        ({"error": {"code": "sk-proj-0123456789", "type": "a sentence about it", "param": "x" * 60}}, None, None),
        ({"error": {"code": "Incorrect key: sk-1", "param": ["hunter2"]}}, None, None),
        (None, None, None),
        ("hunter2", None, None),
        ([], None, None),
        ({"error": {"error": {"error": {"error": {"error": {"error": {}}}}}}}, None, None),
    ],
    ids=str,
)
def test_the_reason_in_every_shape(body, code, param) -> None:
    assert server_reason(body, REQUEST) == (code, param)
