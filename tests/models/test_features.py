"""Attention from queries and keys, by hand, and features in one line."""

import pytest
import torch

from distill_helpers.models.features import Features, attention_pairs


def test_grouped_queries_share_their_keys():
    queries, keys = torch.randn(1, 4, 3, 2), torch.randn(1, 2, 3, 2)
    features = Features({"queries.0": queries, "keys.0": keys}, scaling=0.5)
    scores = features.attention_scores(0)
    for head in range(4):
        torch.testing.assert_close(scores[0, head], 0.5 * queries[0, head] @ keys[0, head // 2].T)


def test_attention_of_padding_is_0_and_of_tokens_sums_to_1():
    features = Features({"queries.0": torch.randn(2, 2, 4, 3), "keys.0": torch.randn(2, 2, 4, 3)}, causal=True)
    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 0]])
    probabilities = features.attention(0, mask)
    torch.testing.assert_close(probabilities.sum(-1), mask[:, None].expand(2, 2, 4).float())
    assert (probabilities[0, :, :, :2] == 0).all()
    assert (probabilities.triu(1) == 0).all()


def test_pairs_are_of_tokens_and_not_later_where_causal():
    mask = torch.tensor([[1, 1, 0]])
    assert attention_pairs(mask).int().tolist() == [[[[1, 1, 0], [1, 1, 0], [0, 0, 0]]]]
    assert attention_pairs(mask.bool(), causal=True).int().tolist() == [[[[1, 0, 0], [1, 1, 0], [0, 0, 0]]]]
    with pytest.raises(ValueError, match=r"\(batch, sequence\), got \(1, 1, 3\)"):
        attention_pairs(mask[None])


def test_features_are_shown_in_one_line():
    assert repr(Features()) == "Features(nothing captured yet)"
    few = Features({"hidden.0": torch.ones(2, 3, 4), "keys.0": torch.ones(2, 2, 3, 2)})
    assert repr(few) == "Features(2 tensors: hidden.0, keys.0)"
    many = Features({f"hidden.{i}": torch.ones(2, 3, 4) for i in range(12)})
    assert repr(many) == "Features(12 tensors: hidden.0, hidden.1, hidden.2, …)"


def test_a_feature_that_was_not_captured_is_named_with_those_that_were():
    with pytest.raises(KeyError, match=r"'hidden\.1' was not captured; there are \['hidden\.0'\]"):
        Features({"hidden.0": torch.ones(1)})["hidden.1"]
