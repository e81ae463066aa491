def smaller_feed_forward(up, bias, down, importance, n):
    neurons = importance.topk(n).indices
    return up[neurons], bias[neurons], down[:, neurons]
