import gzip
import hashlib
import os
import pickle
import re
import shutil
import struct
import subprocess
import sys
import tarfile
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.archives import (
    LAUGHS,
    LAYOUTS,
    NAMES,
    SMALL,
    Images,
    Labels,
    array,
    batch,
    files,
    header,
    meta,
    noise,
    opcodes,
    pack,
    parted,
    payloads,
    shape_of,
    text,
    unlike_uint8,
    without,
    written,
)
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cifar.data import archive
from cifar.errors import DataError

FILE = Path("somewhere/data_batch_3")


@pytest.fixture(scope="module", autouse=True)
def _small_batches() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(archive, "BATCH", SMALL)
        yield


@pytest.fixture(scope="module")
def full() -> tuple[Images, Labels]:
    rng = np.random.default_rng(5)
    images = rng.integers(0, 256, (10_000, 3072), np.uint8)
    return images, rng.integers(0, 10, 10_000).tolist()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / archive.FOLDER
    path.mkdir()
    for name, content in files().items():
        (path / name).write_bytes(content)
    return path


def refused(path: Path, action: Callable[[], object]) -> tuple[str, str]:
    """What the refusal expected and found instead; it must name the file and be one short printable line."""
    with pytest.raises(DataError) as caught:
        action()
    return parted(path, str(caught.value), caught.value.exit_code)


def refused_batch(content: bytes) -> tuple[str, str]:
    return refused(FILE, lambda: archive.parse_batch(content, FILE))


APART = """
import resource, sys
from pathlib import Path
from cifar.data import archive
from cifar.errors import DataError

resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
archive.BATCH = 20
try:
    {call}
except DataError as error:
    print(error.exit_code, error)
else:
    print(0, "read without complaint")
"""


def refused_apart(path: Path, call: str, content: bytes = b"") -> tuple[str, str]:
    """As `refused`, in a process that a hostile file may crash, fill or hang."""
    command = [sys.executable, "-c", APART.format(call=call), str(path)]
    done = subprocess.run(command, input=content, capture_output=True, timeout=20)
    assert done.returncode == 0, f"the reader died: {done.returncode} {done.stderr.decode()[-500:]}"
    code, message = done.stdout.decode().rstrip("\n").split(" ", 1)
    return parted(path, message, int(code))


def refused_batch_apart(content: bytes) -> tuple[str, str]:
    return refused_apart(FILE, "archive.parse_batch(sys.stdin.buffer.read(), Path(sys.argv[1]))", content)


def refused_archive_apart(path: Path) -> tuple[str, str]:
    return refused_apart(path, "archive.read(Path(sys.argv[1]))")


# What is well formed.


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_batch_gives_back_its_images_and_labels(
    layout: str, full: tuple[Images, Labels], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "BATCH", 10_000)
    data, labels = full
    images, read_labels = archive.parse_batch(written(layout, data, labels), FILE)
    assert (images.dtype, images.shape) == (np.uint8, (10_000, 32, 32, 3))
    assert images.flags.c_contiguous
    for channel in range(3):
        plane = data[:, 1024 * channel : 1024 * (channel + 1)].reshape(-1, 32, 32)
        assert np.array_equal(images[..., channel], plane)
    assert read_labels.dtype == np.uint8
    assert read_labels.tolist() == labels


def test_an_array_pickled_by_columns_gives_the_same_images() -> None:
    by_columns = np.asfortranarray(noise())
    images, _ = archive.parse_batch(batch(data=by_columns), FILE)
    assert np.array_equal(images, archive.parse_batch(batch(), FILE)[0])


def test_images_can_be_written_to() -> None:
    images, labels = archive.parse_batch(opcodes(), FILE)
    images[0, 0, 0, 0] ^= 255
    labels[0] = 3
    assert archive.parse_batch(opcodes(), FILE)[0][0, 0, 0, 0] == images[0, 0, 0, 0] ^ 255


