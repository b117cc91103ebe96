"""The figure of `cifar diagnose`: what each quantised tensor of a file costs."""

from typing import TYPE_CHECKING

from cifar.diagnosis.schemas import Diagnosis
from cifar.report.plots import PALETTE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_NAME = 36  # characters
READ = "/ReadVariableOp:0"  # with which tf2onnx ends the names of kernels
BAR = 0.28  # inches of height per tensor


def draw(diagnosis: Diagnosis) -> "Figure":
    """Return bars: points of agreement that a tensor costs, or its distance in dB where that is all that is known."""
    from matplotlib.figure import Figure

    tensors = diagnosis.rounded
    names = [tensor.name.partition(";")[0][-MAX_NAME:] for tensor in tensors]
    figure = Figure(figsize=(8, 1.6 + BAR * (len(tensors) + len(diagnosis.weights))), layout="constrained")
    axes = figure.subplots()
    if diagnosis.agreement_of_weights is not None:
        costs = [100 * ((tensor.agreement_without or 0) - diagnosis.agreement) for tensor in tensors]
        axes.barh(names, costs, color=PALETTE[0], label="activation")
        if diagnosis.weights:
            names = [weights.name.removesuffix(READ)[-MAX_NAME:] for weights in diagnosis.weights]
            costs = [100 * (weights.agreement_without - diagnosis.agreement) for weights in diagnosis.weights]
            axes.barh(names, costs, color=PALETTE[1], label="weights")
            axes.legend()
        axes.set_xlabel("Points of agreement gained with this alone in float")
    else:
        axes.barh(names, [tensor.twin_snr or 0 for tensor in tensors], color=PALETTE[0])
        axes.set_xlabel("Signal-to-noise ratio against the float file, dB")
    axes.invert_yaxis()  # in the order of the network
    axes.set_title(f"{diagnosis.agreement:.1%} of {diagnosis.n_images:,} training images in the float file's class")
    return figure
