"""The networks: a name becomes a Keras model."""

from cifar.networks.builder import build, build_with_fresh_names, count_parameters, predictor
from cifar.networks.catalog import NETWORKS, PUBLISHED, Network, check_name, label
from cifar.networks.digests import architecture_sha256, weights_sha256
from cifar.networks.operations import multiply_adds, training_flop
from cifar.networks.precision import in_bfloat16

__all__ = [
    "NETWORKS",
    "PUBLISHED",
    "Network",
    "architecture_sha256",
    "build",
    "build_with_fresh_names",
    "check_name",
    "count_parameters",
    "in_bfloat16",
    "label",
    "multiply_adds",
    "predictor",
    "training_flop",
    "weights_sha256",
]