@pytest.mark.parametrize("kind", ["folder", "archive"])
def test_the_parts_are_read_in_their_order(kind: str, folder: Path, tmp_path: Path) -> None:
    path = folder if kind == "folder" else pack(tmp_path / "c.tar.gz", dict(reversed(files().items())))
    (x_train, y_train), (x_test, y_test), official = archive.read(path)
    in_order = np.concatenate([noise(n) for n in range(6)]).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    assert np.array_equal(np.concatenate([x_train, x_test]), in_order)
    assert y_train.tolist() == [i % 10 for i in range(5 * SMALL)]
    assert y_test.tolist() == [i % 10 for i in range(SMALL)]
    assert official is False


def test_files_are_official_only_if_every_digest_is_the_published_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, content in files().items():
        assert archive.read(folder)[2] is False
        monkeypatch.setitem(archive.FILES_MD5, name, hashlib.md5(content).hexdigest())
    assert archive.read(folder)[2] is True


def test_other_members_of_an_archive_are_left_alone(tmp_path: Path) -> None:
    outside = "../" * 30 + str(tmp_path / "evil")[1:]
    path = pack(tmp_path / "c.tar.gz", {"readme.html": b"hello", outside: b"evil", **files()})
    assert len(archive.read(path)[0][0]) == 5 * SMALL
    assert list(tmp_path.iterdir()) == [path]


# Batches that are not what they have to be.


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("value", [[1, 2], b"bytes", 7, None, (b"data", b"labels"), noise()], ids=repr)
def test_a_batch_that_is_not_a_dict_is_refused(value: object, protocol: int) -> None:
    expected, actual = refused_batch(pickle.dumps(value, protocol))
    assert expected == "a dict"
    assert actual.startswith("a uint8 array" if isinstance(value, np.ndarray) else type(value).__name__)


@pytest.mark.parametrize("key", ["data", "labels"])
def test_a_batch_without_one_of_its_entries_is_refused(key: str) -> None:
    expected, actual = refused_batch(pickle.dumps(without(key.encode()), 2))
    assert expected == f"an entry '{key}'"
    assert actual == ", ".join(name for name in ("batch_label", "labels", "data", "filenames") if name != key)


def test_an_empty_dict_is_refused() -> None:
    assert refused_batch(pickle.dumps({}, 2)) == ("an entry 'data'", "none")


@pytest.mark.parametrize("dtype", ["f4", "f8", "i1", "u2", ">u2", "i8", "?", "c8", "S1", "U1", "M8[s]", "V1"])
@pytest.mark.parametrize("protocol", [2, 4])
def test_an_array_of_another_kind_of_number_is_refused(dtype: str, protocol: int) -> None:
    expected, actual = refused_batch(batch(protocol, data=np.zeros((SMALL, 3072), dtype)))
    assert expected == "a pickle of arrays, bytes, lists, ints and dicts"
    assert f"'{np.dtype(dtype).str[1:]}'" in actual or "numpy" in actual


def test_an_array_of_structures_is_refused() -> None:
    kind = np.dtype([("red", "u1"), ("green", "u1")])
    assert "numpy.dtype" in refused_batch(batch(data=np.zeros((SMALL, 1536), kind)))[1]


@pytest.mark.parametrize("shape", [(SMALL, 3071), (SMALL - 1, 3072), (SMALL, 32, 32, 3), (SMALL * 3072,)])
def test_an_array_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    expected, actual = refused_batch(batch(data=np.zeros(shape, np.uint8)))
    assert expected == "'data' a uint8 array of shape (20, 3072)"
    assert actual == f"a uint8 array of shape {shape}"


@pytest.mark.parametrize(
    ("value", "description"), [([0] * SMALL, "list of 20"), (b"x" * 9, "bytes of 9"), (None, "NoneType"), (5, "int")]
)
def test_data_that_are_no_array_are_refused(value: object, description: str) -> None:
    assert refused_batch(batch(data=value)) == ("'data' a uint8 array of shape (20, 3072)", description)


