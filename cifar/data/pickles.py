"""Reading pickles without trust: uint8 arrays, bytes, lists, ints and dicts with text for keys, and nothing more."""

import io
import pickle
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

MAX_TEXT_BYTES = 64 << 20  # bytes that one pickle may make of text


def load(content: bytes) -> Any:
    """Return what a pickle holds, its arrays as `Array`.

    Raises:
        pickle.UnpicklingError: it holds something that is not admitted.
        Exception: it is damaged; nearly every kind.
    """
    return _Unpickler(content).load()


# Opcodes that take the memory they claim, hash whatever they are given, or ask a registry instead of find_class.
_REFUSED = "BYTEARRAY8", "EMPTY_SET", "ADDITEMS", "FROZENSET", "DICT", "EXT1", "EXT2", "EXT4"


class _Unpickler(pickle._Unpickler):
    """Admits arrays and bytes beside the types that need no import.

    The pure Python unpickler: its C twin allocates whatever a hostile memo index asks for.
    """

    dispatch: ClassVar[dict[int, Callable[..., None]]] = dict(pickle._Unpickler.dispatch)
    for _name in _REFUSED:
        del dispatch[getattr(pickle, _name)[0]]

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content), encoding="bytes")
        self.left = MAX_TEXT_BYTES  # bytes that may still be made of text

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        if (module, name) == ("_codecs", "encode"):
            return self.encode
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name}") from None

    def encode(self, text: str, encoding: str) -> bytes:
        """How pickle protocols below 3 write bytes from Python 3."""
        if encoding not in ("latin1", b"latin1"):
            raise pickle.UnpicklingError(f"_codecs.encode to {brief(encoding)}")
        self.left -= len(text)
        if self.left < 0:
            raise pickle.UnpicklingError(f"more than {MAX_TEXT_BYTES:,} bytes of text")
        return text.encode("latin1")

    def load_empty_dictionary(self) -> None:
        self.append(_Dict())  # type: ignore[attr-defined]

    dispatch[pickle.EMPTY_DICT[0]] = load_empty_dictionary


class _Dict(dict[Any, Any]):
    """A dict whose keys are texts: hashing a hostile key can crash Python or take for ever."""

    def __setitem__(self, key: object, value: object) -> None:
        if not isinstance(key, bytes | str):
            raise pickle.UnpicklingError(f"a key that is {describe(key)}")
        super().__setitem__(key, value)


class _Uint8:
    """Stands for numpy's uint8 in a pickle, the one kind of number admitted; its state is of no interest."""

    def __init__(self, kind: object, *_: object) -> None:
        if kind not in ("u1", "|u1", b"u1", b"|u1"):
            raise pickle.UnpicklingError(f"numpy.dtype {brief(kind)}")

    def __setstate__(self, state: object) -> None:
        pass


class Array:
    """Stands for a numpy array in a pickle: its state becomes an array here, never inside numpy's own unpickling."""

    value: NDArray[np.uint8] = np.empty(0, np.uint8)

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: tuple[int, tuple[int, ...], _Uint8, bool, bytes]) -> None:
        _, shape, kind, by_columns, raw = state
        if not isinstance(kind, _Uint8):
            raise pickle.UnpicklingError("an array that is not of uint8")
        self.value = np.frombuffer(raw, np.uint8).reshape(shape, order="F" if by_columns else "C")


_ADMITTED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy.core.multiarray", "_reconstruct"): Array,
    ("numpy._core.multiarray", "_reconstruct"): Array,
    ("numpy", "ndarray"): Array,
    ("numpy", "dtype"): _Uint8,
}


def describe(value: Any) -> str:
    """The kind and size of a value that may be hostile."""
    if isinstance(value, Array):
        return f"a uint8 array of shape {value.value.shape}"
    return f"{type(value).__name__} of {len(value)}" if hasattr(value, "__len__") else type(value).__name__


def brief(value: Any) -> str:
    """The value itself where that is short: others are described, since a hostile one can take for ever to print."""
    if isinstance(value, list) and 0 < len(value) <= 12 and all(isinstance(item, bytes | str) for item in value):
        return ", ".join(repr(item[:20]) for item in value)
    short = value is None or (isinstance(value, int | float) and abs(value) < 1 << 60)
    return repr(value) if short or (isinstance(value, bytes | str) and len(value) < 40) else describe(value)
