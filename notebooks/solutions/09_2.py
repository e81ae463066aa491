def bucket_kl(student_logits, ids, p):
    q = student_logits.softmax(-1).gather(1, ids)
    rest_p, rest_q = ((1 - inside.sum(-1)).clamp(min=1e-12) for inside in (p, q))
    return (p * (p / q).log()).sum(-1) + rest_p * (rest_p / rest_q).log()
