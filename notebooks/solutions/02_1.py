def stable_softmax(logits, temperature):
    scaled = logits / temperature
    powers = (scaled - scaled.amax(dim=-1, keepdim=True)).exp()
    return powers / powers.sum(dim=-1, keepdim=True)
