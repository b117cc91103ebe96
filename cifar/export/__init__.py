"""Exporting finished runs to model files, each checked in its own runtime."""

from cifar.export.exporting import calibration_indices, export_missing, export_runs, file_metadata, lacks_exports
from cifar.export.parity import ParityError, agreement_and_difference

__all__ = [
    "ParityError",
    "agreement_and_difference",
    "calibration_indices",
    "export_missing",
    "export_runs",
    "file_metadata",
    "lacks_exports",
]
