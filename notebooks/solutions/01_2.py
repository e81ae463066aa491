def unsoften(soft, temperature):
    power = soft**temperature
    return power / power.sum(dim=-1, keepdim=True)
