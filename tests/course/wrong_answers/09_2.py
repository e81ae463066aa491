def no_bucket(student_logits, ids, p):
    """the bucket is missing"""
    q = student_logits.softmax(-1).gather(1, ids)
    return (p * (p / q).log()).sum(-1)


def renormalised(student_logits, ids, p):
    """renormalised: then"""
    q = student_logits.softmax(-1).gather(1, ids)
    p = p / p.sum(-1, keepdim=True)
    return (p * (p / q).log()).sum(-1)


def both_renormalised(student_logits, ids, p):
    """both renormalised"""
    q = student_logits.softmax(-1).gather(1, ids)
    p, q = p / p.sum(-1, keepdim=True), q / q.sum(-1, keepdim=True)
    return (p * (p / q).log()).sum(-1)


def its_own_tokens(student_logits, ids, p):
    """gather it at the teacher's"""
    q = student_logits.softmax(-1).topk(ids.shape[1], dim=1).values
    rest_p, rest_q = (1 - p.sum(-1)).clamp(min=1e-12), 1 - q.sum(-1)
    return (p * (p / q).log()).sum(-1) + rest_p * (rest_p / rest_q).log()


def a_mean(student_logits, ids, p):
    """not their mean"""
    q = student_logits.softmax(-1).gather(1, ids)
    rest_p, rest_q = (1 - p.sum(-1)).clamp(min=1e-12), 1 - q.sum(-1)
    return ((p * (p / q).log()).sum(-1) + rest_p * (rest_p / rest_q).log()).mean()


def a_bucket_of_nan(student_logits, ids, p):
    """not a number"""
    q = student_logits.softmax(-1).gather(1, ids)
    rest_p, rest_q = 1 - p.sum(-1), 1 - q.sum(-1)
    return (p * (p / q).log()).sum(-1) + rest_p * (rest_p / rest_q).log()


def the_wrong_way_round(student_logits, ids, p):
    """wrong way round"""
    q = student_logits.softmax(-1).gather(1, ids)
    rest_p, rest_q = ((1 - inside.sum(-1)).clamp(min=1e-12) for inside in (p, q))
    return (q * (q / p).log()).sum(-1) + rest_q * (rest_q / rest_p).log()


def softmax_of_the_gathered(student_logits, ids, p):
    """then gather"""
    q = student_logits.gather(1, ids).softmax(-1)
    return (p * (p / q).log()).sum(-1)


def clamped_too_high(student_logits, ids, p):
    """; at [4]"""
    q = student_logits.softmax(-1).gather(1, ids)
    rest_p, rest_q = ((1 - inside.sum(-1)).clamp(min=1e-4) for inside in (p, q))
    return (p * (p / q).log()).sum(-1) + rest_p * (rest_p / rest_q).log()
