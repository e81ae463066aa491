"""The divergences written out from their definitions, apart from the package, for any dtype."""


def divergence_in_fp64(student, teacher, name, temperature, beta=0.5, normalized=True, skew=0.1):
    """T² · D for each position, differentiable; pass fp64."""
    log_q, log_p = (student / temperature).log_softmax(-1), (teacher / temperature).log_softmax(-1)
    q, p = log_q.exp(), log_p.exp()
    if name == "generalized_jsd" and beta in (0.0, 1.0):
        name = {0.0: "forward_kl", 1.0: "reverse_kl"}[beta] if normalized else "zero"
    if name == "zero":
        value = 0 * q.sum(-1)
    elif name == "forward_kl":
        value = (p * (log_p - log_q)).sum(-1)
    elif name == "reverse_kl":
        value = (q * (log_q - log_p)).sum(-1)
    elif name == "generalized_jsd":
        log_m = (beta * p + (1 - beta) * q).log()
        value = (beta * p * (log_p - log_m) + (1 - beta) * q * (log_q - log_m)).sum(-1)
        value = value / (beta * (1 - beta)) if normalized else value
    elif name == "skew_kl":
        value = (p * (log_p - (skew * p + (1 - skew) * q).log())).sum(-1)
    elif name == "skew_reverse_kl":
        value = (q * (log_q - (skew * q + (1 - skew) * p).log())).sum(-1)
    else:
        raise ValueError(f"write {name!r} out here, from its definition")
    return temperature**2 * value