@pytest.mark.parametrize("count", [0, SMALL - 1, SMALL + 1])
def test_another_number_of_labels_is_refused(count: int) -> None:
    assert refused_batch(batch(labels=[1] * count)) == ("'labels' a list of 20", f"list of {count}")


@pytest.mark.parametrize(
    ("value", "description"),
    [
        ((1,) * SMALL, "tuple of 20"),
        (b"\1" * SMALL, "bytes of 20"),
        (None, "NoneType"),
        (noise()[0][:SMALL], "a uint8 array of shape (20,)"),
        (dict.fromkeys(range(SMALL), 1), ""),
    ],
)
def test_labels_that_are_no_list_are_refused(value: object, description: str) -> None:
    assert description in refused_batch(batch(labels=value))[1]


@pytest.mark.parametrize("place", [0, SMALL - 1])
@pytest.mark.parametrize("label", [10, -1, 255, 256, 1 << 40, True, False, 3.0, None, "3", b"3", [3]], ids=repr)
def test_a_label_that_is_not_an_int_from_0_to_9_is_refused(label: object, place: int) -> None:
    labels: list[object] = [1] * SMALL
    labels[place] = label
    expected, actual = refused_batch(batch(labels=labels))
    assert expected == "labels from 0 to 9"
    assert repr(label) in actual or type(label).__name__ in actual


def test_a_label_too_long_to_print_is_refused() -> None:
    assert refused_batch(batch(labels=[1] * (SMALL - 1) + [1 << 100_000]))[0] == "labels from 0 to 9"


def test_a_label_too_deep_to_print_is_refused() -> None:
    nested = b"]" * 100_000 + b"a" * 99_999
    assert refused_batch(opcodes(labels=b"](" + nested + b"K\x01" * 19 + b"e"))[0] == "labels from 0 to 9"


# Class names and counts.


@pytest.mark.parametrize(
    "names",
    [
        NAMES[::-1],
        NAMES[:9],
        [*NAMES, b"eleventh"],
        [b"plane", *NAMES[1:]],
        list(archive.CLASS_NAMES),
        tuple(NAMES),
        [],
        None,
        b"airplane",
    ],
    ids=repr,
)
def test_other_class_names_are_refused(names: object) -> None:
    expected, actual = refused(FILE, lambda: archive.check_class_names({b"label_names": names}, FILE))
    assert expected == "the classes airplane, automobile, bird, cat, deer, dog, frog, horse, ship, truck"
    assert actual


def test_the_first_other_name_is_shown() -> None:
    wrong = {b"label_names": [b"zeppelin", *NAMES[1:]]}
    assert "zeppelin" in refused(FILE, lambda: archive.check_class_names(wrong, FILE))[1]


def test_missing_class_names_are_refused() -> None:
    refusal = refused(FILE, lambda: archive.check_class_names({b"num_vis": 3072}, FILE))
    assert refusal == ("an entry 'label_names'", "num_vis")


def test_the_right_class_names_pass() -> None:
    archive.check_class_names({b"label_names": NAMES}, FILE)


@pytest.mark.parametrize(
    ("labels", "expected", "actual"),
    [
        ([0, 0, *range(2, 10)], "1 test images of class 'airplane'", "2"),
        ([*range(9), 8], "1 test images of class 'ship'", "2"),
        ([*range(9), 0] * 3, "3 test images of class 'airplane'", "6"),
        ([*range(10), 4], "1 test images of class 'deer'", "2"),
    ],
)
def test_classes_of_unequal_size_are_refused(labels: Labels, expected: str, actual: str) -> None:
    def check() -> None:
        archive.check_class_counts(np.array(labels, np.uint8), "test", FILE)

    assert refused(FILE, check) == (expected, actual)


