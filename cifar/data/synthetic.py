"""A stand-in for CIFAR-10 that anybody can make in seconds: ten classes of small drawn pictures.

Every picture shows one glyph, bright upon a dark shaded ground, with noise; in some it is faint, in a few invisible.
Where it stands, how large it is and which way it faces says nothing of its class. The training pictures come in
series: twenty of the same glyph in the same pose, in other light. So a network meets few poses and can learn them by
heart; the test pictures show each pose once, and shifts and mirror images are worth something.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

SIDE = 32
CHUNK = 1000  # pictures drawn at once
SERIES = 20  # training pictures of the same glyph in the same pose
NOISE = 0.15  # standard deviation, of the range from black to white
FOG = 0.3  # share of the pictures whose glyph is faint, from all but clear to invisible

Plane = NDArray[np.float32]


def draw(n: int, seed: int, split: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw n pictures: images uint8 (n, 32, 32, 3) and labels uint8 (n,), the classes as equal in number as can be.

    Args:
        n: how many.
        seed: of everything random; picture i is the same for every n > i.
        split: 0 for training, in series; 1 for test, every picture in a pose of its own.
    """
    labels = (np.arange(n) % len(CLASS_NAMES)).astype(np.uint8)
    chunks = [
        _chunk(np.random.default_rng([seed, split, start]), SERIES if split == 0 else 1)[: n - start]
        for start in range(0, n, CHUNK)
    ]
    return np.concatenate(chunks), labels


def _chunk(rng: np.random.Generator, series: int) -> NDArray[np.uint8]:
    """CHUNK pictures, class by class in turn, `series` of each class in the same pose."""

    def uniform(low: float, high: float, n: int, *shape: int) -> Plane:
        return rng.uniform(low, high, (n, *shape)).astype(np.float32)

    poses = CHUNK // series
    size = uniform(6, 11, poses, 1, 1)
    centre_x, centre_y = uniform(11, 21, poses, 1, 1), uniform(11, 21, poses, 1, 1)
    lean, facing = uniform(-0.35, 0.35, poses, 1, 1), np.where(uniform(0, 1, poses, 1, 1) < 0.5, 1, -1)
    pixels = np.arange(SIDE, dtype=np.float32)
    across, down = (pixels - centre_x) / size, (pixels[:, None] - centre_y) / size
    x, y = facing * (across + lean * down), down - lean * across
    classes = np.arange(poses) % len(CLASS_NAMES)
    distance = np.empty((poses, SIDE, SIDE), np.float32)
    for index, shape in enumerate(SHAPES.values()):
        distance[classes == index] = shape(x[classes == index], y[classes == index])
    cover = np.clip(0.5 - distance * size, 0, 1)[..., None]

    picture = np.arange(CHUNK)
    pose = picture // (len(CLASS_NAMES) * series) * len(CLASS_NAMES) + picture % len(CLASS_NAMES)
    ground, ink = uniform(0.1, 0.4, CHUNK, 1, 1, 3), uniform(0.5, 1.0, CHUNK, 1, 1, 3)
    slope = uniform(-0.3, 0.3, CHUNK, 2, 1, 1, 1)
    ramp = (pixels / SIDE - 0.5)[:, None]
    shade = slope[:, 0] * ramp + slope[:, 1] * ramp[:, None]
    clear = np.minimum(1, uniform(0, 1, CHUNK, 1, 1, 1) / FOG)
    clean = ground + (ink - ground) * clear * cover[pose] + shade
    noisy = clean + rng.normal(0, NOISE, clean.shape).astype(np.float32)
    pictures: NDArray[np.uint8] = np.rint(np.clip(noisy, 0, 1) * 255).astype(np.uint8)
    return pictures


def _disc(x: Plane, y: Plane) -> Plane:
    distance: Plane = np.sqrt(x * x + y * y) - 1
    return distance


def _box(x: Plane, y: Plane, width: float = 0.9, height: float = 0.9) -> Plane:
    distance: Plane = np.maximum(np.abs(x) - width, np.abs(y) - height)
    return distance


def _hollow(distance: Plane) -> Plane:
    """The outline of a shape, inside its edge."""
    outline: Plane = np.abs(distance + 0.25) - 0.25
    return outline


# Signed distances: 0 at a glyph's edge, negative inside, in units of its size.
SHAPES: dict[str, Callable[[Plane, Plane], Plane]] = {
    "disc": _disc,
    "ring": lambda x, y: _hollow(_disc(x, y)),
    "square": _box,
    "frame": lambda x, y: _hollow(_box(x, y)),
    "triangle": lambda x, y: np.maximum(np.abs(x) * 0.87 - y * 0.5 - 0.5, y - 0.9),
    "cross": lambda x, y: np.minimum(_box(x, y, 1, 0.3), _box(x, y, 0.3, 1)),
    "bars": lambda x, y: np.minimum(_box(x, y + 0.6, 1, 0.27), _box(x, y - 0.6, 1, 0.27)),
    "arrow": lambda x, y: np.minimum(_box(x + 0.4, y, 0.6, 0.25), np.maximum(-x - 0.1, x * 0.7 + np.abs(y) - 0.7)),
    "hook": lambda x, y: np.minimum(_box(x + 0.6, y, 0.3, 1), _box(x, y - 0.7, 0.9, 0.3)),
    "moon": lambda x, y: np.maximum(_disc(x, y), 0.8 - np.sqrt((x - 0.45) ** 2 + y * y)),
}
CLASS_NAMES = tuple(SHAPES)
