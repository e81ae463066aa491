def runner_up_rates(logits, labels):
    order = logits.argsort(dim=-1, descending=True)
    wrong = order[:, 0] != labels
    hit = (order[:, 1] == labels)[wrong].double()
    least_sure_first = logits[wrong].softmax(dim=-1).amax(dim=-1).argsort()
    half = len(hit) // 2
    return hit[least_sure_first[:half]].mean(), hit[least_sure_first[half:]].mean()