def test_classes_of_equal_size_pass() -> None:
    archive.check_class_counts(np.arange(50).astype(np.uint8) % 10, "test", FILE)


# Damage.


def test_a_pickle_cut_short_anywhere_is_refused() -> None:
    whole = opcodes()
    near_the_array = range(whole.index(b"cnumpy"), whole.index(noise().tobytes()) + 3)
    for length in [*range(60), *near_the_array, len(whole) // 2, len(whole) - 2, len(whole) - 1]:
        assert refused_batch(whole[:length])[0].endswith("pickle of arrays, bytes, lists, ints and dicts")
    assert "30,000 bytes" in refused_batch(whole[:30_000])[1]
    archive.parse_batch(whole, FILE)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 1000,
        b"\xff" * 1000,
        bytes(range(256)) * 8,
        b"<html><body>404 Not Found</body></html>",
        b"\x1f\x8b\x08\x00" + bytes(100),
        np.random.default_rng(3).bytes(50_000),
    ],
    ids=["empty", "zeros", "ones", "counting", "html", "gzip", "noise"],
)
def test_what_is_no_pickle_is_refused(content: bytes) -> None:
    expected, actual = refused_batch(content)
    assert expected.endswith("arrays, bytes, lists, ints and dicts")
    assert actual


def small_pickle(layout: str) -> tuple[bytes, int, int]:
    """A batch, and where its pixels begin and end."""
    content = written(layout, noise(), [i % 10 for i in range(SMALL)])
    raw = noise().tobytes()
    if layout == "protocol 2":
        raw = raw.decode("latin1").encode()
    start = content.index(raw)
    return content, start, start + len(raw)


def assert_read_or_refused(content: bytes) -> None:
    try:
        images, labels = archive.parse_batch(content, FILE)
    except DataError as error:
        parted(FILE, str(error), error.exit_code)
        return
    assert (images.shape, images.dtype) == ((SMALL, 32, 32, 3), np.uint8)
    assert (labels.shape, labels.dtype) == ((SMALL,), np.uint8)
    assert labels.max() < 10


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(LAYOUTS),
    st.lists(st.tuples(st.integers(0, 2_000), st.integers(0, 255)), min_size=1, max_size=4),
)
@example("published", [(0, 0), (1, 0)])
@example("protocol 4", [(11, 0x93)])
def test_changed_bytes_around_the_pixels_are_read_or_refused(layout: str, changes: list[tuple[int, int]]) -> None:
    content, start, end = small_pickle(layout)
    around = bytearray(content[:start] + content[end:])
    for place, byte in changes:
        around[place % len(around)] = byte
    assert_read_or_refused(bytes(around[:start]) + content[start:end] + bytes(around[start:]))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(LAYOUTS), st.integers(0, 2_000), st.integers(0, 40), st.binary(max_size=40))
def test_bytes_replaced_inserted_or_cut_are_read_or_refused(layout: str, place: int, cut: int, new: bytes) -> None:
    content, start, end = small_pickle(layout)
    place %= len(content) - (end - start)
    place = place if place < start else place + end - start
    assert_read_or_refused(content[:place] + new + content[place + cut :])


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(LAYOUTS), st.floats(0, 1, exclude_max=True))
def test_a_pickle_cut_short_is_refused(layout: str, share: float) -> None:
    content, _, _ = small_pickle(layout)
    refused_batch(content[: int(share * len(content))])


# Hostile pickles.


@pytest.mark.parametrize("protocol", [0, 1, 2, 4, 5])
@pytest.mark.parametrize("name", sorted(payloads(Path("mark"))))
def test_a_pickle_that_calls_something_is_refused_before_it_does(name: str, protocol: int, tmp_path: Path) -> None:
    mark = tmp_path / "mark.npy"
    hostile = batch(protocol, filenames=payloads(mark)[name])
    pickle.loads(hostile)
    assert mark.exists(), "the payload is a dud"
    mark.unlink()
    expected, actual = refused_batch(hostile)
    assert expected.endswith("pickle of arrays, bytes, lists, ints and dicts")
    assert protocol < 2 or re.search(r"\w\.\w", actual), "what it wanted to import is not named"
    assert not mark.exists()


