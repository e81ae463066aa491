def distance_on_own_text(log_q, log_p):
    return (log_q - log_p).mean()
