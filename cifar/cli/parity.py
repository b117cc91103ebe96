"""`cifar parity`: the same model files in several runtimes."""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cifar.cli.evaluate import data_set_of, warn_of_program
from cifar.cli.options import DataDir, FileData, InputRange, Json, Mean, Runtimes, RuntimeThreads, Std
from cifar.cli.output import note, stderr, stdout, write_json
from cifar.errors import CifarError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cifar.inference.runtime_parity import FileParity, Images

DRAWN_IMAGES = 1000
MAX_FLIPS_SHOWN = 20


def parity(
    models: Annotated[
        list[Path], typer.Argument(help="Model files, ours or others.", metavar="MODEL...", show_default=False)
    ],
    runtimes: Runtimes = None,
    max_flips: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Images on which two runtimes may disagree where not all is float32, such as in int8 files. "
            "Default: any number.",
            metavar="N",
            show_default=False,
        ),
    ] = None,
    input_range: InputRange = None,
    mean: Mean = None,
    std: Std = None,
    data: FileData = None,
    data_dir: DataDir = None,
    threads: RuntimeThreads = None,
    as_json: Json = False,
) -> None:
    """Count the images whose class changes between runtimes.

    Each file is run in every runtime that reads it, on all test images, or on drawn ones without the data set. In
    float32 no class may change (exit code 1). For a file of a manifest the result on test images is kept beside it as
    NAME.parity.json.

    Example: cifar parity model.onnx --runtime onnxruntime,openvino
    """
    from cifar.formats import manifest
    from cifar.inference import runtime_parity
    from cifar.inference.external import format_of
    from cifar.inference.preprocessing import parse_preprocessing
    from cifar.report import progress

    preprocessing = parse_preprocessing(input_range, mean, std)
    entries = {path: manifest.verify_checksum(path) if path.exists() else None for path in models}
    formats = {path: entry.format if entry else format_of(path) for path, entry in entries.items()}
    for path, format_name in formats.items():
        runtime_parity.runtimes_for(format_name, runtimes)
        warn_of_program(path, format_name)
    load_images = cache(lambda name: _images(name, data_dir))
    results = []
    for path, format_name in formats.items():
        entry = entries[path]
        images, class_names = load_images(data_set_of(data, entry))
        names, _ = runtime_parity.runtimes_for(format_name, runtimes)
        with progress.steps(stderr, path.name, len(names) * len(images.images)) as advance:
            result = runtime_parity.compare_runtimes(
                path, format_name, runtimes, images, preprocessing, threads or 2, advance
            )
        if entry is not None and images.labels is not None and data in (None, entry.dataset):
            runtime_parity.write(path, result)
        results.append(result)
        if not as_json:
            _print(result, class_names)
    if as_json:
        write_json({"files": [result.model_dump() for result in results]})
    _raise_for(results, max_flips, runtimes or [])


def _images(name: str, data_dir: Path | None) -> "tuple[Images, Sequence[str]]":
    """Return the test images of a data set, and its classes; drawn images where it is not at hand."""
    from cifar.data import dataset
    from cifar.errors import NotFoundError
    from cifar.inference.runtime_parity import Images

    try:
        found = dataset.by_name(name, data_dir, note, download=False)
    except NotFoundError:
        note(f"{name} is not at hand: {DRAWN_IMAGES:,} drawn images instead; they say nothing about accuracy.")
        drawn = dataset.draw_synthetic(10, DRAWN_IMAGES)
        return Images(drawn.x_test, None, drawn.sha256), [f"class {index}" for index in range(10)]
    return Images(found.x_test, found.y_test, found.sha256), found.class_names


def _raise_for(results: "Sequence[FileParity]", max_flips: int | None, named: "Sequence[str]") -> None:
    """Raise a CifarError that says which files disagree too often, or failed in their own or a named runtime."""
    from cifar.formats import FORMATS

    sentences = []
    for result in results:
        required = {FORMATS[result.format].runtime, *named}
        sentences += [reason for name, reason in result.failed.items() if name in required]
        sentences += result.excesses(max_flips)
    if sentences:
        raise CifarError(" ".join(sentences))


def _print(result: "FileParity", class_names: "Sequence[str]") -> None:
    from cifar.report.runtime_tables import flips_table, matrix
    from cifar.report.table import render

    stdout.print(render(matrix(result)))
    for table in flips_table(result, class_names, MAX_FLIPS_SHOWN):
        stdout.print(render(table))
    stdout.print()
    for name, reason in result.skipped.items():
        note(f"{name}: skipped, {reason}.")
    for reason in result.failed.values():
        note(reason)
