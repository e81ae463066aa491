def what_remains(teacher_price, student_price):
    """still pay"""
    return student_price / teacher_price


def times_cheaper(teacher_price, student_price):
    """how many times cheaper"""
    return teacher_price / student_price


def dollars(teacher_price, student_price):
    """in dollars"""
    return teacher_price - student_price


def wrong_base(teacher_price, student_price):
    """divide by the teacher's price"""
    return (teacher_price - student_price) / student_price


def percent(teacher_price, student_price):
    """in percent"""
    return 100 * (1 - student_price / teacher_price)


def by_way_of_the_factor(teacher_price, student_price):
    """ZeroDivisionError"""
    return 1 - 1 / (teacher_price / student_price)


def never_negative(teacher_price, student_price):
    """do not hide it"""
    return max(0.0, 1 - student_price / teacher_price)


def without_sign(teacher_price, student_price):
    """the sign matters"""
    return abs(teacher_price - student_price) / teacher_price
