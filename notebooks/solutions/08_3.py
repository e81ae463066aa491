def job_cost(n, system_tokens, text_tokens, answer_tokens, cached_share, price):
    cached = n * system_tokens * cached_share
    plain = n * (system_tokens + text_tokens) - cached
    dollars = plain * price["input"] + cached * price["cached"] + n * answer_tokens * price["output"]
    return dollars / 1_000_000 / 2
