def token_loss(student_logits, teacher_logits, labels):
    log_q = student_logits[:, :-1].log_softmax(-1)
    log_p = teacher_logits[:, :-1].log_softmax(-1)
    counted = labels[:, 1:] != -100
    values = (log_p.exp() * (log_p - log_q)).sum(-1)
    return values[counted].mean()
