"""The transforms of cifar.data.augmentation on JAX: the same bits; with rotation, within a grey level."""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar.data.augmentation import GREY, SIDE, Parameters

Arrays = dict[str, Any]


def as_arrays(parameters: Parameters) -> Arrays:
    """Return parameters as arrays of 32 bits: shifts are exact; cosine and sine of an angle are computed in float64.

    Shifts are whole numbers where all of them are, and there is no angle.
    """
    shift_dtype = np.int32 if parameters.whole_pixels else np.float32
    arrays: Arrays = {
        "rows": parameters.rows.astype(shift_dtype),
        "columns": parameters.columns.astype(shift_dtype),
        "flip_rows": parameters.flip_rows,
        "flip_columns": parameters.flip_columns,
    }
    if parameters.angle is not None:
        theta = np.deg2rad(parameters.angle)
        arrays |= {"cos": np.cos(theta).astype(np.float32), "sin": np.sin(theta).astype(np.float32)}
    if parameters.crop is not None:
        arrays["crop"] = parameters.crop.astype(np.int32)
    if parameters.cutout is not None:
        arrays["cutout"] = parameters.cutout.astype(np.int32)
    return arrays


def augment(images: NDArray[np.uint8], parameters: Parameters) -> NDArray[np.uint8]:
    """Return cifar.data.augmentation.apply(images, parameters), computed on the device."""
    return np.asarray(_compiled_apply()(images, as_arrays(parameters)))


@cache
def _compiled_apply() -> Any:
    import jax

    return jax.jit(apply)


def apply(images: Any, drawn: Arrays) -> Any:
    """Return the augmented images: the bits of cifar.data.augmentation.apply; with rotation, within a grey level.

    Args:
        images: uint8, (N, 32, 32, 3).
        drawn: `as_arrays` of the parameters of the same N images.
    """
    import jax.numpy as jnp

    images = _crop(images, drawn)
    if jnp.issubdtype(drawn["rows"].dtype, jnp.integer):
        images = _move_pixels(images, drawn)
    else:
        resample = _resample_axes
        if "cos" in drawn:
            resample = _resample_plane
        images = jnp.rint(resample(images, drawn)).astype(jnp.uint8)
    return _cut_out(images, drawn)


def _crop(images: Any, drawn: Arrays) -> Any:
    """Cut a window out of each image as padded by its reflection."""
    import jax.numpy as jnp

    if "crop" not in drawn:
        return images
    source = jnp.abs(jnp.arange(SIDE) + drawn["crop"][:, :, None])
    source = jnp.minimum(source, 2 * (SIDE - 1) - source)
    return _take(images, source[:, 0], source[:, 1])


def _move_pixels(images: Any, drawn: Arrays) -> Any:
    """Shift by whole pixels and flip."""
    import jax.numpy as jnp

    def source(shift: Any, flip: Any) -> Any:
        unflipped = jnp.clip(jnp.arange(SIDE) + shift[:, None], 0, SIDE - 1)
        return jnp.where(flip[:, None], unflipped[:, ::-1], unflipped)

    rows = source(drawn["rows"], drawn["flip_rows"])
    columns = source(drawn["columns"], drawn["flip_columns"])
    return _take(images, rows, columns)


def _take(images: Any, rows: Any, columns: Any) -> Any:
    """Rearrange the pixels of images by the source of each row and of each column, (N, 32)."""
    import jax.numpy as jnp

    image_index = jnp.arange(len(images))[:, None, None]
    return images[image_index, rows[:, :, None], columns[:, None, :]]


def _cut_out(images: Any, drawn: Arrays) -> Any:
    """Fill a square of each image with grey."""
    import jax.numpy as jnp

    if "cutout" not in drawn:
        return images
    pixels = jnp.arange(SIDE)
    top, bottom, left, right = jnp.moveaxis(drawn["cutout"][:, :, None], 1, 0)
    in_rows = (pixels >= top) & (pixels < bottom)
    in_columns = (pixels >= left) & (pixels < right)
    inside = in_rows[:, :, None] & in_columns[:, None, :]
    return jnp.where(inside[..., None], jnp.uint8(GREY), images)


def _resample_axes(images: Any, drawn: Arrays) -> Any:
    """Shift and flip: a small matrix product per axis, exact in float32."""
    import jax.numpy as jnp

    row_weights = _interpolation_weights(drawn["rows"], drawn["flip_rows"])
    column_weights = _interpolation_weights(drawn["columns"], drawn["flip_columns"])
    shifted = jnp.einsum("nor,nrcx->nocx", row_weights, images.astype(jnp.float32), precision="highest")
    return jnp.einsum("noc,nrcx->nrox", column_weights, shifted, precision="highest")


def _interpolation_weights(shift: Any, flip: Any) -> Any:
    """Return matrices (N, output, input) that shift by linear interpolation with nearest fill, then flip."""
    import jax.numpy as jnp

    pixels = jnp.arange(SIDE, dtype=jnp.float32)
    source = jnp.clip(pixels + shift[:, None], 0, SIDE - 1)
    source = jnp.where(flip[:, None], source[:, ::-1], source)
    return jnp.maximum(0, 1 - jnp.abs(source[:, :, None] - pixels))


def _resample_plane(images: Any, drawn: Arrays) -> Any:
    """Rotate, shift and flip: four neighbours gathered per pixel."""
    import jax.numpy as jnp

    centre = (SIDE - 1) / 2
    grid = jnp.arange(SIDE, dtype=jnp.float32) - centre
    cos, sin = drawn["cos"][:, None, None], drawn["sin"][:, None, None]
    across = jnp.where(drawn["flip_columns"][:, None], -grid, grid)[:, None, :] + drawn["columns"][:, None, None]
    down = jnp.where(drawn["flip_rows"][:, None], -grid, grid)[:, :, None] + drawn["rows"][:, None, None]
    column = jnp.clip(cos * across - sin * down + centre, 0, SIDE - 1)
    row = jnp.clip(sin * across + cos * down + centre, 0, SIDE - 1)

    left = jnp.minimum(column.astype(jnp.int32), SIDE - 2)
    top = jnp.minimum(row.astype(jnp.int32), SIDE - 2)
    right_weight = (column - left)[..., None]
    lower_weight = (row - top)[..., None]
    image_index = jnp.arange(len(images))[:, None, None]

    def corner(below: int, beside: int) -> Any:
        return images[image_index, top + below, left + beside].astype(jnp.float32)

    upper = corner(0, 0) + (corner(0, 1) - corner(0, 0)) * right_weight
    lower = corner(1, 0) + (corner(1, 1) - corner(1, 0)) * right_weight
    return upper + (lower - upper) * lower_weight
