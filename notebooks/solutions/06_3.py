def nearest_heads(student, teacher, mask):
    no_key = ~mask[:, None, None, None, :]  # no token looks at padding
    pairs = (
        student[:, :, None],
        teacher.detach()[:, None],
    )  # (messages, student's heads, teacher's heads, queries, keys)
    log_q, log_p = (scores.masked_fill(no_key, -1e9).log_softmax(dim=-1) for scores in pairs)
    per_query = (log_p.exp() * (log_p - log_q)).sum(dim=-1) * mask[:, None, None]
    per_message = per_query.sum(dim=-1) / mask.sum(dim=-1)[:, None, None]  # over the message's own queries
    return per_message.mean(dim=0).argmin(dim=-1)
