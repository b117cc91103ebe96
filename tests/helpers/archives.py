"""Small data archives to read or to refuse, for test_archive.py and faults/test_archives.py."""

import builtins
import functools
import io
import os
import pickle
import re
import struct
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cifar.data import archive

NAMES = [name.encode() for name in archive.CLASS_NAMES]
SMALL = 20  # images in a batch, in most tests
LAUGHS = b")" + b"q\0h\0\x86" * 60  # a pair of pairs of pairs, each the same one twice
LAYOUTS = ("published", "protocol 2", "protocol 4")
Images = NDArray[np.uint8]
Labels = list[int]


def noise(seed: int = 0) -> Images:
    return np.random.default_rng(seed).integers(0, 256, (SMALL, 3072), np.uint8)


def entries(**changes: object) -> dict[bytes, object]:
    labels = [i % 10 for i in range(SMALL)]
    batch = {"batch_label": b"one of several", "labels": labels, "data": noise(), "filenames": [b"a.png"] * SMALL}
    return {key.encode(): value for key, value in {**batch, **changes}.items()}


def without(key: bytes) -> dict[bytes, object]:
    return {name: value for name, value in entries().items() if name != key}


def batch(protocol: int = 2, **changes: object) -> bytes:
    return pickle.dumps(entries(**changes), protocol)


def meta(names: object = NAMES) -> bytes:
    return pickle.dumps({b"num_cases_per_batch": SMALL, b"label_names": names, b"num_vis": 3072}, 2)


def files(**changes: bytes) -> dict[str, bytes]:
    batches = {name: batch(data=noise(n)) for n, name in enumerate(archive.FILES_MD5) if name != "batches.meta"}
    return {**batches, "batches.meta": meta(), **changes}


def text(content: bytes) -> bytes:
    """The opcodes of a Python 2 string."""
    return b"T" + struct.pack("<i", len(content)) + content


def array(raw: bytes, shape: bytes, kind: bytes = b"u1") -> bytes:
    """The opcodes of an array, as Python 2 and numpy 1 wrote them; `shape` is opcodes too."""
    start = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01"
    dtype = b"cnumpy\ndtype\nU" + bytes([len(kind)]) + kind + b"K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xff"
    return start + shape + dtype + b"J\xff\xff\xff\xffK\x00tb\x89" + text(raw) + b"tb"


def shape_of(*sides: int) -> bytes:
    return b"(" + b"".join(b"J" + struct.pack("<i", side) for side in sides) + b"t"


def unlike_uint8() -> bytes:
    """The opcodes of an array's state that is right but for its kind of number."""
    return b"(K\x01" + shape_of(SMALL, 3072) + b"N\x89" + text(noise().tobytes()) + b"t"


def opcodes(data: bytes | None = None, labels: bytes | None = None, more: bytes = b"") -> bytes:
    """A batch written by hand, byte for byte the layout of the published files by default."""
    whole = array(noise().tobytes(), shape_of(SMALL, 3072)) if data is None else data
    right = b"](" + b"".join(b"K%c" % (i % 10) for i in range(SMALL)) + b"e" if labels is None else labels
    return b"\x80\x02}(" + text(b"labels") + right + text(b"data") + whole + more + b"u."


def written(layout: str, images: Images, labels: Labels) -> bytes:
    if layout == "published":
        numbers = b"](" + b"".join(b"K%c" % label for label in labels) + b"e"
        return opcodes(array(images.tobytes(), shape_of(*images.shape)), numbers)
    return pickle.dumps({b"data": images, b"labels": labels}, int(layout[-1]))


def pack(path: Path, contents: dict[str, bytes | tarfile.TarInfo]) -> Path:
    """A tar.gz with these members in the published folder; a TarInfo stands for a member without content."""
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for name, content in contents.items():
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo()
            info.name = f"{archive.FOLDER}/{name}"
            if isinstance(content, bytes):
                info.size = len(content)
            tar.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return path


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


def parted(path: Path, message: str, code: int) -> tuple[str, str]:
    assert code == 3
    parts = re.fullmatch(rf"{re.escape(str(path))}: expected (.+?), found (.+)\.", message)
    assert parts, message
    assert message.isprintable()
    assert len(message) < len(str(path)) + 300
    return parts[1], parts[2]


class Call:
    """Pickles as a call of any function."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


def payloads(mark: Path) -> dict[str, Call]:
    """Calls that make the file `mark`."""
    return {
        "os.system": Call(os.system, f"touch '{mark}'"),
        "eval": Call(builtins.eval, f"open({str(mark)!r}, 'w').close()"),
        "exec": Call(builtins.exec, f"open({str(mark)!r}, 'w').close()"),
        "subprocess": Call(subprocess.call, ["touch", str(mark)]),
        "method": Call(Path.touch, mark),
        "partial": Call(functools.partial(os.system, f"touch '{mark}'")),
        "numpy.save": Call(np.save, f"{mark}", np.zeros(1, np.uint8)),
    }
