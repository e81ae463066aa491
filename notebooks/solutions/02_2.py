import torch


def temperature_of(p, logits):
    log_p = p.log() - p.log().mean(dim=-1, keepdim=True)
    centred = logits - logits.mean(dim=-1, keepdim=True)
    temperature = float((centred**2).sum() / (centred * log_p).sum())
    made_again = torch.softmax(logits / temperature, dim=-1)
    return temperature if temperature > 0 and torch.allclose(made_again, p, atol=1e-4) else 0.0
