import torch


def chunked_gradients(hidden, head, log_p, chunk_size):
    of_hidden, of_head = torch.zeros_like(hidden), torch.zeros_like(head)
    for start in range(0, len(hidden), chunk_size):
        rows = slice(start, start + chunk_size)
        log_q = (hidden[rows] @ head.t()).log_softmax(-1)
        q, ratio = log_q.exp(), log_q - log_p[rows]
        gradient = q * (ratio - (q * ratio).sum(-1, keepdim=True)) / len(hidden)
        of_hidden[rows] = gradient @ head
        of_head += gradient.t() @ hidden[rows]
    return of_hidden, of_head
