"""Lists of names and numbers on the command line."""

import contextlib
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cifar.cli import list_options
from cifar.cli.list_options import MAX_NUMBERS, NumberList, split_names
from cifar.cli.options import MAX_SEED
from cifar.errors import UsageError, one_of
from cifar.formats import FORMATS
from cifar.networks import check_name

SEEDS = NumberList("--seed", 0, MAX_SEED)
ANY_SEED = st.integers(0, MAX_SEED)


@st.composite
def ranges(draw: st.DrawFn) -> tuple[str, list[int]]:
    """A seed or a range of seeds as text, and the seeds it means."""
    first = draw(ANY_SEED)
    last = draw(st.integers(first, min(first + 50, MAX_SEED)))
    if first == last and draw(st.booleans()):
        return f"{first}", [first]
    return f"{first}-{last}", list(range(first, last + 1))


@given(st.lists(ranges(), min_size=1, max_size=10))
def test_seeds_and_ranges_in_a_list_are_read_in_their_order(parts: list[tuple[str, list[int]]]) -> None:
    text = ",".join(spelled for spelled, _ in parts)
    seeds = [seed for _, meant in parts for seed in meant]
    assert SEEDS.parse(text) == seeds
    assert SEEDS.merge([SEEDS.parse(text), SEEDS.parse(text)]) == list(dict.fromkeys(seeds))


@given(ANY_SEED)
def test_a_seed_of_a_default_is_read_like_a_text(seed: int) -> None:
    assert SEEDS.parse(seed) == SEEDS.parse(str(seed)) == [seed]


@given(st.text(st.characters(categories=["Nd", "Zs", "Pd"], include_characters="0123456789,-+_ x"), max_size=30))
def test_any_text_is_seeds_in_range_or_refused(text: str) -> None:
    seeds = []
    with contextlib.suppress(UsageError):
        seeds = SEEDS.parse(text)
    assert all(0 <= seed <= MAX_SEED for seed in seeds)
    assert len(seeds) <= MAX_NUMBERS * len(text)
    assert text.isascii() or not seeds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "write one number as 7"),
        ("1,", "write one number as 7"),
        ("-1", "write one number as 7"),
        ("1-", "write one number as 7"),
        ("1-2-3", "write one number as 7"),
        ("1.5", "write one number as 7"),
        ("²", "write one number as 7"),
        ("9" * 5000, "write one number as 7"),
        (f"{MAX_SEED + 1}", f"from 0 to {MAX_SEED}"),
        (f"0-{MAX_SEED}", "4,294,967,296 numbers"),
        ("9-0", "as in 0-9"),
        (f"0-{MAX_NUMBERS}", "1,001 numbers"),
    ],
)
def test_what_is_no_list_of_seeds_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        SEEDS.parse(text)


def test_a_thousand_seeds_are_the_most() -> None:
    assert SEEDS.parse(f"0-{MAX_NUMBERS - 1}") == list(range(MAX_NUMBERS))
    assert SEEDS.merge([SEEDS.parse("0-999"), [0, 999]]) == list(range(MAX_NUMBERS))
    with pytest.raises(UsageError, match="1,001 numbers"):
        SEEDS.merge([SEEDS.parse("0-999"), [1000]])


@pytest.mark.parametrize("text", ["0", "0-4", "3,4097", "1-4097"])
def test_a_number_outside_its_range_is_refused(text: str) -> None:
    batch_sizes = NumberList("--batch-size", 1, 4096)
    assert batch_sizes.parse("1,32,4096") == [1, 32, 4096]
    with pytest.raises(UsageError, match=r"--batch-size .*: a number from 1 to 4096 is needed"):
        batch_sizes.parse(text)


def check_format(name: str) -> str:
    return one_of("format", name, FORMATS)


@given(st.lists(st.lists(st.sampled_from([*FORMATS]), min_size=1), min_size=1))
def test_names_with_commas_and_repeated_count_once_in_their_order(groups: list[list[str]]) -> None:
    names = [name for group in groups for name in group]
    assert split_names([",".join(group) for group in groups], check_format) == list(dict.fromkeys(names))


@pytest.mark.parametrize("values", [[""], ["onnx,"], [",onnx"], ["onnx,,tflite"], ["onnx, tflite"], ["ONNX"]])
def test_a_name_that_is_not_listed_is_refused(values: list[str]) -> None:
    with pytest.raises(UsageError, match="There is no format"):
        split_names(values, check_format)


def test_a_list_of_networks_may_hold_your_own() -> None:
    assert split_names(["first,mine:build", "first"], check_name) == ["first", "mine:build"]


def callback(info: Any, values: Sequence[str] | str | None) -> Any:
    return info.callback(values)


def test_all_means_every_name() -> None:
    formats = list_options.name_list("format", FORMATS, "--format", or_all=True)
    assert callback(formats, ["onnx,all"]) == [*FORMATS]
    assert callback(formats, ["onnx"]) == ["onnx"]
    assert callback(formats, None) is None
    policies = list_options.name_list("policy", ["none", "all"], "--augment")
    assert callback(policies, ["all"]) == ["all"]


def test_one_name_takes_no_list() -> None:
    device = list_options.one_name("device", ["cpu", "gpu"], "--device")
    assert callback(device, "gpu") == "gpu"
    assert callback(device, None) is None
    with pytest.raises(UsageError, match="no device 'cpu,gpu'"):
        callback(device, "cpu,gpu")


@pytest.mark.parametrize(
    ("incomplete", "completions"),
    [
        ("o", ["onnx", "onnx-int8"]),
        ("tflite,o", ["tflite,onnx", "tflite,onnx-int8"]),
        ("onnx,o", ["onnx,onnx-int8"]),
        ("onnx,tflite,x", []),
    ],
)
def test_the_last_name_of_a_list_is_completed(incomplete: str, completions: list[str]) -> None:
    formats = list_options.name_list("format", FORMATS, "--format", or_all=True)
    assert formats.autocompletion(incomplete) == completions
