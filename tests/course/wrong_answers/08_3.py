def _cost(n, system, text, answer, share, price, discount=0.5, unit=1_000_000):
    cached = n * system * share
    plain = n * (system + text) - cached
    dollars = plain * price["input"] + cached * price["cached"] + n * answer * price["output"]
    return dollars / unit * discount


def no_discount(n, system, text, answer, share, price):
    """batch discount is missing"""
    return _cost(n, system, text, answer, share, price, discount=1)


def no_system_prompt(n, system, text, answer, share, price):
    """with every request"""
    return _cost(n, 0, text, answer, share, price)


def nothing_cached(n, system, text, answer, share, price):
    """nothing is cached"""
    return _cost(n, system, text, answer, 0.0, price)


def everything_cached(n, system, text, answer, share, price):
    """the texts differ"""
    return _cost(n, system + text, 0, answer, share, price)


def for_a_thousand(n, system, text, answer, share, price):
    """not for a thousand"""
    return _cost(n, system, text, answer, share, price, unit=1_000)


def without_answers(n, system, text, answer, share, price):
    """the answers are missing"""
    return _cost(n, system, text, 0, share, price)


def cached_for_nothing(n, system, text, answer, share, price):
    """charged too"""
    return _cost(n, system, text, answer, share, price | {"cached": 0.0})
