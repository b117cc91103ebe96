"""How a model with a float or quantised input scales the bytes of an image."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar.errors import UsageError, one_of


@dataclass(frozen=True)
class InputRange:
    """A range that pixels are scaled to: its smallest and largest value, and the scaling of float32 bytes."""

    low: float
    high: float
    scale: Callable[[NDArray[np.float32]], NDArray[np.float32]]


RANGES: dict[str, InputRange] = {
    "0..1": InputRange(0.0, 1.0, lambda pixels: pixels / np.float32(255)),
    "0..255": InputRange(0.0, 255.0, lambda pixels: pixels),
    "-1..1": InputRange(-1.0, 1.0, lambda pixels: pixels / np.float32(127.5) - np.float32(1)),
}
"""By what `--input-range` calls them."""


class PreprocessingNeededError(UsageError):
    """The file does not say how it scales pixels. Exit code 2."""


@dataclass(frozen=True)
class Preprocessing:
    """How a model scales bytes: a range, or a mean and a standard deviation per channel of pixels from 0 to 1.

    Attributes:
        range: a key of RANGES.
        mean, std: of three channels; only together and without a range. With neither, the file must say it.
    """

    range: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the values, float32, that the model expects of bytes (N, 32, 32, 3)."""
        pixels = images.astype(np.float32)
        if self.range is not None:
            return RANGES[self.range].scale(pixels)
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        scaled: NDArray[np.float32] = (pixels / np.float32(255) - mean) / std
        return scaled

    def __str__(self) -> str:
        """As the command line has it."""
        if self.range:
            return f"--input-range={self.range}"
        return f"--mean {_commas(self.mean)} --std {_commas(self.std)}"

    def __bool__(self) -> bool:
        """Whether it says anything."""
        return self.range is not None or self.mean is not None


def parse_preprocessing(input_range: str | None, mean: str | None, std: str | None) -> Preprocessing:
    """Return the preprocessing that the options of a command name.

    Raises:
        UsageError: an unknown range, not three numbers, or a range beside mean and standard deviation.
    """
    if input_range is not None:
        if mean or std:
            raise UsageError("--input-range goes without --mean and --std.")
        return Preprocessing(one_of("range for --input-range", input_range, RANGES))
    if (mean is None) != (std is None):
        raise UsageError("--mean and --std go together.")
    if mean is None or std is None:
        return Preprocessing()
    return Preprocessing(None, _three_numbers("--mean", mean), _three_numbers("--std", std))


def _three_numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        values = tuple(map(float, text.split(",")))
    except ValueError:
        values = ()
    usable = len(values) == 3 and bool((np.abs(values) < 1e6).all())
    if not usable or (option == "--std" and 0 in values):
        raise UsageError(f"{option} {text}: expected three numbers with commas, such as 0.49,0.48,0.45.")
    return values


def _commas(values: Any) -> str:
    return ",".join(map("{:g}".format, values or ()))
