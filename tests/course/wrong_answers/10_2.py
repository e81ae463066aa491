def _logs(student_logits, teacher_logits):
    return student_logits.log_softmax(-1), teacher_logits.log_softmax(-1)


def _reverse_kl(log_q, log_p):
    return (log_q.exp() * (log_q - log_p)).sum(-1)


def the_student_wins(student_logits, teacher_logits):
    """the share that the student wins"""
    log_q, log_p = _logs(student_logits, teacher_logits)
    return (_reverse_kl(log_q, log_p) < -log_p.max(-1).values).double().mean()


def forward(student_logits, teacher_logits):
    """that is the forward KL of the student"""
    log_q, log_p = _logs(student_logits, teacher_logits)
    return (-log_p.max(-1).values < (log_p.exp() * (log_p - log_q)).sum(-1)).double().mean()


def own_parrot(student_logits, teacher_logits):
    """it has to be the teacher's"""
    log_q, log_p = _logs(student_logits, teacher_logits)
    word = log_q.argmax(-1, keepdim=True)
    return (-log_p.gather(1, word)[:, 0] < _reverse_kl(log_q, log_p)).double().mean()


def cross_entropy(student_logits, teacher_logits):
    """subtract its entropy"""
    log_q, log_p = _logs(student_logits, teacher_logits)
    return (-log_p.max(-1).values < -(log_q.exp() * log_p).sum(-1)).double().mean()


def probability(student_logits, teacher_logits):
    """not that probability"""
    log_q, log_p = _logs(student_logits, teacher_logits)
    return (log_p.exp().max(-1).values < _reverse_kl(log_q, log_p)).double().mean()


def of_the_means(student_logits, teacher_logits):
    """compare at each place first"""
    log_q, log_p = _logs(student_logits, teacher_logits)
    return (-log_p.max(-1).values.mean() < _reverse_kl(log_q, log_p).mean()).double()


def mean_over_words(student_logits, teacher_logits):
    """a sum over the words"""
    log_q, log_p = _logs(student_logits, teacher_logits)
    return (-log_p.max(-1).values < (log_q.exp() * (log_q - log_p)).mean(-1)).double().mean()


def at_each_place(student_logits, teacher_logits):
    """the shape is"""
    log_q, log_p = _logs(student_logits, teacher_logits)
    return (-log_p.max(-1).values < _reverse_kl(log_q, log_p)).double()
