def accumulated_loss(batches):
    total, n_tokens = 0.0, 0
    for student_logits, teacher_logits, labels in batches:
        log_q = student_logits[:, :-1].log_softmax(-1)
        log_p = teacher_logits[:, :-1].log_softmax(-1)
        counted = labels[:, 1:] != -100
        total += (log_p.exp() * (log_p - log_q)).sum(-1)[counted].sum()
        n_tokens += counted.sum()
    return total / n_tokens
