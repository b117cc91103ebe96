"""One way to run a function in another process: its result, its errors, its death, its time limit."""

import os
import sys
import time

import pytest

from cifar.errors import CifarError, UsageError
from cifar.system.child_process import ChildError, ChildProcess, exchange, run_in_subprocess


def refuse(reason: str) -> None:
    raise UsageError(reason)


def count(n: int) -> str:
    print("a library prints this on stdout")
    for number in range(n):
        exchange(number)
    return "done"


def double(values: dict[str, int], factor: int = 2) -> dict[str, int]:
    return {name: factor * value for name, value in values.items()}


def variable(name: str) -> str | None:
    return os.environ.get(name)


def test_a_function_runs_in_another_process() -> None:
    assert run_in_subprocess(os.getpid) != os.getpid()
    assert run_in_subprocess(double, {"a": 1}, factor=3) == {"a": 3}
    assert run_in_subprocess(variable, "CIFAR_TEST", variables={"CIFAR_TEST": "x"}) == "x"


def test_an_error_of_ours_keeps_its_class_and_its_exit_code() -> None:
    with pytest.raises(UsageError, match=r"^no such thing\.$") as caught:
        run_in_subprocess(refuse, "no such thing.")
    assert caught.value.exit_code == 2


def test_any_other_error_is_one_sentence_with_the_name_of_the_function() -> None:
    with pytest.raises(ChildError, match="int: ValueError: invalid literal") as caught:
        run_in_subprocess(int, "x")
    assert "\n" not in str(caught.value)


def test_a_result_that_is_not_json_is_an_error() -> None:
    with pytest.raises(ChildError, match="not JSON serializable"):
        run_in_subprocess(bytes, 3)


@pytest.mark.parametrize(
    ("function", "argument", "reason"),
    [
        (os._exit, 9, "ended with code 9"),
        (os.abort, None, "ended by signal 6"),
        (sys.exit, "last words", "last words"),
    ],
)
def test_a_process_that_dies_is_an_error_that_says_how(function: object, argument: object, reason: str) -> None:
    arguments = () if argument is None else (argument,)
    with pytest.raises(CifarError, match=reason):
        run_in_subprocess(function, *arguments)  # type: ignore[arg-type]


def test_a_process_that_takes_too_long_is_killed() -> None:
    started = time.monotonic()
    with pytest.raises(ChildError, match=r"sleep: no result within 0\.5 s"):
        run_in_subprocess(time.sleep, 300, timeout=0.5)
    assert time.monotonic() - started < 100


def test_messages_come_one_by_one_and_the_child_waits_for_each_to_be_received() -> None:
    with ChildProcess(count, 2) as child:
        assert child.receive() == 0
        assert child.alive
        child.resume()
        assert child.receive() == 1
        assert not child.finished
        child.resume()
        assert child.receive() == "done"
        assert child.finished


def test_a_child_is_killed_at_the_end_of_the_block() -> None:
    with ChildProcess(time.sleep, 300) as child:
        assert child.alive
    assert not child.alive
