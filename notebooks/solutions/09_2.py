import torch


def chunked_gradients(hidden, head, p, chunk_size):
    of_hidden, of_head = torch.zeros_like(hidden), torch.zeros_like(head)
    for start in range(0, len(hidden), chunk_size):
        rows = slice(start, start + chunk_size)
        q = (hidden[rows] @ head.t()).softmax(-1)
        gradient = (q - p[rows]) / len(hidden)
        of_hidden[rows] = gradient @ head
        of_head += gradient.t() @ hidden[rows]
    return of_hidden, of_head
