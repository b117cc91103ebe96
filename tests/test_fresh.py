import os

import pytest

from cifar.errors import CifarError
from cifar.system import child_process


def test_the_answer_of_a_call_comes_from_another_process() -> None:
    assert child_process.run_in_subprocess(os.getpid) != os.getpid()


def test_an_error_of_a_call_is_raised_here() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        child_process.run_in_subprocess(int, "x")


def test_a_call_whose_process_is_killed_is_an_error_of_ours() -> None:
    with pytest.raises(CifarError, match="was killed"):
        child_process.run_in_subprocess(os._exit, 9)
