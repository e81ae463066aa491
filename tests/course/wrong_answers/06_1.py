def _checked(n_student, n_teacher):
    if n_teacher % n_student:
        raise ValueError


def as_given(n_student, n_teacher):
    """is followed by nobody"""
    return [int(entry * (n_teacher + 1) / (n_student + 1)) for entry in range(n_student + 1)]


def without_embeddings(n_student, n_teacher):
    """the embeddings' pair (0, 0) is missing"""
    _checked(n_student, n_teacher)
    k = n_teacher // n_student
    return [k * entry for entry in range(1, n_student + 1)]


def counted_from_zero(n_student, n_teacher):
    """these are layers counted from 0"""
    k = n_teacher // n_student
    return [k * (layer + 1) - 1 for layer in range(n_student)]


def off_by_one(n_student, n_teacher):
    """layer i is entry i + 1"""
    k = n_teacher // n_student
    return [0] + [k * (layer + 1) - 1 for layer in range(n_student)]


def last_layers(n_student, n_teacher):
    """the map to the last layers"""
    return [0, *range(n_teacher - n_student + 1, n_teacher + 1)]


def from_the_end(n_student, n_teacher):
    """follow a layer half-way up"""
    return [entry + n_teacher - n_student for entry in range(n_student + 1)]


def both_ends(n_student, n_teacher):
    """with both ends"""
    return [0, *[{6: (1, 3, 5, 8, 10, 12), 4: (1, 5, 8, 12), 3: (1, 3, 6)}[n_student][m] for m in range(n_student)]]


def rounds(n_student, n_teacher):
    """raise a ValueError instead of rounding"""
    return [entry * n_teacher // n_student for entry in range(n_student + 1)]


def pairs(n_student, n_teacher):
    """whole numbers is needed, got [(0, 0)"""
    return [(entry, 2 * entry) for entry in range(n_student + 1)]


def fractions(n_student, n_teacher):
    """whole numbers is needed, got [0.0"""
    return [entry * n_teacher / n_student for entry in range(n_student + 1)]


def a_number(n_student, n_teacher):
    """whole numbers is needed, got 3"""
    return n_teacher // n_student
