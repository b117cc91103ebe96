import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cifar.errors import UsageError
from cifar.metrics.classification import (
    CLASSES,
    Labels,
    Probabilities,
    calibration_error,
    cross_entropy,
    pack_mask,
    predict,
    reliability,
    score,
    unpack_mask,
)
from cifar.metrics.misclassified import PICKS, choose_misclassified
from cifar.metrics.statistics import proportion_interval
from cifar.system import environment

PREDICTIONS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=60)  # true, predicted
SIXTEENTHS = st.lists(st.integers(0, 16), min_size=CLASSES, max_size=CLASSES)  # coarse, so that ties are common


def confident_in(predicted: list[int], confidence: float | list[float] = 0.91) -> Probabilities:
    top = np.broadcast_to(np.array(confidence), len(predicted))
    rows = np.repeat(((1 - top) / (CLASSES - 1))[:, None], CLASSES, axis=1)
    rows[np.arange(len(predicted)), predicted] = top
    return rows.astype(np.float32)


def labels(*true: int) -> Labels:
    return np.array(true, np.uint8)


def numbered(n: int) -> NDArray[np.uint8]:
    images = np.zeros((n, 32, 32, 3), np.uint8)
    images[:, 0, 0, 0] = np.arange(n)
    return images


def echo(images: NDArray[np.uint8]) -> Probabilities:
    return np.repeat(images[:, 0, 0, :1].astype(np.float32), CLASSES, axis=1)


def softmax(rng: np.random.Generator, n: int) -> Probabilities:
    powers = np.exp(rng.normal(0, 3, (n, CLASSES)))
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


@settings(deadline=None, max_examples=50)
@given(PREDICTIONS)
def test_accuracy_and_confusion_are_counts_of_confident_in(pairs):
    true, predicted = [t for t, _ in pairs], [p for _, p in pairs]
    scores = score(confident_in(predicted), labels(*true))
    assert scores.n == len(pairs)
    assert scores.correct == sum(t == p for t, p in pairs)
    assert scores.accuracy == scores.correct / len(pairs)
    assert scores.interval == proportion_interval(scores.correct, len(pairs))
    assert scores.confusion.sum() == len(pairs)
    assert scores.confusion.trace() == scores.correct
    for t in range(CLASSES):
        for p in range(CLASSES):
            assert scores.confusion[t, p] == pairs.count((t, p))


def test_per_class_accuracy_is_the_one_counted_by_hand():
    scores = score(confident_in([0, 0, 1, 3, 3, 9]), labels(0, 0, 0, 3, 9, 9))
    assert scores.per_class == pytest.approx((2 / 3, 0, 0, 1, 0, 0, 0, 0, 0, 1 / 2))


def test_scores_hold_the_loss_and_the_calibration_error_of_the_same_predictions():
    probabilities, true = softmax(np.random.default_rng(0), 50), labels(*range(10)).repeat(5)
    scores = score(probabilities, true)
    assert scores.loss == cross_entropy(probabilities, true)
    assert scores.ece == calibration_error(probabilities, true)


def test_predictions_for_another_number_of_images_are_not_scored():
    with pytest.raises(AssertionError, match="for 3 labels"):
        score(confident_in([0, 1]), labels(0, 1, 2))


def test_cross_entropy_is_the_one_computed_by_hand():
    probabilities = confident_in([0, 1], [0.5, 0.25])
    assert cross_entropy(probabilities, labels(0, 1)) == pytest.approx(1.5 * math.log(2), abs=1e-7)


def test_cross_entropy_is_that_of_keras():
    environment.configure(2)
    import keras

    rng = np.random.default_rng(0)
    probabilities, true = softmax(rng, 200), rng.integers(0, CLASSES, 200).astype(np.uint8)
    probabilities[0], true[0] = np.eye(CLASSES)[3], 3  # certain and right
    probabilities[1], true[1] = np.eye(CLASSES)[3], 4  # certain and wrong
    expected = keras.losses.CategoricalCrossentropy()(np.eye(CLASSES, dtype=np.float32)[true], probabilities)
    assert cross_entropy(probabilities, true) == pytest.approx(float(expected), abs=1e-6)


def test_calibration_error_is_the_one_computed_by_hand():
    # One bin holds 0.9 twice, one right: |1 - 1.8|. Another holds 0.5, right: |1 - 0.5|.
    error = calibration_error(confident_in([0, 1, 2], [0.9, 0.9, 0.5]), labels(0, 0, 2))
    assert error == pytest.approx((0.8 + 0.5) / 3, abs=1e-6)


def test_calibration_error_has_fifteen_bins():
    together = calibration_error(confident_in([0, 1], [0.61, 0.66]), labels(0, 0))  # both in 9/15 .. 10/15
    assert together == pytest.approx(abs(1 - 0.61 - 0.66) / 2, abs=1e-6)
    apart = calibration_error(confident_in([0, 1], [0.62, 0.69]), labels(0, 0))  # either side of 10/15
    assert apart == pytest.approx((0.38 + 0.69) / 2, abs=1e-6)


def test_full_confidence_falls_into_the_last_bin():
    error = calibration_error(confident_in([0, 1], [1.0, 0.9375]), labels(1, 1))
    assert error == pytest.approx((1.0 - 0.0625) / 2)


