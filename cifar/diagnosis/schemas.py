"""What a diagnosis says: of a file, and of each of its quantised tensors."""

from dataclasses import dataclass

LOSSLESS = 150.0  # dB and more: nothing is rounded


@dataclass(frozen=True)
class QuantizedTensor:
    """An activation that is rounded to integers.

    Attributes:
        name: in the int8 file.
        lowest, highest: the range that its integers can tell.
        step: between two integers.
        clipped: share of its values before rounding that lie outside of the range.
        snr: of rounding alone, in dB: values before against values after it. None for TFLite.
        twin_snr: in dB, the float file's tensor of that name against it; None where the float file has none.
        agreement_without: share of images in the float file's class with this tensor alone in float. None for TFLite.
        agreement_alone: the same with this tensor alone rounded (weights are rounded too). None for TFLite.
    """

    name: str
    lowest: float
    highest: float
    step: float
    clipped: float
    snr: float | None
    twin_snr: float | None
    agreement_without: float | None = None
    agreement_alone: float | None = None


@dataclass(frozen=True)
class QuantizedWeights:
    """Kernel and bias of a layer of an ONNX file, whose kernel is the float file's, rounded.

    Attributes:
        name: of the kernel.
        snr: of its rounding, in dB.
        agreement_without: share of images in the float file's class with these weights alone in float.
    """

    name: str
    snr: float
    agreement_without: float


@dataclass(frozen=True)
class Diagnosis:
    """An int8 file beside its float twin.

    Attributes:
        n_images: on which the shares of agreement were counted.
        agreement: share of images in the float file's class.
        agreement_of_weights: the same with no activation rounded, weights alone. None for TFLite.
        logits: the name of the tensor that the softmax takes, or of the output; None where it is not quantised.
        close: share of images whose two largest logits lie within one step; None where logits are not quantised.
        tensors: in the order of the file.
        weights: the same; none for TFLite, and for layers whose kernel was changed before it was rounded.
    """

    n_images: int
    agreement: float
    agreement_of_weights: float | None
    logits: str | None
    close: float | None
    tensors: tuple[QuantizedTensor, ...]
    weights: tuple[QuantizedWeights, ...] = ()

    @property
    def rounded(self) -> list[QuantizedTensor]:
        """The tensors without those whose values were rounded before, as after pooling."""
        return [tensor for tensor in self.tensors if (tensor.snr or 0) < LOSSLESS]
