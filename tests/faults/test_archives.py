"""Damaged and hostile copies of CIFAR-10: a DataError, or the arrays that are there; and nothing is written."""

import ast
import gzip
import hashlib
import io
import os
import pickle
import random
import shutil
import struct
import tarfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType, TracebackType

import numpy as np
import pytest
from helpers.archives import (
    LAUGHS,
    NAMES,
    SMALL,
    array,
    batch,
    files,
    header,
    meta,
    noise,
    opcodes,
    parted,
    payloads,
    shape_of,
    text,
    unlike_uint8,
)

from cifar.data import archive, pickles
from cifar.errors import DataError
from faults.conftest import Count, Tally

SOUND = files()
BATCHES = [name for name in SOUND if name != "batches.meta"]
Lines = set[tuple[str, int]]


@pytest.fixture(autouse=True)
def _small_and_published(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small batches, of which the sound ones are the published."""
    monkeypatch.setattr(archive, "BATCH", SMALL)
    monkeypatch.setattr(archive, "MAX_FILE_BYTES", 1 << 20)
    for name, content in SOUND.items():
        monkeypatch.setitem(archive.FILES_MD5, name, hashlib.md5(content).hexdigest())


# Contents of a file that are not what they have to be.


def wrong_batches(chance: random.Random, mark: Path) -> list[bytes]:
    """There are WRONG_BATCHES of them."""
    labels = [i % 10 for i in range(SMALL)]
    place = chance.randrange(SMALL)
    odd = chance.choice([10, -1, 1 << 70, True, 3.0, None, b"3", [3], "\x1b[2J"])
    shape = chance.choice([(SMALL, 3071), (SMALL + 1, 3072), (SMALL * 3072,), (SMALL, 32, 32, 3), (0, 3072)])
    pixels = noise().tobytes()
    hostile = chance.choice(list(payloads(mark).values()))
    lying = chance.choice([shape_of(2**31 - 1, 2**31 - 1), shape_of(-SMALL, -3072), b"N", shape_of(*[1] * 70)])
    return [
        batch(labels=[*labels[:place], odd, *labels[place + 1 :]]),
        batch(labels=labels[: chance.randrange(SMALL)]),
        batch(labels=chance.choice([tuple(labels), bytes(SMALL), None, 7, noise()])),
        batch(labels=[*labels[:place], (labels[place] + 1) % 10, *labels[place + 1 :]]),
        batch(data=np.zeros(shape, np.uint8)),
        batch(data=np.zeros((SMALL, 3072), chance.choice(["f4", "i1", "u2", "?", "S1", "O"]))),
        batch(data=chance.choice([None, 5, b"x" * 9, [0] * SMALL])),
        batch(chance.choice([0, 1, 2, 4, 5]), filenames=hostile),
        pickle.dumps({b"labels": labels}, 2),
        pickle.dumps({b"data": noise()}, 2),
        pickle.dumps(chance.choice([[1], {}, None, 7, b"data", ()]), chance.choice([2, 4])),
        opcodes(array(pixels, lying)),
        opcodes(array(pixels, shape_of(SMALL, 3072), chance.choice([b"O8", b"f4", b"V1"]))),
        opcodes(labels=b"](" + LAUGHS + b"K\x01" * (SMALL - 1) + b"e"),
        opcodes(more=text(b"x") + b"]" * 50_000 + b"a" * 49_999),
        opcodes(more=text(b"x") + b"c_codecs\nencode\nX\x03\0\0\0abcX\x05\0\0\0rot13\x86R"),
        opcodes(more=text(b"x") + b"\x8c\x07\x1b[31m\n\r\x8c\x02up\x93"),
        b"\x80\x02}" + LAUGHS + b"K\x01s.",
        b"\x80\x02cnumpy\ndtype\n" + LAUGHS + b"\x85R.",
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << chance.choice([28, 40, 63])) + b"abc.",
        opcodes(EMPTY + unlike_uint8() + b"b"),
        much_text(),
    ]


WRONG_BATCHES = 22
EMPTY = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"  # an array without a state


def much_text() -> bytes:
    """A text that is encoded more often than there is memory."""
    kept = b"c_codecs\nencode\nq\1aX" + struct.pack("<I", 1 << 19) + b"a" * (1 << 19) + b"q\2aX\x06\0\0\0latin1q\3a"
    return b"\x80\x02]" + kept + b"h\1h\2h\3\x86Ra" * 130 + b"."


def flipped(content: bytes, chance: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(chance.randint(1, 3)):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def cut(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content))]


def spliced(content: bytes, chance: random.Random) -> bytes:
    """Some bytes replaced by others, or by more or fewer."""
    place = chance.randrange(min(len(content), 2000))
    return content[:place] + chance.randbytes(chance.randrange(20)) + content[place + chance.randrange(20) :]


def wrong_meta(chance: random.Random) -> bytes:
    names = chance.choice([NAMES[::-1], NAMES[:9], [*NAMES, b"x"], [], None, b"airplane", ["\x1b"] * 10])
    if chance.random() < 0.7:
        return meta(names)
    return chance.choice([pickle.dumps({b"num_vis": 3072}, 2), pickle.dumps([], 2), b""])


def one_file(chance: random.Random) -> dict[str, bytes]:
    """The sound files but for one."""
    name = chance.choice(list(SOUND))
    changes: list[Callable[[], bytes]] = [
        lambda: flipped(SOUND[name], chance),
        lambda: cut(SOUND[name], chance),
        lambda: spliced(SOUND[name], chance),
        lambda: chance.randbytes(chance.choice([1, 100, 70_000])),
    ]
    return {**SOUND, name: chance.choice(changes)()}


# Folders.


def in_folder(place: Path, contents: dict[str, bytes]) -> Path:
    folder = place / archive.FOLDER
    folder.mkdir(parents=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return folder


def folder_with_a_wrong_file(place: Path, chance: random.Random, _: Path) -> Path:
    return in_folder(place, one_file(chance))


def folder_with_other_classes(place: Path, chance: random.Random, _: Path) -> Path:
    return in_folder(place, {**SOUND, "batches.meta": wrong_meta(chance)})


IN_THE_WAY = ("nothing", "folder", "pipe", "link", "loop", "broken", "large", "unreadable", "other name")


def folder_with_a_wrong_batch(place: Path, chance: random.Random, mark: Path, number: int) -> Path:
    return in_folder(place, {**SOUND, chance.choice(BATCHES): wrong_batches(chance, mark)[number]})


def folder_with_a_wrong_kind(place: Path, chance: random.Random, _: Path, kind: str) -> Path:
    """Something else in the place of a file; a link to a sound file is as good as the file."""
    folder = in_folder(place, SOUND)
    path = folder / chance.choice(list(SOUND))
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        (place / "sound").write_bytes(SOUND[path.name])
        path.symlink_to(place / "sound")
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "broken":
        path.symlink_to(place / "absent")
    elif kind == "large":
        with path.open("wb") as stream:
            stream.truncate(1 << chance.choice([21, 32, 40]))
    elif kind == "unreadable":
        path.symlink_to("x" * 300)
    elif kind == "other name":
        path.with_name(path.name.upper()).write_bytes(SOUND[path.name])
    return folder


# Archives.


def tar_of(contents: dict[str, bytes], chance: random.Random, more: list[tarfile.TarInfo] | None = None) -> bytes:
    """A tar, its members in any order, `more` among them; each of those claims anything about itself."""
    members: list[tuple[tarfile.TarInfo, bytes]] = [(info, b"evil"[: max(info.size, 0)]) for info in more or []]
    for name, content in contents.items():
        info = tarfile.TarInfo(f"{archive.FOLDER}/{name}")
        info.size = len(content)
        members.append((info, content))
    chance.shuffle(members)
    stream = io.BytesIO()
    layout = chance.choice([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
    with tarfile.open(fileobj=stream, mode="w", format=layout) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content) if content else None)
    return stream.getvalue()


def packed(place: Path, tar: bytes) -> Path:
    place.mkdir()
    path = place / archive.ARCHIVE
    path.write_bytes(gzip.compress(tar, compresslevel=1, mtime=0))
    return path


def archive_with_a_wrong_file(place: Path, chance: random.Random, _: Path) -> Path:
    return packed(place, tar_of(one_file(chance), chance))


def archive_damaged(place: Path, chance: random.Random, _: Path) -> Path:
    """As a bad disk or a bad line damage it."""
    path = packed(place, tar_of(SOUND, chance))
    damage = chance.choice([flipped, cut, spliced, lambda content, chance: content + chance.randbytes(99)])
    path.write_bytes(damage(path.read_bytes(), chance))
    return path


def archive_damaged_before_it_was_packed(place: Path, chance: random.Random, _: Path) -> Path:
    tar = tar_of(SOUND, chance)
    headers = [place for place in range(0, len(tar), 512) if tar[place : place + 5] == b"cifar"]
    if chance.random() < 0.5:  # in a header
        changed = bytearray(tar)
        changed[chance.choice(headers) + chance.randrange(512)] ^= 1 << chance.randrange(8)
        return packed(place, bytes(changed))
    return packed(place, chance.choice([flipped, cut, spliced])(tar, chance))


def archive_with_strangers(place: Path, chance: random.Random, mark: Path) -> Path:
    """Members outside the folder, of every kind, which must be ignored."""
    names = [f"../{mark.name}", str(mark), "../" * 40 + str(mark)[1:], f"{archive.FOLDER}/../../{mark.name}", "x"]
    more = []
    for _ in range(chance.randint(1, 4)):
        info = tarfile.TarInfo(chance.choice(names))
        info.type = chance.choice([tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE])
        info.linkname = str(mark)
        info.size = 4 if info.type == tarfile.REGTYPE else 0
        more.append(info)
    return packed(place, tar_of(SOUND, chance, more))


def archive_with_links(place: Path, chance: random.Random, mark: Path) -> Path:
    """A link, a device or a folder in the place of a file, or none at all."""
    name = chance.choice(list(SOUND))
    info = tarfile.TarInfo(f"{archive.FOLDER}/{name}")
    info.type = chance.choice(
        [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE]
    )
    info.linkname = chance.choice([str(mark), "/etc/passwd", "data_batch_1", f"{archive.FOLDER}/data_batch_1", name])
    rest = {other: content for other, content in SOUND.items() if other != name}
    return packed(place, tar_of(rest, chance, [info] if chance.random() < 0.7 else None))


def archive_whose_sizes_lie(place: Path, chance: random.Random, _: Path) -> Path:
    name = f"{archive.FOLDER}/{chance.choice(list(SOUND))}"
    info = tarfile.TarInfo(name)
    kind = chance.choice([tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_SPARSE])
    info.size, info.type = chance.choice([-512, -1024, 1, 1 << 20, (1 << 20) + 1, 1 << 33, 1 << 60, 1 << 70]), kind
    lying = info.tobuf(tarfile.GNU_FORMAT)
    whole = tar_of(SOUND, chance)
    return packed(
        place, chance.choice([lying + whole, whole[:-1024] + lying + bytes(chance.choice([0, 1024, 1 << 21]))])
    )


def archive_in_circles(place: Path, chance: random.Random, _: Path) -> Path:
    """A member that is shorter than nothing leads back to those before it."""
    circle = header("c", 0) + header("a", 0) + header(chance.choice(["b", "\x1b[31m"]), -512 * chance.randint(1, 3))
    return packed(place, circle + tar_of(SOUND, chance))


def archive_too_large(place: Path, chance: random.Random, _: Path) -> Path:
    """A bomb: it unpacks to more than all files may have."""
    return packed(place, tar_of({**SOUND, "readme": bytes(8 << 20)}, chance))


def archive_with_too_large_a_file(place: Path, chance: random.Random, _: Path) -> Path:
    return packed(place, tar_of({**SOUND, "test_batch": bytes((1 << 20) + 1)}, chance))


def no_archive(place: Path, chance: random.Random, _: Path) -> Path:
    path = packed(place, b"")
    content = [b"", b"garbage", chance.randbytes(5000), gzip.compress(chance.randbytes(5000)), opcodes()]
    path.write_bytes(chance.choice(content))
    return path


def sound(place: Path, chance: random.Random, _: Path) -> Path:
    return chance.choice([lambda: in_folder(place, SOUND), lambda: packed(place, tar_of(SOUND, chance))])()


KINDS = [
    *(partial(folder_with_a_wrong_batch, number=number) for number in range(WRONG_BATCHES)),
    *(partial(folder_with_a_wrong_kind, kind=kind) for kind in IN_THE_WAY),
    *[folder_with_other_classes] * 4,
    *[folder_with_a_wrong_file] * 2,
    *[archive_with_a_wrong_file] * 3,
    *[archive_damaged] * 2,
    *[archive_damaged_before_it_was_packed] * 2,
    archive_with_strangers,
    archive_with_links,
    *[archive_whose_sizes_lie] * 2,
    archive_in_circles,
    archive_too_large,
    archive_with_too_large_a_file,
    no_archive,
    sound,
]


# The outcome of reading it.


def reasons(module: ModuleType) -> Lines:
    """The first line of every refusal of a module: of each `raise` of a new error."""
    source = Path(str(module.__file__))
    raising = [node for node in ast.walk(ast.parse(source.read_text())) if isinstance(node, ast.Raise) and node.exc]
    return {(source.name, node.lineno) for node in raising}


def lines_of(error: BaseException | None) -> Iterator[tuple[str, int]]:
    """The lines that an error, and what caused it, went through."""
    while error is not None:
        at: TracebackType | None = error.__traceback__
        while at is not None:
            yield Path(at.tb_frame.f_code.co_filename).name, at.tb_lineno
            at = at.tb_next
        error = error.__cause__ or error.__context__


def tree(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def test_every_copy_is_read_as_it_is_or_refused_and_every_reason_is_met(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: Count, tally: Tally
) -> None:
    monkeypatch.chdir(tmp_path)
    mark = tmp_path / "mark.npy"
    expected = archive.read(in_folder(tmp_path / "sound", SOUND))
    assert expected[2]
    met: Lines = set()
    for number in range(max(200, count(200, 2000))):  # fewer do not meet every reason
        chance, kind = random.Random(number), KINDS[number % len(KINDS)]
        path = kind(tmp_path / f"{number}", chance, mark)
        before = tree(tmp_path)
        try:
            outcome = read_or_refused(path, expected, met)
        except BaseException:
            print(f"case {number}: {kind}")
            raise
        assert tree(tmp_path) == before, f"case {number}: {kind}"
        assert kind not in (sound, archive_with_strangers) or outcome == "read as the published ones"
        tally(f"copies of the data {outcome}")
        shutil.rmtree(tmp_path / f"{number}")
    assert reasons(archive) <= met, f"never met: {sorted(reasons(archive) - met)}"
    assert reasons(pickles) <= met, f"never met: {sorted(reasons(pickles) - met)}"


def read_or_refused(path: Path, expected: tuple[archive.Arrays, archive.Arrays, bool], met: Lines) -> str:
    """What became of a copy; what it was refused for is added to `met`."""
    try:
        train, test, official = archive.read(path)
    except DataError as error:
        met.update(lines_of(error))
        named = Path(str(error).partition(": expected ")[0])
        assert named == path or named.parent == path
        parted(named, str(error), error.exit_code)
        return "refused"
    for (images, labels), (expected_images, expected_labels) in ((train, expected[0]), (test, expected[1])):
        assert (images.shape, images.dtype) == (expected_images.shape, np.uint8)
        assert (labels.shape, labels.dtype) == (expected_labels.shape, np.uint8)
        assert np.array_equal(np.sort(labels), np.sort(expected_labels))
        assert not official or (np.array_equal(images, expected_images) and np.array_equal(labels, expected_labels))
    return "read as the published ones" if official else "read as another's"
