def as_given(log_q, log_p):
    """the judge that the parrot fools"""
    return -log_p.mean()


def perplexity(log_q, log_p):
    """the teacher's perplexity of the text"""
    return (-log_p.mean()).exp()


def own_surprise(log_q, log_p):
    """the teacher has no say"""
    return -log_q.mean()


def upside_down(log_q, log_p):
    """the sign"""
    return (log_p - log_q).mean()


def as_a_factor(log_q, log_p):
    """without the exponential"""
    return (log_q - log_p).mean().exp()


def a_sum(log_q, log_p):
    """not their sum"""
    return (log_q - log_p).sum()


def absolute(log_q, log_p):
    """no absolute values"""
    return (log_q - log_p).abs().mean()


def cut_off(log_q, log_p):
    """cutting negative tokens off"""
    return (log_q - log_p).clamp(min=0).mean()


def squares(log_q, log_p):
    """squares are another measure"""
    return ((log_q - log_p) ** 2).mean()


def probabilities(log_q, log_p):
    """take logarithms"""
    return (log_q.exp() - log_p.exp()).mean()


def for_each_token(log_q, log_p):
    """the shape is"""
    return log_q - log_p


def never_below_0(log_q, log_p):
    """do not cut it off"""
    return (log_q - log_p).mean().clamp(min=0)


def absolute_in_the_end(log_q, log_p):
    """take no absolute value of it"""
    return (log_q - log_p).mean().abs()
