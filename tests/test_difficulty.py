"""The synthetic data is worth training on. Two runs of 20 epochs take about a minute and a half."""

from pathlib import Path

import pytest
from conftest import train_here

from cifar.analysis.summary import summarise
from cifar.data import dataset
from cifar.recipes import recipe


@pytest.mark.slow
def test_synthetic_data_is_neither_easy_nor_hopeless_and_augmentation_helps(tmp_path: Path) -> None:
    recipes = [
        recipe("first", augment, profile="reference", epochs=20, dataset="synthetic")
        for augment in ("none", "shift-flip")
    ]
    (group,) = summarise(train_here(recipes, dataset.draw_synthetic(), tmp_path)).groups
    for result in group.results:  # a mean of five epochs: at a constant learning rate a single one is noisy
        assert 0.5 < result.mean_last_epochs("test_accuracy") < 0.95
    (gain,) = group.gains()
    assert gain.mean_last_epochs_difference > 0.03
