def share_that_agrees(first_logits, second_logits):
    same = first_logits.argmax(dim=-1) == second_logits.argmax(dim=-1)
    return same.double().mean()
