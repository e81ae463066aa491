def _kl(own, others):
    log_q, log_p = own.log_softmax(-1), others.log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def not_shifted(student_logits, teacher_logits, labels):
    """not shifted"""
    return _kl(student_logits, teacher_logits)[labels != -100].mean()


def everything_counts(student_logits, teacher_logits, labels):
    """prompt and padding"""
    return _kl(student_logits[:, :-1], teacher_logits[:, :-1]).mean()


def divided_by_all(student_logits, teacher_logits, labels):
    """not by all positions"""
    counted = labels[:, 1:] != -100
    return (_kl(student_logits[:, :-1], teacher_logits[:, :-1]) * counted).sum() / counted.numel()


def divided_by_sequences(student_logits, teacher_logits, labels):
    """not of sequences"""
    counted = labels[:, 1:] != -100
    return _kl(student_logits[:, :-1], teacher_logits[:, :-1])[counted].sum() / len(labels)


def mean_of_means(student_logits, teacher_logits, labels):
    """sequences' means"""
    counted = labels[:, 1:] != -100
    values = _kl(student_logits[:, :-1], teacher_logits[:, :-1])
    return sum(values[row][counted[row]].mean() for row in range(len(labels))) / len(labels)


def the_other_shift(student_logits, teacher_logits, labels):
    """the wrong way: position t"""
    return _kl(student_logits[:, 1:], teacher_logits[:, 1:])[labels[:, :-1] != -100].mean()


def reversed_divergence(student_logits, teacher_logits, labels):
    """wrong way round"""
    counted = labels[:, 1:] != -100
    return _kl(teacher_logits[:, :-1], student_logits[:, :-1])[counted].mean()


def late_mask(student_logits, teacher_logits, labels):
    """the mask is one too late"""
    log_q, log_p = student_logits[:, :-1].log_softmax(-1), teacher_logits[:, :-1].log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)[labels[:, :-1] != -100].mean()