@pytest.mark.parametrize("protocol", [2, 4])
def test_an_array_of_objects_is_refused_before_they_are_made(protocol: int, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    objects = np.array([payloads(mark)["os.system"]] * SMALL, object)
    hostile = batch(protocol, data=objects)
    pickle.loads(hostile)
    mark.unlink()
    assert "numpy.dtype 'O" in refused_batch(hostile)[1]
    assert not mark.exists()


@pytest.mark.parametrize(
    "wanted",
    [
        "numpy dtype.newbyteorder",
        "numpy ndarray.tofile",
        "numpy.core.multiarray fromfile",
        "numpy frombuffer",
        "_codecs decode",
        "_codecs lookup",
        "builtins bytearray",
        "__builtin__ bytes",
        "copyreg _reconstructor",
        "cifar.data.archive _unpickle",
        "pickle loads",
    ],
)
def test_only_what_arrays_and_bytes_need_can_be_imported(wanted: str) -> None:
    module, name = wanted.split()
    by_line = f"c{module}\n{name}\n".encode()
    by_stack = b"\x8c%c%b\x8c%c%b\x93" % (len(module), module.encode(), len(name), name.encode())
    for opcode in (by_line, by_stack):
        assert refused_batch(opcodes(more=text(b"x") + opcode))[1] == f"{module}.{name}"


@pytest.mark.parametrize("codec", ["utf-8", "rot13", "base64", "zlib", "idna", "unicode_escape"])
def test_no_codec_but_latin1_is_admitted(codec: str) -> None:
    call = b"c_codecs\nencode\nX\x03\0\0\0abcX" + struct.pack("<I", len(codec)) + codec.encode() + b"\x86R"
    assert codec in refused_batch(opcodes(more=text(b"x") + call))[1]


@pytest.mark.parametrize(
    "state", [b"N", b"K\x01", b"}", b"(t", b"(NNNt", b"(NNNNNt", b"(K\x01K\x02NNNtb", unlike_uint8()]
)
def test_an_array_whose_state_is_no_state_is_refused(state: bytes) -> None:
    start = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    assert refused_batch(opcodes(start + state + b"b"))[0].endswith("arrays, bytes, lists, ints and dicts")


@pytest.mark.parametrize(
    "shape",
    [
        shape_of(SMALL + 1, 3072),
        shape_of(SMALL, 3071),
        shape_of(2**31 - 1, 2**31 - 1),
        shape_of(-SMALL, -3072),
        b"(\x8a\x09" + b"\x01" * 9 + b"K\x01t",
        b"(U\x04manyt",
        b"N",
        shape_of(*[1] * 70),
    ],
    ids=["more", "less", "overflow", "negative", "huge", "text", "none", "70 axes"],
)
def test_an_array_whose_shape_is_not_that_of_its_bytes_is_refused(shape: bytes) -> None:
    refused_batch(opcodes(array(noise().tobytes(), shape)))


def test_an_array_whose_bytes_are_fewer_than_their_length_is_refused() -> None:
    lying = opcodes().replace(text(noise().tobytes())[:5], b"T" + struct.pack("<i", 2**31 - 1))
    assert "EOFError" in refused_batch(lying)[1] or "Unpickling" in refused_batch(lying)[1]


def test_an_array_that_was_never_filled_is_refused() -> None:
    empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    assert refused_batch(opcodes(empty))[1] == "a uint8 array of shape (0,)"


def test_what_stands_in_for_numpy_is_no_data() -> None:
    for stand_in in (b"cnumpy\nndarray\n", b"cnumpy\ndtype\n", b"c_codecs\nencode\n"):
        assert refused_batch(opcodes(stand_in))[0].startswith("'data'")


def test_a_pickle_cannot_change_how_the_next_is_read() -> None:
    encode = b"c_codecs\nencode\n"
    without_codec = opcodes(more=text(b"x") + encode + b"X\x03\0\0\0abc\x85R")
    before = refused_batch(without_codec)
    refused_batch(b"\x80\x02" + encode + b"N}X\x0c\0\0\0__defaults__X\x06\0\0\0latin1\x85s\x86b.")
    assert refused_batch(without_codec) == before


def test_no_memory_is_taken_for_what_a_pickle_merely_claims() -> None:
    claims = {
        "memo": b"\x80\x02}r\xff\xff\xff\x7f.",
        "old memo": b"(dp2147483647\n.",
        "bytes": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 28) + b"abc.",
        "text": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 28) + b"abc.",
        "frame": b"\x80\x04\x95" + struct.pack("<Q", 1 << 28) + b"}.",
        "int": b"\x80\x02\x8b" + struct.pack("<i", 1 << 28) + b"abc.",
        "bytearray": b"\x80\x05\x96" + struct.pack("<Q", 1 << 28) + b"abc.",
    }
    for name, content in claims.items():
        assert memory_to_refuse(content) < 10 << 20, name


