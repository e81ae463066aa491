"""Small tokenizers of every kind that `trim_vocabulary` knows, trained on the course's own messages."""

import functools
import json

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertTokenizer, PreTrainedTokenizerFast

import distill_helpers as dh

N_TEXTS, VOCAB_SIZE = 60, 700
LLAMA3_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def _byte_level(words=None):
    if words is None:
        return pre_tokenizers.ByteLevel(add_prefix_space=False)
    split = pre_tokenizers.Split(Regex(words), "isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def _template(tokenizer, single, pair, *tokens):
    ids = [(token, tokenizer.token_to_id(token)) for token in tokens]
    return processors.TemplateProcessing(single=single, pair=pair, special_tokens=ids)


def _gpt2(texts):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = _byte_level(), decoders.ByteLevel()
    _train(tokenizer, texts, trainers.BpeTrainer, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.add_special_tokens(["<|endoftext|>"])  # the last index, as in GPT-2
    end = dict.fromkeys(("bos_token", "eos_token", "unk_token", "pad_token"), "<|endoftext|>")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **end)


def _roberta(texts):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = _byte_level(), decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    _train(tokenizer, texts, trainers.BpeTrainer, initial_alphabet=alphabet, special_tokens=special)
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True)])
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        cls_token="<s>",
        eos_token="</s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token=AddedToken("<mask>", lstrip=True),
    )


def _llama3(texts):
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer, tokenizer.decoder = _byte_level(LLAMA3_WORDS), decoders.ByteLevel()
    _train(tokenizer, texts, trainers.BpeTrainer, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.add_special_tokens(["<|begin|>", "<|end|>", "<|reserved_0|>", "<|pad|>"])
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            _template(tokenizer, "<|begin|> $A", "<|begin|> $A <|begin|> $B:1", "<|begin|>"),
        ]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|begin|>",
        eos_token="<|end|>",
        pad_token="<|pad|>",
        chat_template="{% for m in messages %}<|begin|>{{ m['content'] }}<|end|>{% endfor %}",
        padding_side="left",
        model_input_names=["input_ids", "attention_mask"],
    )


def _qwen(texts):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer, tokenizer.decoder = _byte_level(LLAMA3_WORDS), decoders.ByteLevel()
    _train(tokenizer, texts, trainers.BpeTrainer, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tokenizer.add_tokens(["<tool_call>"])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=["<|im_start|>"],
    )


def _llama2(texts):
    """Characters with bytes to fall back on."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(split=True)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    _train(tokenizer, texts, trainers.BpeTrainer, special_tokens=["<unk>", "<s>", "</s>", *BYTES])
    tokenizer = _without_added(tokenizer, BYTES)
    tokenizer.post_processor = _template(tokenizer, "<s> $A", "<s> $A <s>:1 $B:1", "<s>")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="</s>"
    )


def _gpt1(texts):
    """Characters and an unknown token; the last symbol of a word has a mark."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.BertPreTokenizer(), decoders.BPEDecoder("</w>")
    _train(tokenizer, texts, trainers.BpeTrainer, special_tokens=["<unk>", "<pad>"], end_of_word_suffix="</w>")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<pad>")


def _bpe_with_prefix(texts):
    """Characters and an unknown token; every symbol but the first of a word has a mark."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", continuing_subword_prefix="##"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece("##")
    _train(tokenizer, texts, trainers.BpeTrainer, special_tokens=["<unk>", "<pad>"], continuing_subword_prefix="##")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<pad>")


def _t5(texts):
    tokenizer = _unigram(texts, ["<pad>", "</s>", "<unk>"])
    tokenizer.add_special_tokens([f"<extra_id_{i}>" for i in range(10)])
    tokenizer.post_processor = _template(tokenizer, "$A </s>", "$A </s> $B </s>", "</s>")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>", pad_token="<pad>")


def _xlm_r(texts):
    tokenizer = _unigram(texts, ["<s>", "<pad>", "</s>", "<unk>"])
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True)])
    tokenizer.post_processor = _template(tokenizer, "<s> $A </s>", "<s> $A </s> </s> $B </s>", "<s>", "</s>")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        cls_token="<s>",
        eos_token="</s>",
        sep_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        mask_token=AddedToken("<mask>", lstrip=True),
    )


def _albert(texts):
    lower = normalizers.Sequence([normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()])
    return _with_classifier_token(
        _unigram(texts, ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"], lower), "<pad>", "<unk>"
    )


def _deberta_v2(texts):
    tokenizer = _unigram(texts, ["[PAD]", "[CLS]", "[SEP]", "[UNK]"])
    tokenizer.add_special_tokens(["[MASK]"])
    return _with_classifier_token(tokenizer, "[PAD]", "[UNK]")


def _bert(texts):
    return BertTokenizer(vocab=_wordpiece(texts, ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]).get_vocab())


def _mpnet(texts):
    """WordPiece in a class other than BERT's, with RoBERTa's special tokens."""
    tokenizer = _wordpiece(texts, ["<s>", "<pad>", "</s>", "[UNK]"])
    tokenizer.post_processor = processors.BertProcessing(("</s>", 2), ("<s>", 0))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, cls_token="<s>", sep_token="</s>", pad_token="<pad>", unk_token="[UNK]"
    )


def _with_classifier_token(tokenizer, pad, unknown):
    template = "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", "[CLS]", "[SEP]"
    tokenizer.post_processor = _template(tokenizer, *template)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        pad_token=pad,
        unk_token=unknown,
        model_input_names=["input_ids", "attention_mask", "token_type_ids"],
    )


def _wordpiece(texts, special):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    _train(tokenizer, texts, trainers.WordPieceTrainer, special_tokens=special)
    return tokenizer


def _unigram(texts, special, normalizer=None):
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizer or normalizers.NFKC()
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    unknown = next(token for token in special if "unk" in token.lower())
    _train(tokenizer, texts, trainers.UnigramTrainer, special_tokens=special, unk_token=unknown)
    return tokenizer


def _train(tokenizer, texts, trainer, **options):
    tokenizer.train_from_iterator(texts, trainer(vocab_size=VOCAB_SIZE, show_progress=False, **options))


def _without_added(tokenizer, tokens):
    """The same vocabulary, with these tokens as entries of the model alone."""
    pipeline = json.loads(tokenizer.to_str())
    pipeline["added_tokens"] = [token for token in pipeline["added_tokens"] if token["content"] not in tokens]
    return Tokenizer.from_str(json.dumps(pipeline))


BYTE_LEVEL = {"GPT-2": _gpt2, "RoBERTa": _roberta, "Llama 3": _llama3, "Qwen": _qwen}
CHARACTERS = {"Llama 2": _llama2, "GPT-1": _gpt1, "BPE with a prefix": _bpe_with_prefix}
UNIGRAM = {"T5": _t5, "XLM-R": _xlm_r, "ALBERT": _albert, "DeBERTa-v2": _deberta_v2}
WORDPIECE = {"BERT": _bert, "MPNet": _mpnet}
KINDS = {**BYTE_LEVEL, **CHARACTERS, **UNIGRAM, **WORDPIECE}


@functools.cache
def trained_tokenizer(kind):
    """A tokenizer of this kind. It is shared: copy it before you change it."""
    return KINDS[kind](messages())


@functools.cache
def messages():
    """The messages that the tokenizers are trained on."""
    return dh.load_help_desk().train.texts[:N_TEXTS]
