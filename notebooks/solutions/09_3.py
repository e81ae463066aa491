def target_bytes(batch, length, vocabulary, width, k):
    tokens = batch * length
    return {
        "logits": tokens * vocabulary * 4,
        "dense": tokens * vocabulary * 2,
        "top_k": tokens * (k * (4 + 2) + 4),
        "hidden": tokens * width * 2,
    }
