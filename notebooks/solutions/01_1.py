def runner_up_rate(logits, labels):
    order = logits.argsort(dim=-1, descending=True)
    wrong = order[:, 0] != labels
    return (order[wrong, 1] == labels[wrong]).double().mean()
