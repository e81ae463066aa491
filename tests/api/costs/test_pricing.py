"""Costs, estimates and upper bounds. Expected costs are worked out by hand beside each test."""

import itertools

import pytest
from api_prices import price
from hypothesis import given, strategies as st

from distill_helpers.api.costs.price_table import PriceTable, load_prices
from distill_helpers.api.costs.pricing import cost_usd, estimate_api_distillation_cost, worst_case_usage
from distill_helpers.api.teachers.answers import Usage
from distill_helpers.api.teachers.providers import AnthropicTeacher, OpenAITeacher

GPT_4O = load_prices()["gpt-4o"]


# The cost of a usage


def test_each_kind_of_token_at_its_price():
    usage = Usage(input_tokens=1000, output_tokens=200, cached_input_tokens=300, cache_write_tokens=100)
    # 600 x 3 + 300 x 0.3 + 100 x 3.75 + 200 x 15 = 1800 + 90 + 375 + 3000 = 5265 millionths
    assert cost_usd(usage, price()) == 0.005265
    assert cost_usd(usage, price(), batch=True) == 0.0026325
    assert cost_usd(usage, price(batch_discount=0.25), batch=True) == 0.00394875
    assert cost_usd(Usage(), price()) == 0


def test_cached_tokens_counted_apart_from_the_input_are_charged():
    assert cost_usd(Usage(input_tokens=10, cached_input_tokens=1000), price()) == 0.0003


def test_a_model_without_a_batch_price():
    no_batch = price(batch_discount=None)
    with pytest.raises(ValueError, match=r"^m has no batch price; .*batch=False"):
        cost_usd(Usage(input_tokens=1), no_batch, batch=True)
    assert cost_usd(Usage(input_tokens=1_000_000), no_batch) == 3


def test_a_million_small_answers_lose_no_cent():
    # One answer costs 7 x 0.15 + 1 x 0.60 = 1.65 millionths; a million of them 1.65 dollars.
    mini = load_prices()["gpt-4o-mini"]
    one = Usage(input_tokens=7, output_tokens=1)
    assert cost_usd(one, mini) == 1.65e-06
    assert cost_usd(Usage(input_tokens=7_000_000, output_tokens=1_000_000), mini) == 1.65


# The estimate


def test_the_example_of_the_article_at_the_price_of_its_time():
    # 1,000 x 200 input tokens at 2.50 and 1,000 x 300 output tokens at 10: 0.50 + 3.00. (The article says 5.50.)
    assert estimate_api_distillation_cost(1000) == {
        "n_examples": 1000,
        "n_samples": 1,
        "teacher_model": "gpt-4o",
        "provider": "openai",
        "batch": False,
        "input_tokens": 200_000,
        "cached_input_tokens": 0,
        "output_tokens": 300_000,
        "input_cost_usd": 0.5,
        "output_cost_usd": 3.0,
        "total_cost_usd": 3.5,
        "cost_per_example_cents": 0.35,
        "price_as_of": GPT_4O.as_of.isoformat(),
        "price_source": GPT_4O.source,
    }


def test_every_option_together_by_hand():
    result = estimate_api_distillation_cost(
        500,
        40,
        10,
        "m",
        system_prompt_tokens=100,
        cached_share=0.9,
        n_samples=4,
        batch=True,
        prices=PriceTable([price()]),
    )
    # 2,000 requests: 80,000 tokens of input at 3; 200,000 of system prompt, 180,000 of them read at 0.3, 20,000 written
    # at 3.75; 20,000 of output at 15; half of it all. (240,000 + 54,000 + 75,000) / 2 and 300,000 / 2 millionths
    assert (result["input_tokens"], result["cached_input_tokens"]) == (280_000, 180_000)
    assert result["input_cost_usd"] == 0.1845
    assert result["output_cost_usd"] == 0.15
    assert result["total_cost_usd"] == 0.3345
    assert result["cost_per_example_cents"] == 0.0669  # four answers


def test_without_a_cache_the_system_prompt_is_input_like_any_other():
    result = estimate_api_distillation_cost(10, 0, 0, "m", system_prompt_tokens=1000, prices=PriceTable([price()]))
    assert result["total_cost_usd"] == 0.03  # 10,000 at 3


def test_the_cached_share_is_of_the_system_prompt_alone():
    table = PriceTable([price()])
    result = estimate_api_distillation_cost(10, 1000, 0, "m", cached_share=1.0, prices=table)
    assert (result["cached_input_tokens"], result["total_cost_usd"]) == (0, 0.03)
    # 0.29 x 100 is 28.999999999999996 as floats
    few = estimate_api_distillation_cost(1, 0, 0, "m", system_prompt_tokens=100, cached_share=0.29, prices=table)
    assert few["cached_input_tokens"] == 29


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_examples": 0}, "n_examples must be a whole number of at least 1, got 0"),
        ({"n_examples": -5}, "n_examples must .* got -5"),
        ({"n_examples": 10.0}, r"n_examples must be a whole number of at least 1, got 10\.0"),
        ({"n_examples": True}, "n_examples must .* got True"),
        ({"n_examples": 1, "avg_input_tokens": -1}, "avg_input_tokens must be a whole number of at least 0, got -1"),
        ({"n_examples": 1, "avg_output_tokens": 1.5}, r"avg_output_tokens .* got 1\.5"),
        ({"n_examples": 1, "avg_output_tokens": "300"}, "avg_output_tokens .* got '300'"),
        ({"n_examples": 1, "system_prompt_tokens": None}, "system_prompt_tokens .* got None"),
        ({"n_examples": 1, "n_samples": 0}, "n_samples must be a whole number of at least 1, got 0"),
        ({"n_examples": 1, "cached_share": 90}, "cached_share must be a part of 0 to 1 .* got 90"),
        ({"n_examples": 1, "cached_share": float("nan")}, "cached_share .* got nan"),
        ({"n_examples": 1, "teacher_model": "gpt-3"}, "no price for the model 'gpt-3'"),
        (
            {
                "n_examples": 1,
                "teacher_model": "claude-haiku-5-5",
                "avg_input_tokens": 90_000,
                "system_prompt_tokens": 10_001,
            },
            "claude-haiku-5-5 is for prompts of up to 100000 tokens, not 100001",
        ),
    ],
)
def test_an_estimate_of_nonsense_names_the_value(arguments, message):
    with pytest.raises(ValueError, match=message):
        estimate_api_distillation_cost(**arguments)


