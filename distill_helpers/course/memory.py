"""The peak memory of a computation's tensors, on any device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["peak_tensor_bytes"]

T = TypeVar("T")


class _Watch(TorchDispatchMode):
    """Adds up the results of every operation, also of the backward pass, that have not been freed."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._alive: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        inputs = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        result = func(*args, **(kwargs or {}))
        self._alive = {key: held for key, held in self._alive.items() if not held[0].expired()}
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and (storage := tensor.untyped_storage())._cdata not in inputs:
                self._alive[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        self.peak = max(self.peak, sum(size for _, size in self._alive.values()))
        return result


def peak_tensor_bytes(function: Callable[[], T]) -> tuple[T, int]:
    """Call a function, and measure the most bytes that the tensors it makes take at one time.

    The figure is exact and the same in every run, unlike the memory of the process. It does not contain the memory that
    an operation needs inside itself. The measurement slows the function down.

    Returns:
        What the function returned, and the bytes.
    """
    with _Watch() as watch:
        result = function()
    return result, watch.peak
