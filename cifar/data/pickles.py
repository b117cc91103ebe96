"""A restricted unpickler: uint8 arrays, bytes, lists, ints and dicts with text keys, and nothing else."""

import io
import pickle
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

MAX_TEXT_BYTES = 64 << 20  # bytes that one pickle may encode from text


def load(content: bytes) -> Any:
    """Return the object in a pickle, with its arrays as `Array`.

    Raises:
        pickle.UnpicklingError: the pickle contains a type or operation that is not allowed.
        Exception: of nearly any type, if the pickle is damaged.
    """
    return _Unpickler(content).load()


# Opcodes that allocate the memory they claim, hash any operand, or use a registry instead of find_class.
_REFUSED = "BYTEARRAY8", "EMPTY_SET", "ADDITEMS", "FROZENSET", "DICT", "EXT1", "EXT2", "EXT4"


class _Unpickler(pickle._Unpickler):
    """Allows arrays and bytes beside the types that need no import.

    Based on Python's own unpickler and not on its C twin, which allocates as much as a hostile memo index claims.
    """

    dispatch: ClassVar[dict[int, Callable[..., None]]] = dict(pickle._Unpickler.dispatch)
    for _name in _REFUSED:
        del dispatch[getattr(pickle, _name)[0]]

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content), encoding="bytes")
        self.text_bytes_left = MAX_TEXT_BYTES

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        """The stand-in for a global that arrays or bytes need; every other global is refused."""
        if (module, name) == ("_codecs", "encode"):
            return self.encode
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name}") from None

    def encode(self, text: str, encoding: str) -> bytes:
        """Decode bytes: pickle protocols below 3 store them as latin-1 text."""
        if encoding not in ("latin1", b"latin1"):
            raise pickle.UnpicklingError(f"_codecs.encode to {brief(encoding)}")
        self.text_bytes_left -= len(text)
        if self.text_bytes_left < 0:
            raise pickle.UnpicklingError(f"more than {MAX_TEXT_BYTES:,} bytes of text")
        return text.encode("latin1")

    def load_empty_dictionary(self) -> None:
        self.append(_Dict())  # type: ignore[attr-defined]

    dispatch[pickle.EMPTY_DICT[0]] = load_empty_dictionary


class _Dict(dict[Any, Any]):
    """A dict that only accepts text keys: hashing a hostile key can crash Python or take for ever."""

    def __setitem__(self, key: object, value: object) -> None:
        if not isinstance(key, bytes | str):
            raise pickle.UnpicklingError(f"a key that is {describe(key)}")
        super().__setitem__(key, value)


class _Uint8:
    """Stands for numpy's dtype in a pickle; only uint8 is allowed, and its state is ignored."""

    def __init__(self, dtype: object, *_: object) -> None:
        if dtype not in ("u1", "|u1", b"u1", b"|u1"):
            raise pickle.UnpicklingError(f"numpy.dtype {brief(dtype)}")

    def __setstate__(self, state: object) -> None:
        pass


class Array:
    """Stands for a numpy array in a pickle: the array is made here from its state, never by numpy's own unpickling.

    Attributes:
        value: the array, uint8.
    """

    value: NDArray[np.uint8] = np.empty(0, np.uint8)

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: tuple[int, tuple[int, ...], _Uint8, bool, bytes]) -> None:
        _, shape, dtype, is_column_major, raw = state
        if not isinstance(dtype, _Uint8):
            raise pickle.UnpicklingError("an array that is not of uint8")
        flat = np.frombuffer(raw, np.uint8)
        if is_column_major:
            self.value = flat.reshape(shape, order="F")
        else:
            self.value = flat.reshape(shape)


_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy.core.multiarray", "_reconstruct"): Array,
    ("numpy._core.multiarray", "_reconstruct"): Array,
    ("numpy", "ndarray"): Array,
    ("numpy", "dtype"): _Uint8,
}


def describe(value: Any) -> str:
    """The type and size of a value that may be hostile."""
    if isinstance(value, Array):
        return f"a uint8 array of shape {value.value.shape}"
    name = type(value).__name__
    if hasattr(value, "__len__"):
        return f"{name} of {len(value)}"
    return name


def brief(value: Any) -> str:
    """The value itself where that is short, else its description: printing a hostile one can take for ever."""
    if _is_short(value):
        return repr(value)
    if isinstance(value, list) and 0 < len(value) <= 12 and all(isinstance(item, bytes | str) for item in value):
        return ", ".join(repr(item[:20]) for item in value)
    return describe(value)


def _is_short(value: Any) -> bool:
    if isinstance(value, bytes | str):
        return len(value) < 40
    if isinstance(value, int | float):
        return abs(value) < 1 << 60
    return value is None
