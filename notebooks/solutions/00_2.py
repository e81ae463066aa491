import math


def break_even_messages(project_cost, days, tokens_per_request, teacher_price, student_price):
    saved_per_message = tokens_per_request / 1000 * (teacher_price - student_price)
    if saved_per_message <= 0:
        return math.inf
    return project_cost / days / saved_per_message
