"""Tokenizers of several kinds for texts that are given word by word, with vocabularies written by hand.

Trainers of vocabularies break ties at random, and these tokenizers are to be equal in every test.
"""

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

_SPECIAL = ["<pad>", "<unk>", "<s>", "</s>"]
_WORDS = ["the", "miller", "daughter", "one", "since", "had", "screen"]
_LETTERS = "abcdefghijklmnopqrstuvwxyzö0123456789.,'-_"


def _wordpiece():
    pieces = [*_WORDS, *_LETTERS, *(f"##{letter}" for letter in _LETTERS), "##er", "##ing", "##date", "##ey"]
    tokenizer = Tokenizer(models.WordPiece({token: i for i, token in enumerate(_SPECIAL + pieces)}, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def _bpe(add_prefix_space):
    """Byte-level, with a merge for each beginning of a few words: "t", "th", "the"."""
    merges: dict[tuple[str, str], None] = {}
    for word in _WORDS:
        for start in ("", "Ġ"):
            parts = [start + word[0], *word[1:]] if start else list(word)
            if start:
                merges[(start, word[0])] = None
            while len(parts) > 1:
                merges[(parts[0], parts[1])] = None
                parts[:2] = ["".join(parts[:2])]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = list(dict.fromkeys([*_SPECIAL, *alphabet, *("".join(merge) for merge in merges), "Ġa"]))
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, [*merges, ("Ġ", "a")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    return tokenizer


def _unigram(prepend):
    words = [(f"▁{word}", -4.0) for word in _WORDS]
    letters = [(letter, -8.0) for letter in _LETTERS]
    pieces = [(token, 0.0) for token in _SPECIAL] + words + letters + [("▁", -3.0), ("▁a", -4.0), ("ing", -5.0)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=1))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prepend)
    return tokenizer


def word_tokenizer(kind, *, add_prefix_space=True, prepend="always"):
    """A fast tokenizer: "wordpiece", "bpe" (byte-level) or "unigram" (Metaspace); each adds <s> and </s>."""
    makers = {"wordpiece": _wordpiece, "bpe": lambda: _bpe(add_prefix_space), "unigram": lambda: _unigram(prepend)}
    tokenizer = makers[kind]()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 2), ("</s>", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        model_max_length=512,
    )
