def drawn_loss(student_logits, teacher_log_prob, drawn):
    log_q = student_logits.log_softmax(-1).gather(1, drawn[:, None])[:, 0]
    return ((log_q - teacher_log_prob).detach() * log_q).mean()