def test_no_memory_is_taken_for_one_text_encoded_again_and_again() -> None:
    pixels = b"X" + struct.pack("<I", 1 << 20) + b"a" * (1 << 20)
    kept = b"c_codecs\nencode\nq\1a" + pixels + b"q\2aX\x06\0\0\0latin1q\3a"
    content = b"\x80\x02]" + kept + b"h\1h\2h\3\x86Ra" * 400 + b"."
    assert memory_to_refuse(content) < 200 << 20


def memory_to_refuse(content: bytes) -> int:
    tracemalloc.start()
    try:
        refused_batch(content)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_deep_nesting_is_refused() -> None:
    for nested in (b"]" * 50_000 + b"a" * 49_999, b")" + b"\x85" * 50_000, b"(" * 50_000):
        assert refused_batch(b"\x80\x02" + nested + b".")
        assert refused_batch(opcodes(nested))


def test_a_key_nested_so_deep_that_it_would_crash_python_is_refused() -> None:
    refused_batch_apart(b"\x80\x02})" + b"\x85" * 1_000_000 + b"K\x01s.")


def test_a_key_that_would_take_an_age_to_hash_is_refused() -> None:
    refused_batch_apart(b"\x80\x02}" + LAUGHS + b"K\x01s.")


@pytest.mark.parametrize(
    "content",
    [
        opcodes(labels=b"](" + LAUGHS + b"K\x01" * 19 + b"e"),
        b"\x80\x02cnumpy\ndtype\n" + LAUGHS + b"\x85R.",
        b"\x80\x02c_codecs\nencode\nX\x01\0\0\0a" + LAUGHS + b"\x86R.",
    ],
    ids=["label", "dtype", "codec"],
)
def test_what_would_take_an_age_to_print_is_refused(content: bytes) -> None:
    refused_batch_apart(content)


def test_class_names_that_would_take_an_age_to_print_are_refused(folder: Path) -> None:
    laughs = b"\x80\x02}" + text(b"label_names") + b"](" + LAUGHS + b"es."
    (folder / "batches.meta").write_bytes(laughs)
    path = folder / "batches.meta"
    refused_apart(path, "archive.read(Path(sys.argv[1]).parent)")


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04\x8c\x07\x1b[31m\n\r\x8c\x02up\x93.",
        b"\x80\x02}" + text(b"\x1b[2J\x07") + b"K\x01s.",
        b"\x80\x02cnumpy\ndtype\n" + text("\x9b\x1b[31m\n".encode()) + b"\x85R.",
    ],
    ids=["name", "key", "dtype"],
)
def test_a_refusal_carries_no_control_characters(content: bytes) -> None:
    refused_batch(content)


