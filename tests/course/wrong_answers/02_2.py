import torch


def _fitted(p, logits):
    log_p = p.log() - p.log().mean(dim=-1, keepdim=True)
    centred = logits - logits.mean(dim=-1, keepdim=True)
    return float((centred**2).sum() / (centred * log_p).sum())


def _made_again(p, logits, temperature):
    return torch.allclose(torch.softmax(logits / temperature, dim=-1), p, atol=1e-4)


def upside_down(p, logits):
    """that is 1/T"""
    temperature = _fitted(p, logits)
    return 1 / temperature if _made_again(p, logits, temperature) else 0.0


def with_the_constants(p, logits):
    """take it off first"""
    return float((logits**2).sum() / (logits * p.log()).sum())


def without_logarithm(p, logits):
    """their logarithms are"""
    centred = logits - logits.mean(dim=-1, keepdim=True)
    return float((centred**2).sum() / (centred * p).sum())


def exactly_equal(p, logits):
    """allow for rounding"""
    temperature = _fitted(p, logits)
    return temperature if torch.equal(torch.softmax(logits / temperature, dim=-1).float().double(), p) else 0.0


def two_classes_of_each_message(p, logits):
    """compare every class"""
    temperatures = (logits[:, 0] - logits[:, 1]) / (p[:, 0] / p[:, 1]).log()
    return float(temperatures[0]) if torch.allclose(temperatures, temperatures[0]) else 0.0


def the_first_message_alone(p, logits):
    """compare every message"""
    temperature = _fitted(p[:1], logits[:1])
    return temperature if _made_again(p[:1], logits[:1], temperature) else 0.0


def never_refuses(p, logits):
    """no one temperature makes it"""
    return _fitted(p, logits)


def checks_the_order_alone(p, logits):
    """no one temperature makes it"""
    same_order = torch.equal(p.argsort(dim=-1), logits.argsort(dim=-1))
    return max(_fitted(p, logits), 0.0) if same_order else 0.0


def too_loose(p, logits):
    """make the labels again and compare"""
    temperature = _fitted(p, logits)
    made_again = torch.softmax(logits / temperature, dim=-1)
    return temperature if temperature > 0 and torch.allclose(made_again, p, atol=0.1) else 0.0


def negative_too(p, logits):
    """a temperature is positive"""
    temperature = _fitted(p, logits)
    return temperature if _made_again(p, logits, temperature) else 0.0
