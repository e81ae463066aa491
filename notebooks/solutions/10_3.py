def tokens_per_call(acceptances):
    tokens = there_is_one = 1.0
    for acceptance in acceptances:
        there_is_one *= acceptance
        tokens += there_is_one
    return tokens
