"""Seeded image transforms: draw(policy, seed, epoch, n) -> parameters, apply(images, parameters) -> images.

An image's parameters are a function of (seed, epoch, its index in the training set) and of nothing else, so neither
batch size nor threads, order or a restart can change an image.

In this order: a window is cut out of the image as padded by its own reflection; rotation about the centre and shift,
as one bilinear resampling with nearest fill; the flips; a square is filled with grey. Rotation, shift and flips are
those of Keras's ImageDataGenerator (keras.src.legacy.preprocessing.image).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from cifar.recipes import Policy

SIDE = 32  # pixels along each axis
CHUNK = 16  # images at once, so that their float32 copies stay in the cache
GRID = 256  # shifts are drawn in steps of 1/256 pixel: see _resample_by_axes
GREY = 128  # of a square that is cut out

Images = NDArray[np.uint8]


@dataclass(frozen=True)
class Parameters:
    """The transform parameters of N images.

    Attributes:
        rows: (N,) float64, pixels by which the source lies below the output, in steps of 1/256; positive moves the
            image up.
        columns: (N,) float64, likewise right of the output; positive moves the image left.
        flip_rows: (N,) bool, swap top and bottom.
        flip_columns: (N,) bool, swap left and right.
        angle: (N,) float64, degrees, as ImageDataGenerator's `theta`; None if the policy does not rotate.
        crop: (N, 2) int64, pixels by which the window lies below and right of the image, before it is padded; None
            if the policy does not crop.
        cutout: (N, 4) int64, the square's first row and the one after its last, likewise of the columns, within the
            image; None if the policy cuts nothing out.
    """

    rows: NDArray[np.float64]
    columns: NDArray[np.float64]
    flip_rows: NDArray[np.bool_]
    flip_columns: NDArray[np.bool_]
    angle: NDArray[np.float64] | None = None
    crop: NDArray[np.int64] | None = None
    cutout: NDArray[np.int64] | None = None

    def any(self) -> bool:
        """Whether any image is changed."""
        moved = (self.rows, self.columns, self.flip_rows, self.flip_columns, self.angle, self.crop)
        return self.cutout is not None or any(np.any(values) for values in moved if values is not None)

    @property
    def whole_pixels(self) -> bool:
        """Whether rotation, shift and flips only move pixels, so that nothing is interpolated."""
        return self.angle is None and not np.any(self.rows % 1) and not np.any(self.columns % 1)

    def __getitem__(self, index: Any) -> "Parameters":
        """The parameters of some of the images, by slice or index array."""
        return Parameters(
            rows=self.rows[index],
            columns=self.columns[index],
            flip_rows=self.flip_rows[index],
            flip_columns=self.flip_columns[index],
            angle=None if self.angle is None else self.angle[index],
            crop=None if self.crop is None else self.crop[index],
            cutout=None if self.cutout is None else self.cutout[index],
        )


def stream(seed: int, epoch: int, purpose: int) -> np.random.Generator:
    """A counter-based generator (Philox 4x64, Salmon et al. 2011) keyed by (seed, epoch), one per purpose."""
    return np.random.Generator(np.random.Philox(key=[seed, epoch], counter=[0, 0, 0, purpose]))


def order(seed: int, epoch: int, n: int) -> NDArray[np.int64]:
    """The order in which an epoch visits the n training images: a permutation, (n,) int64."""
    return stream(seed, epoch, purpose=0).permutation(n)


def draw(policy: Policy, seed: int, epoch: int, n: int) -> Parameters:
    """Draw the parameters of images 0 .. n-1 for an epoch.

    Every image consumes the same random numbers, whatever its policy needs: two policies that share a transform draw
    the same values for it, and image i has the same parameters for every n > i. Shifts are rounded to the nearest
    step of 1/256 pixel, so that the largest may exceed the policy's limit by half a step.
    """
    uniform = stream(seed, epoch, purpose=1).random((n, 5))
    max_steps = policy.shift * SIDE * GRID
    shift = np.rint((2 * uniform[:, :2] - 1) * max_steps) / GRID
    if policy.whole_pixels:
        shift = _whole_numbers(uniform[:, :2], int(policy.shift * SIDE)).astype(np.float64)
    flip_columns = policy.horizontal_flip & (uniform[:, 3] < 0.5)
    if policy.alternating_flip:
        flip_columns ^= _alternate(seed, epoch, n)
    places = stream(seed, epoch, purpose=2).random((n, 4))
    return Parameters(
        rows=shift[:, 0],
        columns=shift[:, 1],
        flip_rows=policy.vertical_flip & (uniform[:, 2] < 0.5),
        flip_columns=flip_columns,
        angle=(2 * uniform[:, 4] - 1) * policy.rotation if policy.rotation else None,
        crop=_whole_numbers(places[:, :2], policy.pad_crop) if policy.pad_crop else None,
        cutout=_square(places[:, 2:], policy.cutout) if policy.cutout else None,
    )


def _whole_numbers(uniform: NDArray[np.float64], largest: int) -> NDArray[np.int64]:
    """Whole numbers from -largest to largest, each as likely, from numbers in [0, 1)."""
    return (uniform * (2 * largest + 1)).astype(np.int64) - largest


def _alternate(seed: int, epoch: int, n: int) -> NDArray[np.bool_]:
    """Which images are mirrored: in odd epochs a half that the seed chooses, in even ones the other half."""
    chosen = stream(seed, 0, purpose=3).random(n) < 0.5
    return chosen ^ (epoch % 2 == 0)


def _square(uniform: NDArray[np.float64], side: int) -> NDArray[np.int64]:
    """The part within the image of squares whose centre is any pixel, (N, 4), as of Parameters.cutout."""
    first = (uniform * SIDE).astype(np.int64) - side // 2
    bounds = np.stack([first, first + side], axis=2).clip(0, SIDE)
    return bounds.reshape(-1, 4)


def apply(images: Images, parameters: Parameters) -> Images:
    """Transform images.

    Args:
        images: uint8, (N, 32, 32, 3).
        parameters: those of the same N images.

    Returns:
        uint8, (N, 32, 32, 3), rounded to the nearest grey level.
    """
    transform = _move_pixels if parameters.whole_pixels else _resample
    transformed = np.empty_like(images)
    for start in range(0, len(images), CHUNK):
        chunk = slice(start, start + CHUNK)
        transformed[chunk] = transform(images[chunk], parameters[chunk])
    _cut_out(transformed, parameters)
    return transformed


def _move_pixels(images: Images, p: Parameters) -> Images:
    """Crop, shift by whole pixels and flip: every pixel is one of the image's, so that nothing is computed."""
    rows = _source(p.rows, p.flip_rows)
    columns = _source(p.columns, p.flip_columns)
    if p.crop is not None:
        rows, columns = _reflect(rows + p.crop[:, :1]), _reflect(columns + p.crop[:, 1:])
    return _take(images, rows, columns)


