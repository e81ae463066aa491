def _bytes(batch, length, vocabulary, width, k):
    tokens = batch * length
    return {
        "logits": tokens * vocabulary * 4,
        "dense": tokens * vocabulary * 2,
        "top_k": tokens * (k * 6 + 4),
        "hidden": tokens * width * 2,
    }


def two_bytes(batch, length, vocabulary, width, k):
    """fp32 has four bytes"""
    return _bytes(batch, length, vocabulary, width, k) | {"logits": batch * length * vocabulary * 2}


def without_ids(batch, length, vocabulary, width, k):
    """the ids take four bytes"""
    return _bytes(batch, length, vocabulary, width, k) | {"top_k": batch * length * (k * 2 + 4)}


def without_a_bucket(batch, length, vocabulary, width, k):
    """the bucket's four bytes"""
    return _bytes(batch, length, vocabulary, width, k) | {"top_k": batch * length * k * 6}


def fp32_hidden(batch, length, vocabulary, width, k):
    """hidden: half precision"""
    return _bytes(batch, length, vocabulary, width, k) | {"hidden": batch * length * width * 4}


def a_number(batch, length, vocabulary, width, k):
    """a dictionary"""
    return batch * length * vocabulary * 4
