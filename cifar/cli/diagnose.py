"""`cifar diagnose`: why an int8 file decides otherwise than its float file."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cifar.cli.evaluate import data_set_of
from cifar.cli.options import DataDir, FileData, InputRange, Json, Mean, Std
from cifar.cli.output import note, stderr, stdout, write_json
from cifar.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Group

    from cifar.diagnosis.schemas import Diagnosis

MAX_IMAGES = 50_000
SHOWN = 12  # tensors in the table


def diagnose(
    model: Annotated[
        Path, typer.Argument(help="An int8 .onnx or .tflite file.", metavar="MODEL", show_default=False)
    ],
    float_file: Annotated[
        Path | None,
        typer.Option(
            "--float",
            help="The same model in float, in the same format. Default: beside MODEL, without '.int8'.",
            metavar="FILE",
            show_default=False,
        ),
    ] = None,
    images: Annotated[
        int, typer.Option(min=10, max=MAX_IMAGES, help="How many training images are decided on.", metavar="N")
    ] = 1000,
    input_range: InputRange = None,
    mean: Mean = None,
    std: Std = None,
    data: FileData = None,
    data_dir: DataDir = None,
    figure: Annotated[
        Path | None, typer.Option(help="Draw what each tensor costs.", metavar="FILE.png", show_default=False)
    ] = None,
    save: Annotated[
        bool, typer.Option("--save", help="Keep the figures beside MODEL; `cifar report --html` shows them.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Say what an int8 file loses against its float file, and where.

    Every quantised tensor: its range, its step, how much of it is clipped, how far it is from the float file's; of
    ONNX files also how many classes agree with this tensor alone in float, and with this one alone in integers.

    Example: cifar diagnose model.int8.onnx --float model.onnx
    """
    from cifar.data import dataset
    from cifar.diagnosis import finding, isolated, saved
    from cifar.formats import manifest
    from cifar.inference.preprocessing import parse_preprocessing
    from cifar.report import progress

    preprocessing = parse_preprocessing(input_range, mean, std)
    _check_figure(figure)
    entry = manifest.verify_checksum(model)
    twin = float_file or isolated.float_twin(model)
    train_images = dataset.by_name(data_set_of(data, entry), data_dir, note).x_train[:images]
    with progress.steps(stderr, "Diagnosing", None) as advance:
        diagnosis = isolated.diagnose(model, twin, train_images, preprocessing, lambda of: advance(total=of))
    sentence = finding.describe(diagnosis)
    if figure is not None:
        _draw(diagnosis, figure)
    if save:
        note(f"Written: {saved.write(model, diagnosis)}")
    if as_json:
        write_json({"model": str(model), "float": str(twin), "finding": sentence, **asdict(diagnosis)})
        return
    stdout.print(sentence, markup=False, highlight=False)
    stdout.print()
    stdout.print(_table(model, diagnosis))


def _check_figure(path: Path | None) -> None:
    if path is not None and path.suffix not in (".png", ".svg", ".pdf"):
        raise UsageError(f"--figure {path}: expected a name that ends in .png, .svg or .pdf.")


def _draw(diagnosis: "Diagnosis", path: Path) -> None:
    import io

    from cifar.report import diagnosis_figure
    from cifar.system import files

    content = io.BytesIO()
    diagnosis_figure.draw(diagnosis).savefig(content, format=path.suffix[1:], dpi=150)
    files.write(path, content.getvalue())
    note(f"Written: {path}")


def _table(model: Path, diagnosis: "Diagnosis") -> "Group":
    from rich.console import Group

    from cifar.report.table import Table, render

    by_cost = sorted(diagnosis.rounded, key=lambda tensor: (-(tensor.agreement_without or 0), tensor.twin_snr or 0))
    rows = []
    for tensor in by_cost[:SHOWN]:
        rows.append(
            (
                tensor.name.partition(";")[0],
                f"{tensor.lowest:.4g}..{tensor.highest:.4g}",
                f"{tensor.step:.2g}",
                f"{tensor.clipped:.1%}",
                _number(tensor.twin_snr, "{:.0f}"),
                _number(tensor.agreement_without, "{:.1%}"),
                _number(tensor.agreement_alone, "{:.1%}"),
            )
        )
    columns = ("tensor", "range>", "step>", "clipped>", "dB>", "in float>", "alone>")
    notes = [
        f"{diagnosis.agreement:.1%} of {diagnosis.n_images:,} training images are in the float file's class. "
        "dB: signal-to-noise ratio against the float file's tensor. in float: the agreement with this tensor alone "
        "in float. alone: with no other tensor in integers.",
        f"{len(rows)} of {len(diagnosis.tensors)} tensors, the costliest first; all with --json.",
    ]
    if diagnosis.agreement_of_weights is not None:
        notes.insert(1, f"With the weights alone in integers: {diagnosis.agreement_of_weights:.1%}.")
    table = render(Table(f"Quantised tensors: {model.name}", columns, rows, notes))
    if not diagnosis.weights:
        return table
    return Group(table, "", _table_of_weights(diagnosis))


def _table_of_weights(diagnosis: "Diagnosis") -> "Group":
    from cifar.report.table import Table, render

    by_cost = sorted(diagnosis.weights, key=lambda weights: -weights.agreement_without)
    rows = []
    for weights in by_cost[:SHOWN]:
        rows.append((weights.name, f"{weights.snr:.0f}", f"{weights.agreement_without:.1%}"))
    notes = [
        "dB: of the kernel's rounding. in float: the agreement with this kernel and its bias alone in float. "
        "A kernel that was changed before it was rounded, as the last one of ours, is not listed."
    ]
    return render(Table("Quantised weights", ("kernel", "dB>", "in float>"), rows, notes))


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)
