def of_all_messages(logits, labels):
    """divides by all messages"""
    return (logits.argsort(dim=-1, descending=True)[:, 1] == labels).double().mean()


def top_two(logits, labels):
    """first or the second choice"""
    return (logits.topk(2).indices == labels[:, None]).any(dim=-1).double().mean()


def first_choice(logits, labels):
    """accuracy of the first choice"""
    return (logits.argmax(-1) == labels).double().mean()


def ascending(logits, labels):
    """sort in descending order"""
    order = logits.argsort(dim=-1)
    wrong = logits.argmax(-1) != labels
    return (order[wrong, 0] == labels[wrong]).double().mean()