def test_an_empty_table_is_not_taken_for_none():
    assert PriceTable([])
    with pytest.raises(ValueError, match="no price for the model 'gpt-4o'"):
        estimate_api_distillation_cost(1, prices=PriceTable([]))


# The upper bound

SYSTEM, TEXT = "Trier ce message, s'il vous plaît.", "Grüße 🙂"  # 35 and 12 bytes of UTF-8
SETTINGS = {"system_prompt": SYSTEM, "max_tokens": 7, "api_key": "x", "base_url": "http://127.0.0.1:1"}
OPENAI, ANTHROPIC = OpenAITeacher("m", **SETTINGS), AnthropicTeacher("m", **SETTINGS)


def test_the_bound_by_hand():
    # 256, 16 for each message and for the answer, the bytes of the strings in the messages (roles too).
    openai = 256 + 3 * 16 + 35 + 12 + len("system") + len("user")
    assert worst_case_usage(OPENAI.request(TEXT)) == Usage(openai, 7, cache_write_tokens=openai)
    anthropic = 256 + 2 * 16 + 35 + 12 + len("user")
    assert worst_case_usage(ANTHROPIC.request(TEXT)) == Usage(anthropic, 7, cache_write_tokens=anthropic)


def test_no_input_and_no_output_can_cost_more_than_the_bound():
    request = ANTHROPIC.request(TEXT)
    most = worst_case_usage(request)
    tokens = most.input_tokens
    shares = [(0, 0), (tokens, 0), (0, tokens), (tokens // 4, tokens // 2)]
    for entry, (cached, written) in itertools.product(load_prices(), shares):
        used = Usage(tokens, 7, cached_input_tokens=cached, cache_write_tokens=written)
        assert cost_usd(used, entry) <= cost_usd(most, entry)


def test_the_limit_of_output():
    request = OPENAI.request(TEXT)
    assert worst_case_usage(request, max_tokens=3).output_tokens == 3
    assert worst_case_usage(request | {"n": 5}).output_tokens == 35
    for name in ("max_completion_tokens", "max_tokens"):
        assert worst_case_usage({"messages": [], name: 9}).output_tokens == 9
    both = {"messages": [], "max_tokens": 9, "max_completion_tokens": 20, "max_output_tokens": 3}
    assert worst_case_usage(both).output_tokens == 20
    with pytest.raises(ValueError, match="no limit of output: pass max_tokens"):
        worst_case_usage({"messages": [{"role": "user", "content": TEXT}]})


def test_tools_schemas_and_content_in_parts_count():
    plain = {"max_tokens": 1, "messages": [{"role": "user", "content": "four"}], "system": "four"}
    parts = {
        "max_tokens": 1,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "four"}]}],
        "system": [{"type": "text", "text": "four"}],
    }
    assert worst_case_usage(parts).input_tokens == worst_case_usage(plain).input_tokens + 2 * len("text")
    schema = {"type": "json_schema", "name": "ä"}  # {"type": "json_schema", "name": "ä"} is 37 bytes
    with_schema = worst_case_usage(plain | {"response_format": schema})
    assert with_schema.input_tokens == worst_case_usage(plain).input_tokens + 1024 + 37


@given(st.text(min_size=1), st.text())
def test_a_token_for_each_byte_stays_under_the_bound(text, system):
    messages = [{"role": "system", "content": system}, {"role": "user", "content": text}]
    tokens = len(text.encode(errors="surrogatepass")) + len(system.encode(errors="surrogatepass"))
    assert tokens + 25 + 3 * 5 <= worst_case_usage({"messages": messages}, 1).input_tokens


@pytest.mark.slow
def test_a_real_tokenizer_and_its_chat_template_stay_under_the_bound():
    from transformers import AutoTokenizer  # slow to import, and nothing else here needs it

    from distill_helpers.models.loading import language_model_path

    path = language_model_path()
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    texts = [".", "word " * 500, "🏳️‍🌈" * 50, "漢字" * 100, "Z͑ͫ̓a̴l̵g̷o" * 20, "\x00\t\n \u2028", "ﷺ" * 30, "\U000e0041" * 40]
    for system, text in itertools.product(["", "Sort this mail."], texts):
        request = OpenAITeacher("m", **SETTINGS | {"system_prompt": system}).request(text)
        tokens = tokenizer.apply_chat_template(request["messages"], tokenize=True, add_generation_prompt=True)[
            "input_ids"
        ]
        bound = worst_case_usage(request).input_tokens
        assert len(tokens) <= bound
        assert bound <= len(text.encode()) + 350  # a bound, not just a huge number
