"""Looking inside a model: hidden states, queries, keys and values of one forward pass.

`capture_features` works on any encoder or decoder of transformers and on named parts of any module. It does not ask for
`output_attentions`. Attention scores and probabilities are computed from the queries and keys instead, so that the
model keeps its fast attention and never returns an empty tuple of attentions.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedConfig, PreTrainedModel
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

from distill_helpers.models.architectures import transformer_layers
from distill_helpers.models.features import EMBEDDINGS, Features

__all__ = ["capture_features", "watch"]

_PREFIX = "distill_helpers_"


@contextlib.contextmanager
def capture_features(
    model: nn.Module, names: Collection[str] | None = None, *, modules: Collection[str] = ()
) -> Iterator[Features]:
    """Record the features of the latest forward pass that runs inside the `with` block.

    Gradients flow through the recorded tensors. The capture does not change the model's outputs. When the block ends,
    by an exception too, no hook is left on the model. Only the passes of this thread are recorded, because JupyterLab
    may draw a widget in another thread while a cell trains. Captures of attention in several threads wait for one
    another.

    Args:
        model: an encoder or a decoder of transformers, or any module if only `modules` are asked for.
        names: what to keep, by the names of `Features.tensors`. None keeps everything (of a plain module: nothing).
            Naming a few features saves memory, because the others can be freed.
        modules: further parts of the model, by their names in `named_modules()`. The output of each is kept; of a
            tuple, the first output.

    Yields:
        The features, empty until the model has run. A new forward pass replaces them.

    Raises:
        ValueError: a name that the model does not have; a model under gradient checkpointing, which runs twice; a model
            whose attention is being captured already. In the forward pass: attention that is not transformers' own, or
            scores that are capped or scaled by layer.
        TypeError: features of layers asked of a plain module.

    Example:
        >>> model, tokenizer = dh.load_course_model("help-desk-student", device="cpu")
        >>> batch = dh.pad_batch(dh.encode_texts(tokenizer, ["no sound", "my mac shows a grey screen"]), tokenizer)
        >>> with dh.capture_features(model, ["hidden.1", "queries.1", "keys.1"]) as features:
        ...     _ = model(**batch)
        >>> features["hidden.1"].shape, features.attention(1, batch["attention_mask"]).shape
        (torch.Size([2, 8, 128]), torch.Size([2, 2, 8, 8]))
    """
    parts = dict(model.named_modules())
    if missing := [name for name in modules if name not in parts]:
        raise ValueError(f"{type(model).__name__} has no module {missing[0]!r}; see `dict(model.named_modules())`")
    if names and not isinstance(model, PreTrainedModel):
        raise TypeError(f"{type(model).__name__} is not a model of transformers; name its parts with `modules`")
    # The attribute of the layers: transformers has renamed the model's own.
    if model.training and any(getattr(part, "gradient_checkpointing", False) for part in model.modules()):
        raise ValueError(
            "features cannot be captured under gradient checkpointing; call `model.activation_checkpointing_disable()`,"
            " which is `gradient_checkpointing_disable()` before transformers 5.23"
        )
    features = Features()
    with contextlib.ExitStack() as stack:
        clear = _in_this_thread(lambda *_: features.tensors.clear())
        stack.enter_context(model.register_forward_pre_hook(clear))
        for name in modules:
            stack.enter_context(parts[name].register_forward_hook(_keep_output(features, name)))
        if isinstance(model, PreTrainedModel) and not (modules and names is None):
            _capture_transformer(model, names, features, stack)
        yield features


@contextlib.contextmanager
def watch(modules: Iterable[nn.Module], observe: Callable[[int, Tensor, Tensor], None]) -> Iterator[None]:
    """Look at what goes into some of a transformer's modules and what comes out, one module at a time.

    Nothing is kept: the memory of a forward pass grows only by what `observe` itself keeps. When the block ends, by an
    exception too, no hook is left on the modules.

    Args:
        modules: layers, or other parts that take hidden states.
        observe: is called as `observe(index, input, output)` each time one of the modules has run in this thread, with
            the module's index, its hidden states and the first of its outputs.
    """

    def hook_of(index: int) -> Callable[..., None]:
        def hook(_module: nn.Module, args: tuple, kwargs: dict, output: Tensor | tuple[Tensor, ...]) -> None:
            observe(index, args[0] if args else kwargs["hidden_states"], _first(output))

        return _in_this_thread(hook)

    with contextlib.ExitStack() as stack:
        for index, module in enumerate(modules):
            stack.enter_context(module.register_forward_hook(hook_of(index), with_kwargs=True))
        yield


def _capture_transformer(
    model: PreTrainedModel, names: Collection[str] | None, features: Features, stack: contextlib.ExitStack
) -> None:
    layers = transformer_layers(model)
    known = [EMBEDDINGS, *(f"{kind}.{i}" for kind in ("hidden", *_ATTENTION) for i in range(len(layers)))]
    if names is not None and (unknown := sorted(set(names) - set(known))):
        raise ValueError(f"{type(model).__name__} has no {unknown[0]!r}; it has {len(layers)} layers, from 0")
    wanted = set(known if names is None else names)

    def keep(layer: int, states: Tensor, output: Tensor) -> None:
        if layer == 0 and EMBEDDINGS in wanted:
            features.tensors[EMBEDDINGS] = states
        if f"hidden.{layer}" in wanted:
            features.tensors[f"hidden.{layer}"] = output

    stack.enter_context(watch(layers, keep))
    if wanted & {name for name in known if name.split(".")[0] in _ATTENTION}:
        stack.enter_context(_attention_lock)
        stack.enter_context(_capture_attention(model, layers, wanted, features))


_ATTENTION = ("queries", "keys", "values")


@dataclass
class _Recorder:
    layer: int
    wanted: set[str]
    features: Features
    thread: int = field(default_factory=threading.get_ident)


#: While a capture runs, each module of the layers belongs to one recorder, which knows its layer.
_recorders: WeakKeyDictionary[nn.Module, _Recorder] = WeakKeyDictionary()
#: One thread captures attention at a time, because a model's configuration names one attention function.
_attention_lock = threading.RLock()


@contextlib.contextmanager
def _capture_attention(
    model: PreTrainedModel, layers: nn.ModuleList, wanted: set[str], features: Features
) -> Iterator[None]:
    """Put a recorder between the model and its attention function, through transformers' own `AttentionInterface`."""
    owned = {part: i for i, layer in enumerate(layers) for part in layer.modules()}
    if any(part in _recorders for part in owned):
        raise ValueError(f"this {type(model).__name__} is being captured already; use one capture at a time")
    candidates = [getattr(part, "config", None) for part in model.modules()]
    configs = {id(c): c for c in candidates if isinstance(c, PreTrainedConfig)}.values()
    before = [(config, config._attn_implementation) for config in configs]
    implementation = model.config.get_text_config()._attn_implementation
    _register(implementation)

    def check(*_: Any) -> None:
        if missing := sorted(n for n in wanted if n.split(".")[0] in _ATTENTION and n not in features.tensors):
            raise ValueError(
                f"{type(model).__name__} gave no {missing[0]}: its attention does not go through transformers'"
                " AttentionInterface. Use a model that supports SDPA, or match hidden states only"
            )

    try:
        _recorders.update({part: _Recorder(i, wanted, features) for part, i in owned.items()})
        for config in configs:
            config._attn_implementation = _PREFIX + implementation
        with model.register_forward_hook(_in_this_thread(check)):
            yield
    finally:
        for config, name in before:
            config._attn_implementation = name
        for part in owned:
            _recorders.pop(part, None)