# Folders.


@pytest.mark.parametrize("name", archive.FILES_MD5)
def test_a_folder_lacking_a_file_is_refused(name: str, folder: Path) -> None:
    (folder / name).unlink()
    assert refused(folder / name, lambda: archive.read(folder)) == ("a readable file", "No such file or directory")


@pytest.mark.parametrize("name", archive.FILES_MD5)
@pytest.mark.parametrize("content", [b"", b"garbage", batch()[:-1], pickle.dumps([1], 2), pickle.dumps({}, 2)])
def test_a_folder_with_a_damaged_file_is_refused_and_the_file_named(name: str, content: bytes, folder: Path) -> None:
    (folder / name).write_bytes(content)
    refused(folder / name, lambda: archive.read(folder))


def test_a_folder_with_other_class_names_is_refused(folder: Path) -> None:
    (folder / "batches.meta").write_bytes(meta(NAMES[::-1]))
    assert "truck" in refused(folder / "batches.meta", lambda: archive.read(folder))[1]


@pytest.mark.parametrize(("name", "split"), [("data_batch_5", "10 training"), ("test_batch", "2 test")])
def test_a_folder_with_classes_of_unequal_size_is_refused(name: str, split: str, folder: Path) -> None:
    labels = [i % 10 for i in range(SMALL)]
    labels[7] = 2
    (folder / name).write_bytes(batch(labels=labels))
    refusal = refused(folder, lambda: archive.read(folder))
    assert refusal == (f"{split} images of class 'bird'", f"{int(split.split()[0]) + 1}")


def test_the_classes_are_counted_over_all_of_training(folder: Path) -> None:
    """As in the published files, where no single batch has equally many of each."""
    once, twice = [i % 10 for i in range(SMALL)], [i % 10 for i in range(SMALL)]
    once[0], twice[1] = 1, 0
    (folder / "data_batch_1").write_bytes(batch(labels=once))
    (folder / "data_batch_2").write_bytes(batch(labels=twice))
    assert archive.read(folder)[0][1][:2].tolist() == [1, 1]


def test_a_file_too_large_is_refused_unread(folder: Path) -> None:
    with (folder / "data_batch_2").open("wb") as stream:
        stream.truncate(archive.MAX_FILE_BYTES + 1)
    tracemalloc.start()
    try:
        refusal = refused(folder / "data_batch_2", lambda: archive.read(folder))
        assert tracemalloc.get_traced_memory()[1] < archive.MAX_FILE_BYTES
    finally:
        tracemalloc.stop()
    assert refusal == ("at most 67,108,864 bytes", "67,108,865")


def test_a_folder_in_the_place_of_a_file_is_refused(folder: Path) -> None:
    (folder / "test_batch").unlink()
    (folder / "test_batch").mkdir()
    assert refused(folder / "test_batch", lambda: archive.read(folder))[0] == "a readable file"


def test_a_pipe_in_the_place_of_a_file_is_refused(folder: Path) -> None:
    (folder / "test_batch").unlink()
    os.mkfifo(folder / "test_batch")
    refused_apart(folder / "test_batch", "archive.read(Path(sys.argv[1]).parent)")


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path / "data_batch_1", lambda: archive.read(tmp_path))[0] == "a readable file"


# Archives.


def test_an_archive_that_is_not_there_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "none.tar.gz"
    assert "No such file" in refused(path, lambda: archive.read(path))[1]


