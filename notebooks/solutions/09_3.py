def bucket_kl(student_logits, ids, p):
    q = student_logits.softmax(-1).gather(1, ids)
    rest_p, rest_q = 1 - p.sum(-1), 1 - q.sum(-1)
    return (p * (p / q).log()).sum(-1) + rest_p * (rest_p / rest_q).log()
