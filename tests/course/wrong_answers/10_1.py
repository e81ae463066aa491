def _log_q(student_logits, drawn):
    return student_logits.log_softmax(-1).gather(1, drawn[:, None])[:, 0]


def as_given(student_logits, teacher_log_prob, drawn):
    """over all draws is 0"""
    return (_log_q(student_logits, drawn) - teacher_log_prob).mean()


def hard_labels(student_logits, teacher_log_prob, drawn):
    """over all draws is 0"""
    return -_log_q(student_logits, drawn).mean()


def upside_down(student_logits, teacher_log_prob, drawn):
    """the sign is wrong"""
    log_q = _log_q(student_logits, drawn)
    return ((teacher_log_prob - log_q).detach() * log_q).mean()


def a_sum(student_logits, teacher_log_prob, drawn):
    """the loss is a mean"""
    log_q = _log_q(student_logits, drawn)
    return ((log_q - teacher_log_prob).detach() * log_q).sum()


def not_a_constant(student_logits, teacher_log_prob, drawn):
    """has to be a constant"""
    log_q = _log_q(student_logits, drawn)
    return ((log_q - teacher_log_prob) * log_q).mean()


def weighed_twice(student_logits, teacher_log_prob, drawn):
    """with q once more"""
    log_q = _log_q(student_logits, drawn)
    return (log_q.exp() * (log_q - teacher_log_prob)).mean()


def weighed_twice_by_a_constant(student_logits, teacher_log_prob, drawn):
    """not even with a constant q"""
    log_q = _log_q(student_logits, drawn)
    return ((log_q.exp() * (log_q - teacher_log_prob)).detach() * log_q).mean()


def teacher_alone(student_logits, teacher_log_prob, drawn):
    """the student's own is missing"""
    return (-teacher_log_prob * _log_q(student_logits, drawn)).mean()


def probabilities(student_logits, teacher_log_prob, drawn):
    """the difference of their logarithms"""
    log_q = _log_q(student_logits, drawn)
    return ((log_q.exp() - teacher_log_prob.exp()).detach() * log_q).mean()


def for_each_token(student_logits, teacher_log_prob, drawn):
    """return a scalar tensor"""
    log_q = _log_q(student_logits, drawn)
    return (log_q - teacher_log_prob).detach() * log_q


def all_detached(student_logits, teacher_log_prob, drawn):
    """no gradient reaches the student"""
    log_q = _log_q(student_logits, drawn)
    return ((log_q - teacher_log_prob) * log_q).mean().detach()
