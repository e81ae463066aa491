def price_cut(teacher_price, student_price):
    return 1 - student_price / teacher_price
