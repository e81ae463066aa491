def parrot_wins(student_logits, teacher_logits):
    log_q, log_p = student_logits.log_softmax(-1), teacher_logits.log_softmax(-1)
    of_student = (log_q.exp() * (log_q - log_p)).sum(-1)
    of_parrot = -log_p.max(-1).values  # the only word with a probability
    return (of_parrot < of_student).double().mean()
