import torch


def agreement_beyond_luck(first_logits, second_logits):
    n_messages, n_classes = first_logits.shape
    first, second = first_logits.argmax(dim=-1), second_logits.argmax(dim=-1)
    agree = (first == second).double().mean()
    shares = [torch.bincount(answers, minlength=n_classes).double() / n_messages for answers in (first, second)]
    luck = (shares[0] * shares[1]).sum()
    return 0.0 if luck == 1 else (agree - luck) / (1 - luck)