@pytest.mark.parametrize("name", archive.FILES_MD5)
def test_an_archive_lacking_a_member_is_refused(name: str, tmp_path: Path) -> None:
    path = pack(tmp_path / "c.tar.gz", {key: content for key, content in files().items() if key != name})
    assert refused(path, lambda: archive.read(path)) == (f"a member {archive.FOLDER}/{name}", "none")


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE]
)
def test_a_member_that_is_no_file_is_refused(kind: bytes, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(batch())
    member = tarfile.TarInfo()
    member.type, member.linkname = kind, str(secret)
    contents: dict[str, bytes | tarfile.TarInfo] = {**files(), "test_batch": member}
    path = pack(tmp_path / "c.tar.gz", contents)
    expected, _ = refused(path, lambda: archive.read(path))
    assert f"{archive.FOLDER}/test_batch a file" in expected


def test_a_link_to_another_member_is_refused(tmp_path: Path) -> None:
    member = tarfile.TarInfo()
    member.type, member.linkname = tarfile.SYMTYPE, "data_batch_1"
    path = pack(tmp_path / "c.tar.gz", {**files(), "test_batch": member})
    refused(path, lambda: archive.read(path))


def test_a_member_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    largest = max(map(len, files().values()))
    monkeypatch.setattr(archive, "MAX_FILE_BYTES", largest)
    path = pack(tmp_path / "c.tar.gz", {**files(), "data_batch_4": b"x" * (largest + 1)})
    expected, actual = refused(path, lambda: archive.read(path))
    assert "data_batch_4" in expected
    assert f"{largest:,}" in expected
    assert f"{largest + 1:,}" in actual


EMPTY, GARBAGE = (gzip.compress(text, mtime=0) for text in (b"", b"garbage" * 200))


@pytest.mark.parametrize("content", [b"", b"garbage", EMPTY, GARBAGE, opcodes()])
def test_what_is_no_archive_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "c.tar.gz"
    path.write_bytes(content)
    assert "archive" in refused(path, lambda: archive.read(path))[0]


def test_an_archive_cut_short_anywhere_is_refused(tmp_path: Path) -> None:
    path = pack(tmp_path / "c.tar.gz", dict(files()))
    whole = path.read_bytes()
    for length in [5, 20, 500, *range(1000, len(whole), len(whole) // 30), len(whole) - 1]:
        path.write_bytes(whole[:length])
        refused(path, lambda: archive.read(path))


def test_an_archive_with_any_byte_changed_is_refused(tmp_path: Path) -> None:
    path = pack(tmp_path / "c.tar.gz", dict(files()))
    whole = bytearray(path.read_bytes())
    for place in range(40, len(whole), len(whole) // 30):  # the first ones are the header's file name
        whole[place] ^= 0x10
        path.write_bytes(whole)
        whole[place] ^= 0x10
        refused(path, lambda: archive.read(path))


def test_a_damaged_member_is_refused_and_named(tmp_path: Path) -> None:
    path = pack(tmp_path / "c.tar.gz", {**files(), "data_batch_4": batch()[:-1]})
    assert refused(path / "data_batch_4", lambda: archive.read(path))[0].startswith("a whole pickle")


@pytest.mark.parametrize(
    "content",
    [
        header("x", 1 << 60, tarfile.XHDTYPE),
        header("x", 1 << 70, tarfile.XHDTYPE),
        header("x", 1 << 60, tarfile.GNUTYPE_LONGNAME),
        (header("x", 10, tarfile.GNUTYPE_LONGNAME) + bytes(512)) * 5_000,
        header("x", -512, tarfile.XHDTYPE) + header("b", 0),
        header("x", 1 << 60),
        header("c", 0) + header("a", 0) + header("b", -1024),
    ],
    ids=["attributes", "more attributes", "long name", "many names", "less than nothing", "large", "circle"],
)
def test_an_archive_of_hostile_headers_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "c.tar.gz"
    path.write_bytes(gzip.compress(content + bytes(1024)))
    refused_archive_apart(path)


def test_reading_leaves_nothing_behind(folder: Path, tmp_path: Path) -> None:
    path = pack(tmp_path / "c.tar.gz", dict(files()))
    shutil.rmtree(folder)
    archive.read(path)
    assert list(tmp_path.iterdir()) == [path]
