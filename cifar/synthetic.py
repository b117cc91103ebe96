"""A stand-in for CIFAR-10 that anybody can make in seconds: ten classes of small drawn pictures.

Every picture shows one glyph, at any place, of any size and colour, leaning either way, upon a shaded background
with noise. Where a glyph stands and which way it faces says nothing about its class, and some pairs of classes
differ in little: that is what makes shifts and mirror images worth learning from.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

CLASS_NAMES = ("disc", "ring", "square", "frame", "triangle", "cross", "bars", "arrow", "hook", "moon")
SIDE = 32
CHUNK = 500  # images drawn at once

Plane = NDArray[np.float32]


def draw(n: int, seed: int, split: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw n pictures: images uint8 (n, 32, 32, 3) and labels uint8 (n,), the classes as equal in number as n allows.

    Args:
        n: how many.
        seed: of everything random; picture i is the same for every n > i.
        split: 0 for training, 1 for test: other pictures from the same seed.
    """
    labels = (np.arange(n) % len(CLASS_NAMES)).astype(np.uint8)
    chunks = [
        _pictures(labels[start : start + CHUNK], np.random.default_rng([seed, split, start]))
        for start in range(0, n, CHUNK)
    ]
    return np.concatenate(chunks), labels


def _pictures(labels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    n = CHUNK  # always a full chunk, so that a shorter last one holds the same pictures

    def uniform(low: float, high: float, *shape: int) -> Plane:
        return rng.uniform(low, high, (n, *shape)).astype(np.float32)

    size = uniform(5, 9, 1, 1)
    centre_x, centre_y = uniform(9, 23, 1, 1), uniform(9, 23, 1, 1)
    lean, facing = uniform(-0.35, 0.35, 1, 1), np.where(uniform(0, 1, 1, 1) < 0.5, 1, -1)
    pixels = np.arange(SIDE, dtype=np.float32)
    across, down = (pixels - centre_x) / size, (pixels[:, None] - centre_y) / size
    x, y = facing * (across + lean * down), down - lean * across

    distance = np.empty((n, SIDE, SIDE), np.float32)
    for index, shape in enumerate(_SHAPES):
        mine = np.flatnonzero(labels == index)
        distance[mine] = shape(x[mine], y[mine])
    cover = np.clip(0.5 - distance * size, 0, 1)[..., None]

    ground, slope = uniform(0, 1, 1, 1, 3), uniform(-0.3, 0.3, 2, 1, 1, 1)
    ramp = (pixels / SIDE - 0.5)[:, None]
    shade = slope[:, 0] * ramp + slope[:, 1] * ramp[:, None]
    ink = ground + np.where(uniform(0, 1, 1, 1, 3) < 0.5, 1, -1) * uniform(0.15, 0.45, 1, 1, 3)
    clean = (ground + shade) * (1 - cover) + (ink + shade) * cover
    noisy = clean + rng.normal(0, 0.12, clean.shape).astype(np.float32)
    return np.rint(np.clip(noisy, 0, 1) * 255).astype(np.uint8)[: len(labels)]


# Signed distances, about 1 at the edge of the picture's glyph and negative inside it.
def _disc(x: Plane, y: Plane) -> Plane:
    return np.sqrt(x * x + y * y) - 1


def _ring(x: Plane, y: Plane) -> Plane:
    return np.abs(_disc(x, y) + 0.25) - 0.25


def _box(x: Plane, y: Plane, width: float = 0.9, height: float = 0.9) -> Plane:
    return np.maximum(np.abs(x) - width, np.abs(y) - height)


def _frame(x: Plane, y: Plane) -> Plane:
    return np.abs(_box(x, y) + 0.25) - 0.25


def _triangle(x: Plane, y: Plane) -> Plane:
    return np.maximum(np.abs(x) * 0.87 - y * 0.5 - 0.5, y - 0.9)


def _cross(x: Plane, y: Plane) -> Plane:
    return np.minimum(_box(x, y, 1, 0.3), _box(x, y, 0.3, 1))


def _bars(x: Plane, y: Plane) -> Plane:
    return np.minimum(_box(x, y + 0.6, 1, 0.27), _box(x, y - 0.6, 1, 0.27))


def _arrow(x: Plane, y: Plane) -> Plane:
    return np.minimum(_box(x + 0.4, y, 0.6, 0.25), np.maximum(-x - 0.1, x * 0.7 + np.abs(y) - 0.7))


def _hook(x: Plane, y: Plane) -> Plane:
    return np.minimum(_box(x + 0.6, y, 0.3, 1), _box(x, y - 0.7, 0.9, 0.3))


def _moon(x: Plane, y: Plane) -> Plane:
    return np.maximum(_disc(x, y), 0.8 - np.sqrt((x - 0.45) ** 2 + y * y))


_SHAPES: tuple[Callable[[Plane, Plane], Plane], ...] = (
    _disc,
    _ring,
    _box,
    _frame,
    _triangle,
    _cross,
    _bars,
    _arrow,
    _hook,
    _moon,
)
