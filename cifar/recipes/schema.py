"""What is trained: augmentation policies and recipes."""

import hashlib
import json
import math
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from cifar.system.environment import BackendName

PUBLISHED = "published"  # the recipe of the reference results
QUICK = "quick"  # what `cifar train` trains unless told otherwise
UNNAMED = (PUBLISHED, QUICK)  # recipes that a run's name leaves out
NETWORK_PATTERN = r"^[\w.-]+(:[\w.]+)?\Z"  # a pattern without slashes: the name becomes part of file names
MAX_EPOCHS, MAX_THREADS = 2**31 - 1, 1024
Count = Annotated[int, Field(ge=1, lt=2**31)]


class _Extensible(BaseModel):
    """A model that can gain fields: its JSON leaves out those in `added_fields` that have their default.

    The digest of a recipe written before a field existed is thereby the same after it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", regex_engine="python-re")

    added_fields: ClassVar[tuple[str, ...]] = ()

    @model_serializer(mode="wrap")
    def _leave_out_defaults(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = serialize(self)
        for name in self.added_fields:
            if getattr(self, name) == type(self).model_fields[name].default:
                content.pop(name, None)
        return content


class Policy(_Extensible):
    """An augmentation policy: how far each transform may go.

    Attributes:
        name: as `--augment` takes it.
        horizontal_flip: mirror left and right, for half of the images.
        vertical_flip: mirror top and bottom, for half of the images.
        shift: largest shift along each axis, as a fraction of height and width.
        rotation: largest rotation to either side, in degrees.
        whole_pixels: shift by whole pixels, as many as `shift` holds, and by no fraction of one.
        pad_crop: pixels of reflection padding on each side, from which a 32x32 window is cut at random.
        alternating_flip: mirror half of the images left and right in the first epoch, then the other half and the
            first in turn (airbench94).
        cutout: side of a square in pixels that is filled with grey; its centre is any pixel, so that some of it may
            lie outside (DeVries and Taylor 2017).
    """

    added_fields = ("whole_pixels", "pad_crop", "alternating_flip", "cutout")

    name: str = Field(pattern=r"^[\w-]+$")
    horizontal_flip: bool = False
    vertical_flip: bool = False
    shift: float = Field(0.0, ge=0, le=1)
    rotation: float = Field(0.0, ge=0, le=180)
    whole_pixels: bool = False
    pad_crop: int = Field(0, ge=0, le=16)
    alternating_flip: bool = False
    cutout: int = Field(0, ge=0, le=32)


POLICIES: dict[str, Policy] = {
    policy.name: policy
    for policy in (
        Policy(name="none"),
        Policy(name="shift-flip", shift=0.1, horizontal_flip=True),
        Policy(name="flip", horizontal_flip=True),
        Policy(name="shift", shift=0.1),
        Policy(name="rotate", rotation=15.0),
        Policy(name="vertical-flip", vertical_flip=True),
        Policy(name="shift-flip-rotate", shift=0.1, horizontal_flip=True, rotation=15.0),
        Policy(name="all", shift=0.1, horizontal_flip=True, vertical_flip=True, rotation=15.0),
        Policy(name="shift-pixels", shift=0.1, whole_pixels=True),
        Policy(name="pad-crop", pad_crop=4),
        Policy(name="pad-crop-flip", pad_crop=4, horizontal_flip=True),
        Policy(name="alternating-flip", alternating_flip=True),
        Policy(name="pad-crop-alternating-flip", pad_crop=2, alternating_flip=True),
        Policy(name="cutout", cutout=8),
    )
}


class Recipe(_Extensible):
    """Everything that decides a run's weights, except the bytes of the data and the environment.

    Attributes:
        network: a reference network's name, or `module:function`.
        policy: the augmentation.
        seed: of initial weights, dropout, the order of images and the augmentation.
        dataset: which data set.
        train_images: how many training images, counted from the first; None for all.
        batch_size: images per update.
        epochs: how often every training image is seen.
        learning_rate: of the optimizer, at its largest.
        threads: of every operation. Another count gives other weights (sums are split at other places), so it is
            part of the recipe and not taken from the machine.
        backend: the Keras backend. Another backend draws other initial weights and dropout masks.
        recipe: the name of the recipe that it is made from.
        precision: of the training's operations; bfloat16 is Keras's `mixed_bfloat16`. Weights and loss are float32.
        hold_out: how many training images, the last ones, are scored instead of the test images and not trained on.
        drop_last: whether an epoch's last partial batch is left out.
        optimizer: `sgd` has Nesterov momentum; `muon` is Jordan's (2024), see cifar.training.optimizers.
        momentum: of `sgd`.
        weight_decay: of `adamw` and `muon` decoupled (Loshchilov and Hutter 2019); of `sgd` its product with the
            weight is added to the gradient.
        schedule: how the learning rate falls after the warm-up.
        warmup: share of all steps during which the learning rate rises linearly.
        initial_rate: the learning rate of the first step, if there is a warm-up, as a share of the largest.
        final_rate: that of the last step, as a share of the largest; of `linear` and `cosine`.
        label_smoothing: the part of the target that all classes share.
        weight_averaging: `lookahead` (Zhang et al. 2019) sets the weights to their moving average every five steps.
        averaging_decay: of the moving average, per step, at the end of the training; see cifar.training.lookahead.
        rate_multipliers: by pattern of a variable's path: its learning rate is so many times the recipe's, and its
            weight decay so many times smaller.
        frozen_after: by pattern of a variable's path: the epochs after which it stays as it is; 0 never trains it.
        initialization: `whitening` computes the first convolution's kernel from training images (airbench94).
    """

    added_fields = (
        "recipe",
        "precision",
        "hold_out",
        "drop_last",
        "optimizer",
        "momentum",
        "weight_decay",
        "schedule",
        "warmup",
        "initial_rate",
        "final_rate",
        "label_smoothing",
        "weight_averaging",
        "averaging_decay",
        "rate_multipliers",
        "frozen_after",
        "initialization",
    )

    network: str = Field(pattern=NETWORK_PATTERN)
    policy: Policy
    seed: int = Field(0, ge=0, lt=2**32)
    dataset: Literal["cifar10", "synthetic"] = "cifar10"
    train_images: Count | None = None
    batch_size: Count = 128
    epochs: Count = 50
    learning_rate: float = Field(0.001, gt=0, allow_inf_nan=False)
    threads: int = Field(2, ge=1, le=MAX_THREADS)
    backend: BackendName = "tensorflow"
    recipe: str = Field(PUBLISHED, pattern=r"^[\w.-]+\Z")
    precision: Literal["float32", "bfloat16"] = "float32"
    hold_out: int = Field(0, ge=0, lt=2**31)
    drop_last: bool = False
    optimizer: Literal["rmsprop", "sgd", "adamw", "muon"] = "rmsprop"
    momentum: float = Field(0.0, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0, lt=1)
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup: float = Field(0.0, ge=0, lt=1)
    initial_rate: float = Field(0.0, ge=0, le=1)
    final_rate: float = Field(0.0, ge=0, le=1)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    weight_averaging: Literal["none", "lookahead"] = "none"
    averaging_decay: float = Field(0.0, ge=0, lt=1)
    rate_multipliers: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = {}
    frozen_after: dict[str, Annotated[int, Field(ge=0)]] = {}
    initialization: Literal["default", "whitening"] = "default"

    @model_validator(mode="after")
    def _check_combinations(self) -> "Recipe":
        """Refuse a field that another one makes meaningless."""
        needs = (
            ("momentum", "optimizer", ("sgd",)),
            ("rate_multipliers", "optimizer", ("sgd",)),
            ("frozen_after", "optimizer", ("sgd",)),
            ("weight_decay", "optimizer", ("sgd", "adamw", "muon")),
            ("final_rate", "schedule", ("linear", "cosine")),
            ("averaging_decay", "weight_averaging", ("lookahead",)),
        )
        for field, other, values in needs:
            if getattr(self, field) and getattr(self, other) not in values:
                wanted = " or ".join(values)
                raise ValueError(f"{field} needs {other} {wanted}, not {getattr(self, other)}")
        if self.initial_rate and not self.warmup:
            raise ValueError("initial_rate needs a warmup above 0")
        if self.weight_averaging == "lookahead" and not self.averaging_decay:
            raise ValueError("weight_averaging lookahead needs an averaging_decay above 0")
        return self

    @property
    def name(self) -> str:
        """The run folder's name: NETWORK[-RECIPE][-PRECISION][-holdoutN]-AUGMENT-sSEED.

        It leaves out `published`, `quick`, a recipe named as its network, and float32.
        """
        parts = [self.network.replace(":", ".")]
        if self.recipe not in (*UNNAMED, self.network):
            parts.append(self.recipe)
        if self.precision != "float32":
            parts.append(self.precision)
        if self.hold_out:
            parts.append(f"holdout{self.hold_out}")
        return f"{'-'.join(parts)}-{self.policy.name}-s{self.seed}"

    def images_per_epoch(self, n: int) -> int:
        """How many of n training images an epoch sees."""
        if self.drop_last:
            return n - n % self.batch_size
        return n

    def steps_per_epoch(self, n: int) -> int:
        """How many updates an epoch of n training images has."""
        return math.ceil(self.images_per_epoch(n) / self.batch_size)

    @property
    def sha256(self) -> str:
        """SHA-256 of the recipe's canonical JSON."""
        return hashlib.sha256(json.dumps(self.model_dump(), sort_keys=True).encode()).hexdigest()
