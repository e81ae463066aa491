def followed_entries(n_student, n_teacher):
    if n_teacher % n_student:
        raise ValueError(f"{n_teacher} layers are no multiple of {n_student}")
    k = n_teacher // n_student  # the ratio of the layers; the embeddings are no layer
    return [k * entry for entry in range(n_student + 1)]