def _resample(images: Images, p: Parameters) -> Images:
    """Crop, then rotate, shift and flip by interpolation."""
    if p.crop is not None:
        pixels = np.arange(SIDE)
        images = _take(images, _reflect(pixels + p.crop[:, :1]), _reflect(pixels + p.crop[:, 1:]))
    interpolate = _resample_by_axes if p.angle is None else _resample_in_plane
    return np.rint(interpolate(images, p)).astype(np.uint8)


def _source(shift: NDArray[np.float64], flip: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The source of each pixel along an axis, (N, 32), for a shift by whole pixels with nearest fill, then a flip."""
    source = np.clip(np.arange(SIDE) + shift[:, None].astype(np.int64), 0, SIDE - 1)
    return np.where(flip[:, None], source[:, ::-1], source)


def _reflect(position: NDArray[np.int64]) -> NDArray[np.int64]:
    """The pixel at a position up to 31 beyond the image's edge, which is the mirror: 2 1 0 1 2."""
    from_first = np.abs(position)
    reflected: NDArray[np.int64] = np.minimum(from_first, 2 * (SIDE - 1) - from_first)
    return reflected


def _take(images: Images, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Images:
    """Rearrange the pixels of images by the source of each row and of each column, (N, 32)."""
    first = np.arange(len(images))[:, None, None] * SIDE**2
    index = first + rows[:, :, None] * SIDE + columns[:, None, :]
    pixels = np.ascontiguousarray(images).view("V3").reshape(-1)  # three bytes as one item: three times as fast
    return pixels.take(index).view(np.uint8).reshape(images.shape)


def _cut_out(images: Images, p: Parameters) -> None:
    """Fill a square of each image with grey, in place."""
    if p.cutout is None:
        return
    for image, (top, bottom, left, right) in zip(images, p.cutout, strict=True):
        image[top:bottom, left:right] = GREY


def _resample_by_axes(images: Images, p: Parameters) -> NDArray[np.float32]:
    """Shift and flip: without rotation, bilinear interpolation is a weighted mean of two neighbours per axis.

    Shifts are in steps of 1/256 pixel, so every product and sum is exact: in 16 bits down the rows, in float32 across
    the columns (8 bits of pixel, 8 of each weight).
    """
    n = len(images)
    down = np.where(p.flip_rows, -p.rows, p.rows)  # a flip after the shift is one before the opposite shift
    across = np.where(p.flip_columns, -p.columns, p.columns)
    top, lower_steps = np.divmod(np.rint(GRID * down).astype(np.int64), GRID)
    left, right_steps = np.divmod(np.rint(GRID * across).astype(np.int64), GRID)
    lower_weight = lower_steps.astype(np.uint16)[:, None]
    right_weight = right_steps.astype(np.float32)[:, None] / GRID**2

    border = int(np.abs([top, left]).max(initial=0)) + 1
    lines = _with_border(_flip(images, p), border).reshape(n, SIDE + 2 * border, -1)
    line = 3 * (SIDE + 1)  # bytes: a neighbour more than the image has
    windows = sliding_window_view(lines, (SIDE + 1, line), axis=(1, 2))
    pixels = windows[np.arange(n), border + top, 3 * (border + left)].reshape(n, -1)
    columns = pixels[:, :-line] * (GRID - lower_weight)
    columns += pixels[:, line:] * lower_weight
    resampled = np.empty(columns.shape, np.float32)  # whole lines at once; each ends in a pixel that is left out
    inner = resampled[:, :-3]
    np.multiply(columns[:, :-3], np.float32(1 / GRID) - right_weight, out=inner)
    inner += columns[:, 3:] * right_weight
    return resampled.reshape(n, SIDE, SIDE + 1, 3)[:, :, :SIDE]


def _flip(images: Images, p: Parameters) -> NDArray[np.void]:
    """Return flipped copies of images, (N, 32, 32), a pixel's three bytes as one item."""
    pixels = np.ascontiguousarray(images).view("V3")[..., 0].copy()
    pixels[p.flip_rows] = pixels[p.flip_rows, ::-1]
    pixels[p.flip_columns] = pixels[p.flip_columns, :, ::-1]
    return pixels


def _with_border(pixels: NDArray[np.void], border: int) -> Images:
    """Repeat the outermost pixels of images (N, 32, 32) a number of times on each side; bytes, with colours last."""
    n, side = len(pixels), SIDE + 2 * border
    bordered = np.empty((n, side, side), "V3")
    first, last = border, border + SIDE
    bordered[:, first:last, first:last] = pixels
    bordered[:, first:last, :first] = pixels[:, :, :1]
    bordered[:, first:last, last:] = pixels[:, :, -1:]
    bordered[:, :first] = bordered[:, first : first + 1]
    bordered[:, last:] = bordered[:, last - 1 : last]
    return bordered.view(np.uint8).reshape(n, side, side, 3)


def _resample_in_plane(images: Images, p: Parameters) -> NDArray[np.float32]:
    """Rotate, shift and flip: bilinear interpolation of the four neighbours of each source position."""
    assert p.angle is not None
    centre = (SIDE - 1) / 2
    theta = np.deg2rad(p.angle)[:, None, None]
    grid = np.arange(SIDE) - centre
    across = np.where(p.flip_columns[:, None], -grid, grid)[:, None, :] + p.columns[:, None, None]
    down = np.where(p.flip_rows[:, None], -grid, grid)[:, :, None] + p.rows[:, None, None]
    column = np.clip(np.cos(theta) * across - np.sin(theta) * down + centre, 0, SIDE - 1).astype(np.float32)
    row = np.clip(np.sin(theta) * across + np.cos(theta) * down + centre, 0, SIDE - 1).astype(np.float32)

    left = np.minimum(column.astype(np.intp), SIDE - 2)
    top = np.minimum(row.astype(np.intp), SIDE - 2)
    right_weight = column - left.astype(np.float32)
    lower_weight = row - top.astype(np.float32)
    upper_left_index = np.arange(len(images))[:, None, None] * SIDE**2 + top * SIDE + left
    upper_right_index = upper_left_index + 1
    lower_left_index = upper_left_index + SIDE
    lower_right_index = lower_left_index + 1
    channels = np.ascontiguousarray(images.reshape(-1, 3).T, dtype=np.float32)  # numpy is slow on an axis of three
    resampled = []
    for channel in channels:
        upper = channel.take(upper_left_index, mode="clip")
        lower = channel.take(lower_left_index, mode="clip")
        upper_right = channel.take(upper_right_index, mode="clip")
        lower_right = channel.take(lower_right_index, mode="clip")
        upper += (upper_right - upper) * right_weight
        lower += (lower_right - lower) * right_weight
        resampled.append(upper + (lower - upper) * lower_weight)
    return np.moveaxis(np.stack(resampled), 0, -1)