def test_confidence_that_comes_true_has_no_calibration_error():
    predicted = [0] * 4 + [1] * 2 + [2] * 3
    probabilities = confident_in(predicted, [0.75] * 4 + [0.5] * 2 + [1.0] * 3)
    assert calibration_error(probabilities, labels(0, 0, 0, 5, 1, 5, 2, 2, 2)) == 0.0


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 60), st.integers(1, 70))
def test_every_image_is_predicted_whatever_the_batch(n, batch):
    sizes = []

    def predictor(images: NDArray[np.uint8]) -> Probabilities:
        sizes.append(len(images))
        return echo(images)

    probabilities = predict(predictor, numbered(n), batch)
    assert probabilities[:, 0].tolist() == list(range(n))
    assert sum(sizes) == n
    assert max(sizes) <= batch


def test_predictions_are_float32_whatever_the_predictor_returns():
    assert predict(lambda images: echo(images).astype(np.float64), numbered(3)).dtype == np.float32


@pytest.mark.parametrize(
    "broken",
    [lambda x: echo(x)[:-1], lambda x: echo(x)[:, 1:], lambda x: echo(x)[:, 0], lambda x: echo(x)[..., None]],
    ids=["an image missing", "nine classes", "no class axis", "an axis too many"],
)
def test_predictions_of_another_shape_are_not_accepted(broken):
    with pytest.raises(AssertionError, match="for 7 images"):
        predict(broken, numbered(7), batch=3)


VALUES = {  # smallest first
    "confident": lambda p, _: -max(p),
    "surprising": lambda p, true: p[true],
    "close": lambda p, _: sorted(p)[-1] - sorted(p)[-2],
    "first": lambda *_: 0,
}


def test_every_rule_is_compared():
    assert set(VALUES) == set(PICKS)


@pytest.mark.parametrize("pick", VALUES)
@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(SIXTEENTHS, st.integers(0, 9)), min_size=1, max_size=30), st.integers(1, 12))
def test_only_misclassified_images_are_picked_in_the_rules_order_with_ties_in_test_set_order(pick, pictures, n):
    wrong = [i for i, (row, true) in enumerate(pictures) if row.index(max(row)) != true]
    expected = sorted(wrong, key=lambda i: VALUES[pick](*pictures[i]))[:n]  # Python's sort is stable
    probabilities = np.array([row for row, _ in pictures], np.float32) / 16
    assert choose_misclassified(probabilities, labels(*[true for _, true in pictures]), pick, n).tolist() == expected


def test_the_rules_pick_what_their_descriptions_say():
    probabilities = np.zeros((4, CLASSES), np.float32)
    probabilities[0, :4] = 0.4, 0.3, 0.2, 0.1
    probabilities[1, :4] = 0.9, 0.0, 0.1, 0.0
    probabilities[2, :4] = 0.5, 0.45, 0.05, 0.0
    probabilities[3, :4] = 0.0, 1.0, 0.0, 0.0
    true = labels(3, 2, 2, 1)  # the last one is right
    assert choose_misclassified(probabilities, true, "confident").tolist() == [1, 2, 0]
    assert choose_misclassified(probabilities, true, "surprising").tolist() == [2, 0, 1]
    assert choose_misclassified(probabilities, true, "close").tolist() == [2, 0, 1]
    assert choose_misclassified(probabilities, true, "first").tolist() == [0, 1, 2]


@pytest.mark.parametrize("pick", VALUES)
def test_ten_are_picked_unless_fewer_are_wrong(pick):
    probabilities = confident_in([0] * 30)
    many, few = np.ones(30, np.uint8), np.zeros(30, np.uint8)
    few[[4, 17, 23]] = 1
    assert choose_misclassified(probabilities, many, pick).tolist() == list(range(10))
    assert choose_misclassified(probabilities, few, pick).tolist() == [4, 17, 23]
    assert choose_misclassified(probabilities, np.zeros(30, np.uint8), pick).tolist() == []


def test_the_most_confident_misclassified_images_are_picked_by_default():
    probabilities = np.array([[0.5, 0.5, 0.0], [0.9, 0.0, 0.1], [0.7, 0.3, 0.0]], np.float32)
    probabilities = np.pad(probabilities, ((0, 0), (0, CLASSES - 3)))
    assert choose_misclassified(probabilities, labels(2, 2, 1)).tolist() == [1, 2, 0]


def test_an_unknown_rule_is_refused_with_the_nearest_and_all_valid_ones():
    with pytest.raises(UsageError) as caught:
        choose_misclassified(confident_in([0]), labels(1), "confidant")
    assert "'confidant'" in str(caught.value)
    assert "Did you mean 'confident'?" in str(caught.value)
    assert "Valid: confident, surprising, close, first." in str(caught.value)


@given(st.lists(st.booleans(), min_size=1, max_size=99))
def test_a_mask_survives_packing(right: list[bool]) -> None:
    packed = pack_mask(np.array(right))
    assert unpack_mask(packed, len(right)).tolist() == right
    with pytest.raises(ValueError, match="bits for"):
        unpack_mask(packed, len(right) + 8)


@given(st.integers(0, 2**32 - 1), st.integers(1, 200))
def test_the_bins_of_the_reliability_give_the_calibration_error_and_count_every_image(seed: int, n: int):
    rng = np.random.default_rng(seed)
    probabilities, true = softmax(rng, n), rng.integers(0, CLASSES, n).astype(np.uint8)
    bins = reliability(probabilities, true)
    assert bins.counts.sum() == n
    error = np.abs(bins.counts * (bins.accuracy - bins.confidence)).sum() / n
    assert error == pytest.approx(calibration_error(probabilities, true), abs=1e-12)
    assert ((bins.confidence >= 0) & (bins.confidence <= 1) & (bins.accuracy <= 1)).all()