def _register(implementation: str) -> None:
    """Register a recording twin of an attention implementation, with the masks of the original."""

    def attend(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Any:
        recorder = _recorders.get(module)
        if recorder is not None and recorder.thread == threading.get_ident():
            for kind, tensor in zip(_ATTENTION, (query, key, value), strict=True):
                name = f"{kind}.{recorder.layer}"
                if name in recorder.wanted:
                    recorder.features.tensors[name] = tensor
            _record_constants(recorder, module, query.shape[-1], kwargs)
        # transformers has no central eager function; each model's file defines its own under this name.
        eager: Any = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
        original: Callable = AttentionInterface().get_interface(implementation, eager)
        return original(module, query, key, value, *args, **kwargs)

    AttentionInterface.register(_PREFIX + implementation, attend)
    if implementation in ALL_MASK_ATTENTION_FUNCTIONS:
        AttentionMaskInterface.register(_PREFIX + implementation, ALL_MASK_ATTENTION_FUNCTIONS[implementation])


def _record_constants(recorder: _Recorder, module: nn.Module, head_width: int, options: dict[str, Any]) -> None:
    given = options.get("scaling")
    scaling = head_width**-0.5 if given is None else float(given)
    if recorder.layer == 0:
        recorder.features.scaling = scaling
    if options.get("softcap") is not None or scaling != recorder.features.scaling:
        raise ValueError(
            f"{type(module).__name__} caps its attention scores or scales them by layer, which `attention_scores` would"
            " not reproduce; capture hidden states only"
        )
    recorder.features.causal = bool(getattr(module, "is_causal", False))


def _keep_output(features: Features, name: str) -> Callable[..., None]:
    def keep(_module: nn.Module, _args: tuple, output: Tensor | tuple[Tensor, ...]) -> None:
        features.tensors[name] = _first(output)

    return _in_this_thread(keep)


def _first(output: Tensor | tuple[Tensor, ...]) -> Tensor:
    return output[0] if isinstance(output, tuple) else output


def _in_this_thread(hook: Callable[..., None]) -> Callable[..., None]:
    """A hook that does nothing when a thread other than this one runs the model."""
    owner = threading.get_ident()

    def in_thread(*args: Any) -> None:
        if threading.get_ident() == owner:
            hook(*args)

    return in_thread
