"""Pictures of any size and mode as a model's input, 32x32 RGB, and how they were changed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar.errors import UsageError, first_line

SIDE = 32
MAX_PIXELS = 80_000_000  # of a picture; larger ones are refused before they are decoded


@dataclass(frozen=True)
class Picture:
    """A picture as a model takes it.

    Attributes:
        path: its file.
        image: uint8, (32, 32, 3), RGB.
        preparation: how it was changed, such as `640x480 RGBA: transparency on white, cropped to the middle 480x480,
            scaled to 32x32`.
    """

    path: Path
    image: NDArray[np.uint8]
    preparation: str


def load_picture(path: Path) -> Picture:
    """Read a picture, turn it upright, put transparency on white, crop it to the middle square, scale it to 32x32.

    Raises:
        UsageError: the file is not there, not a picture, damaged or too large.
    """
    decoded = _decode(path)
    description = f"{decoded.width}x{decoded.height} {decoded.mode}"
    changes: list[str] = []
    if decoded.has_transparency_data:
        changes.append("transparency on white")
    picture = _opaque(decoded)
    side = min(picture.size)
    if picture.width != picture.height:
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        picture = picture.crop((left, top, left + side, top + side))
        changes.append(f"cropped to the middle {side}x{side}")
    if side != SIDE:
        picture = picture.resize((SIDE, SIDE))
        changes.append(f"scaled to {SIDE}x{SIDE}")
    return Picture(path, np.asarray(picture, np.uint8), f"{description}: {', '.join(changes) or 'as it is'}")


def _decode(path: Path) -> Any:
    """Read a picture with Pillow, upright.

    Raises:
        UsageError: see load_picture.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise UsageError(f"{path}: {picture.width}x{picture.height} pixels; at most {MAX_PIXELS:,} are read.")
            return ImageOps.exif_transpose(picture)
    except UsageError:
        raise
    except OSError as error:
        reason = error.strerror or first_line(error)
    except Exception as error:  # Pillow raises many kinds for damaged files
        reason = first_line(error)
    raise UsageError(f"{path}: not a readable picture: {reason.rstrip('.')}.")


def _opaque(picture: Any) -> Any:
    """The picture in RGB, its transparent parts on white; 16-bit grey levels keep their upper eight bits."""
    from PIL import Image

    if picture.mode.startswith("I"):
        upper_bits = np.asarray(picture, np.int64) >> 8
        return Image.fromarray(upper_bits.clip(0, 255).astype(np.uint8)).convert("RGB")
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    layer = picture.convert("RGBA")
    white = Image.new("RGBA", layer.size, "white")
    return Image.alpha_composite(white, layer).convert("RGB")
