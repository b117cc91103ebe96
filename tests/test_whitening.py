"""The whitening convolution: against a plain computation, its bits, and the networks that it does not fit."""

import subprocess
import sys
from typing import Any

import keras
import numpy as np
import pytest
from conftest import ROOT, isolated
from numpy.typing import NDArray

from cifar import networks
from cifar.data.dataset import Dataset
from cifar.errors import UsageError
from cifar.networks import airbench94, whitening

DIGEST = """
import sys
from cifar.system import environment
environment.configure(int(sys.argv[1]))
from cifar import networks
from cifar.data.dataset import draw_synthetic
from cifar.networks import whitening
model = networks.build("airbench94")
whitening.initialize(model, draw_synthetic(300, 1).x_train)
print(model.get_layer("whiten").kernel.numpy().tobytes().hex())
"""


@pytest.fixture(scope="module")
def model() -> Any:
    return networks.build_with_fresh_names("airbench94")


def normalised_patches(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """All 2x2 patches, (patches, 2, 2, 3), of normalised images."""
    pixels = (images / 255 - airbench94.MEAN) / airbench94.STD
    patches = []
    for row in range(31):
        for column in range(31):
            patches.append(pixels[:, row : row + 2, column : column + 2])
    return np.concatenate(patches)


def test_the_filters_whiten_the_patches_of_the_images(model: Any, small: Dataset) -> None:
    whitening.initialize(model, small.x_train)
    kernel = model.get_layer("whiten").kernel.numpy().astype(np.float64)
    assert np.array_equal(kernel[..., 12:], -kernel[..., :12])
    responses = np.tensordot(normalised_patches(small.x_train), kernel[..., :12], axes=3)
    second_moments = responses.T @ responses / len(responses)
    np.testing.assert_allclose(second_moments - np.diag(np.diag(second_moments)), 0, atol=1e-5)
    # eigenvalue / (eigenvalue + epsilon), from the largest to the smallest
    assert (np.diff(np.diag(second_moments)) <= 1e-9).all()
    lengths = 1 / np.square(kernel[..., :12]).sum(axis=(0, 1, 2)) - whitening.EPSILON
    np.testing.assert_allclose(np.diag(second_moments), lengths / (lengths + whitening.EPSILON), rtol=1e-4)
    flat = kernel[..., :12].reshape(12, 12)
    assert (flat[np.abs(flat).argmax(axis=0), range(12)] > 0).all()


def test_only_the_first_5000_images_count_and_nothing_but_the_kernel_changes(model: Any, small: Dataset) -> None:
    many = np.resize(small.x_train, (whitening.IMAGES + 50, 32, 32, 3)).copy()
    before = {weight.path: weight.numpy() for weight in model.weights}
    kernels = []
    for last in (0, 255):
        many[whitening.IMAGES :] = last
        whitening.initialize(model, many)
        kernels.append(model.get_layer("whiten").kernel.numpy())
    assert np.array_equal(*kernels)
    many[whitening.IMAGES - 1] = 255 - many[whitening.IMAGES - 1]
    whitening.initialize(model, many)
    assert not np.array_equal(model.get_layer("whiten").kernel.numpy(), kernels[0])
    changed = [weight.path for weight in model.weights if not np.array_equal(weight.numpy(), before[weight.path])]
    assert changed in ([], ["airbench94/whiten/kernel"])


def test_the_kernel_has_the_same_bits_in_a_fresh_process_and_with_other_threads(tmp_path: Any) -> None:
    digests = set()
    for threads in (1, 2):
        variables = isolated(tmp_path, OPENBLAS_NUM_THREADS=str(threads), OMP_NUM_THREADS=str(threads))
        command = [sys.executable, "-c", DIGEST, str(threads)]
        done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True, cwd=ROOT)
        digests.add(done.stdout)
    assert len(digests) == 1


def dense_of_that_name() -> Any:
    layers = keras.layers
    return keras.Sequential([keras.Input((32, 32, 3)), layers.Flatten(), layers.Dense(10, name="whiten")])


def convolution_of_other_filters() -> Any:
    return keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Conv2D(8, 2, name="whiten")])


@pytest.mark.parametrize("build", [lambda: networks.build("first"), dense_of_that_name, convolution_of_other_filters])
def test_a_network_that_cannot_be_whitened_is_refused_in_one_sentence(build: Any, small: Dataset) -> None:
    with pytest.raises(UsageError, match=r"^The network '.*' cannot be whitened: it has no convolution 'whiten'"):
        whitening.initialize(build(), small.x_train)
