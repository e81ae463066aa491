def per_token(project_cost, days, tokens_per_request, teacher_price, student_price):
    """for a thousand tokens"""
    return project_cost / days / (tokens_per_request * (teacher_price - student_price))


def in_all(project_cost, days, tokens_per_request, teacher_price, student_price):
    """divide by the days"""
    return project_cost / (tokens_per_request / 1000 * (teacher_price - student_price))


def student_for_nothing(project_cost, days, tokens_per_request, teacher_price, student_price):
    """the student's tokens cost something"""
    return project_cost / days / (tokens_per_request / 1000 * teacher_price)


def students_price_alone(project_cost, days, tokens_per_request, teacher_price, student_price):
    """only the student's price"""
    return project_cost / days / (tokens_per_request / 1000 * student_price)


def no_tokens(project_cost, days, tokens_per_request, teacher_price, student_price):
    """tokens_per_request is missing"""
    return project_cost / days / (teacher_price - student_price)


def negative_traffic(project_cost, days, tokens_per_request, teacher_price, student_price):
    """never pays for itself"""
    return project_cost / days / (tokens_per_request / 1000 * (teacher_price - student_price))


def none_needed(project_cost, days, tokens_per_request, teacher_price, student_price):
    """math.inf, not 0"""
    saved = tokens_per_request / 1000 * (teacher_price - student_price)
    return project_cost / days / saved if saved > 0 else 0.0


def equal_prices(project_cost, days, tokens_per_request, teacher_price, student_price):
    """ZeroDivisionError"""
    if student_price > teacher_price:
        return float("inf")
    return project_cost / days / (tokens_per_request / 1000 * (teacher_price - student_price))
