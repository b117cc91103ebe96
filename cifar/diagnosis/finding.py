"""The diagnosis in a sentence or two: which tensor costs most, and what to do."""

from cifar.diagnosis.schemas import Diagnosis, QuantizedTensor

MIN_GAIN = 0.005  # share of images that a tensor must change to be called the cause
MIN_PART = 0.25  # of all images that differ
MANY_CLOSE = 0.1  # share of images whose two best classes lie within one step
CENTRE = (
    "These are the logits: `cifar export` centres them and chooses their range; with another exporter, subtract the "
    "mean over the classes from the last kernel and bias, which changes no probability."
)
CLIPS = "Its range clips them: calibrate on more images, or on some like those that it is used for."
WIDE = (
    "Its range is wide for what most of its values need: bound it, or keep its layer in float (`cifar export "
    "--keep-float LAYER`)."
)
WEIGHTS = (
    "`cifar export` gives each channel its scale and takes the mean error of rounding out of the bias; with another "
    "exporter, do that first. If it is not enough, keep the worst layer in float (`cifar export --keep-float LAYER`)."
)


def describe(diagnosis: Diagnosis) -> str:
    """Return what costs most of the agreement with the float file, and what to do about it."""
    differing = 1 - diagnosis.agreement
    if differing < MIN_GAIN:
        return "The int8 file decides as its float file does."
    if diagnosis.agreement_of_weights is None:
        return _by_distance(diagnosis)
    tensor = max(diagnosis.tensors, key=lambda tensor: tensor.agreement_without or 0)
    layer = max(diagnosis.weights, key=lambda weights: weights.agreement_without, default=None)
    gain = (tensor.agreement_without or 0) - diagnosis.agreement
    layer_gain = layer.agreement_without - diagnosis.agreement if layer else 0
    least = max(MIN_GAIN, MIN_PART * differing)
    if layer is not None and layer_gain >= max(least, gain):
        return (
            f"Most is lost by the weights of {layer.name}: with them in float {layer.agreement_without:.1%} of the "
            f"classes agree, as they are {diagnosis.agreement:.1%}. {WEIGHTS}"
        )
    if gain >= least:
        return (
            f"Most is lost at {tensor.name}: with it in float {tensor.agreement_without:.1%} of the classes agree, "
            f"as it is {diagnosis.agreement:.1%}. {_facts(tensor)} {_advice(tensor, diagnosis)}"
        )
    weights = 1 - diagnosis.agreement_of_weights
    if weights >= differing / 2:
        return (
            f"The weights alone change {weights:.1%} of the classes, of {differing:.1%} in all; no layer's alone are "
            f"the cause. {WEIGHTS}"
        )
    return (
        f"No single tensor is the cause: the largest gain, {100 * gain:.1f} points, is that of "
        f"{tensor.name} in float; the weights alone change {weights:.1%} of the classes."
    )


def _by_distance(diagnosis: Diagnosis) -> str:
    """Judge where no tensor can be switched off: by the logits' step, else by the distance from the float file."""
    by_name = {tensor.name: tensor for tensor in diagnosis.tensors}
    if diagnosis.logits and diagnosis.close and diagnosis.close >= MANY_CLOSE:
        worst = by_name[diagnosis.logits]
        return (
            f"Most is probably lost at {worst.name}: {diagnosis.close:.0%} of the images have their two best classes "
            f"within one step. {_facts(worst)} {CENTRE}"
        )
    others = [tensor for tensor in diagnosis.tensors if tensor.name != diagnosis.logits]
    worst = min(others or diagnosis.tensors, key=lambda tensor: tensor.twin_snr or 0.0)
    return (
        f"The tensor furthest from the float file's is {worst.name}, {worst.twin_snr:.1f} dB. {_facts(worst)} "
        "LiteRT cannot keep a single tensor in float to prove it; diagnose the ONNX file of the same model for that."
    )


def _facts(tensor: QuantizedTensor) -> str:
    return (
        f"Its range is {tensor.lowest:.4g} to {tensor.highest:.4g}, a step {tensor.step:.2g}; "
        f"{tensor.clipped:.1%} of its values are clipped."
    )


def _advice(tensor: QuantizedTensor, diagnosis: Diagnosis) -> str:
    if tensor.name == diagnosis.logits:
        return CENTRE
    return CLIPS if tensor.clipped > 0.01 else WIDE
