"""The rows of inference and of cold start: one worker process per runtime, number of threads and device."""

import importlib.util
import tempfile
import time
from collections.abc import Sequence
from functools import cache
from importlib import metadata
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cifar.benchmark import models
from cifar.benchmark.grid import Case
from cifar.benchmark.models import KERAS, KERAS_JAX, Model
from cifar.benchmark.processes import ask
from cifar.benchmark.session import NotAvailableError, Row, Session
from cifar.benchmark.timing import MIN_SAMPLES, percentile
from cifar.benchmark.worker import IMPORTS
from cifar.data import dataset
from cifar.errors import CifarError
from cifar.formats import FORMATS, Format
from cifar.inference import scoring
from cifar.metrics.classification import pack_mask
from cifar.system import hardware

MAX_COLD_STARTS = 5  # cold starts of a file
START_SECONDS = 5.0  # no more of them after so many, shared by the models
USED_MORE = 0.25  # cores that a row may keep busy beyond its threads
JAX_USED_MORE = 0.75  # its calls come from a thread of their own, beside those of its pool
IN_KERAS = {KERAS: FORMATS["saved-model"], KERAS_JAX: Format("", "", "jax", {"cpu": "JAX CPU", "gpu": "JAX GPU"})}
MEASURED = ("provider_actual", "threads_actual", "warm_up", "order")


class Inference:
    """Asks the workers and makes rows of their answers."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._answers: dict[str, list[Row]] = {}
        self._classes: dict[str, NDArray[np.int64]] = {}

    def latency(self, case: Case) -> tuple[list[float], Row]:
        """The samples of a case, in seconds per batch, and its row.

        Raises:
            NotAvailableError: this machine lacks what the case needs.
            CifarError: the case failed, or something else ran than was asked.
        """
        check(self._session, case)
        if str(case) not in self._answers:
            self._ask_all()
        answers = self._answers[str(case)]
        for answer in answers:
            if "error" in answer:
                raise CifarError(answer["error"])
            self._check_what_ran(case, answer)
        self._session.measure_peak(case.threads)
        seconds = [second for answer in answers for second in answer["seconds"]]
        return seconds, self._row(case, answers, seconds)

    def start(self, case: Case) -> tuple[list[float], Row]:
        """Seconds from process start to first answer, several times, and the row.

        Raises:
            NotAvailableError: this machine lacks what the case needs.
            CifarError: the case failed, or something else ran than was asked.
        """
        check(self._session, case)
        job, runtime, batches = self._job(case), _form(case.format).runtime, self._session.grid.batches
        answers: list[Row] = []
        began = time.perf_counter()
        patience = START_SECONDS / len(self._session.models)
        while not answers or (len(answers) < MAX_COLD_STARTS and time.perf_counter() - began < patience):
            answers.append(
                ask("start", case.threads, case=job, runtime=runtime, spawned=time.time(), batches=batches)
            )
            self._check_what_ran(case, answers[-1])
        loads = [answer["load_seconds"] for answer in answers]
        memory = {str(batch): max(answer["memory_bytes"][str(batch)] for answer in answers) for batch in batches}
        return [answer["start_seconds"] for answer in answers], {
            **self._file(case),
            "kind": "start",
            "batch": 1,
            "provider_actual": answers[-1]["provider_actual"],
            "threads_actual": answers[-1]["threads_actual"],
            "start_ms": _milliseconds(float(np.median([answer["start_seconds"] for answer in answers]))),
            "load_ms": _milliseconds(float(np.median(loads))),
            "load_seconds": loads,
            "memory_bytes": memory,
            "repeats": [1] * len(answers),
        }

    def _ask_all(self) -> None:
        """Let workers do all selected cases that can be measured: one for each runtime, threads and device, in turn.

        Then all of them again, in new processes: what differs between processes is noise that no one of them shows.
        """
        groups: dict[tuple[str, int, str], list[Case]] = {}
        for case in self._session.inference:
            if self._measurable(case):
                groups.setdefault(_group(case), []).append(case)
        for repeat in range(self._session.grid.processes):
            for group in groups.values():
                for answer in self._ask_group(group, repeat):
                    self._answers.setdefault(answer["id"], []).append(answer)

    def _ask_group(self, group: Sequence[Case], repeat: int) -> list[Row]:
        """What one worker answers for cases of one runtime, number of threads and device."""
        try:
            done: list[Row] = ask(
                "inference",
                group[0].threads,
                cases=[self._job(case) for case in group],
                answers=None if repeat else tempfile.mkdtemp(dir=self._session.scratch),
                seed=self._session.order_seed + repeat,
                budget=self._session.grid.budget / len(self._session.models),
                processes=self._session.grid.processes,
            )
        except CifarError as error:
            done = [{"id": str(case), "error": str(error)} for case in group]
        return done

    def _check_what_ran(self, case: Case, answer: Row) -> None:
        """Refuse a number that something else gave than was asked; a file of others may run on what it can."""
        asked = _form(case.format).providers[case.device]
        if answer["provider_actual"] != asked and not self._session.model(case.model).external:
            raise CifarError(f"{asked} was asked, {answer['provider_actual']} ran")
        if answer["threads_actual"] != case.threads:
            raise CifarError(f"{case.threads} threads were asked, {answer['threads_actual']} ran")
        more = JAX_USED_MORE if case.format == KERAS_JAX else USED_MORE
        if answer.get("cores_busy", 0) > case.threads + more:
            raise CifarError(f"{case.threads} threads were asked, {answer['cores_busy']:.1f} cores were busy")

    def _measurable(self, case: Case) -> bool:
        try:
            check(self._session, case)
        except (NotAvailableError, CifarError):
            return False
        return True

    def _job(self, case: Case) -> Row:
        model = self._session.model(case.model)
        return {
            "id": str(case),
            "format": case.format,
            "path": str(model.paths[case.format]),
            "network": model.facts["network"],
            "batch": case.batch,
            "threads": case.threads,
            "device": case.device,
            "images": str(self._images(model)),
            "preprocessing": model.external.preprocessing.to_json() if model.external else None,
        }

    def _images(self, model: Model) -> Path:
        """A file of the model's test images; of drawn ones where its data is not here."""
        found = models.data_of(model)
        path = self._session.scratch / f"{found.sha256 if found else 'drawn'}.npy"
        if not path.exists():
            np.save(path, found.x_test if found else dataset.draw_synthetic(10, 500).x_test)
        return path

    def _file(self, case: Case) -> Row:
        """What is known of a case's file before it is run."""
        model = self._session.model(case.model)
        line, runtime = model.lines.get(case.format), _form(case.format).runtime
        return {
            "model": case.model,
            "origin": model.origin,
            "stand_in": model.stand_in,
            **model.facts,
            "format": case.format,
            "precision": line.precision if line else None if model.external else "float32",
            "threads": case.threads,
            "device": case.device,
            "runtime": runtime,
            "runtime_version": metadata.version(runtime),
            "file_bytes": line.bytes if line else model.own_bytes,
            "parameters": model.parameters,
            "sha256": line.sha256 if line else None,
        }

    def _row(self, case: Case, answers: Sequence[Row], seconds: list[float]) -> Row:
        model, first = self._session.model(case.model), answers[0]
        file = self._file(case)
        floating = file["precision"] != "int8"
        return {
            **file,
            **{key: first[key] for key in MEASURED},
            "cores_busy": max(answer["cores_busy"] for answer in answers),
            "steady": all(answer["steady"] for answer in answers),
            "repeats": [len(answer["seconds"]) for answer in answers],
            "kind": "inference",
            "batch": case.batch,
            "samples": len(seconds),
            **{f"p{percent}_ms": _milliseconds(percentile(seconds, percent)) for percent in MIN_SAMPLES},
            "images_per_second": case.batch / float(np.median(seconds)),
            "flop_per_image": 2 * model.multiply_adds if floating and model.multiply_adds else None,
            **self._quality(case, first),
        }

    def _quality(self, case: Case, answer: Row) -> Row:
        """Accuracy and agreement with the Keras model, measured where the data is, else as recorded at the export."""
        model = self._session.model(case.model)
        found = models.data_of(model)
        recorded = self._recorded(case, model)
        if found is None:
            return {"quality": "recorded", **recorded}
        columns = scoring.output_columns(model.external.order if model.external else None, found.class_names)
        classes = np.load(answer["answers"])[:, columns].argmax(axis=1)
        keras = self._keras_classes(model)
        return {
            "quality": "measured",
            "accuracy": float((classes == found.y_test).mean()),
            "agreement": recorded["agreement"] if keras is None else float((classes == keras).mean()),
            "correct": int((classes == found.y_test).sum()),
            "n_test": len(classes),
            "correct_mask": pack_mask(classes == found.y_test),
        }

    def _recorded(self, case: Case, model: Model) -> Row:
        """Accuracy and agreement as a manifest has them; those of a run's Keras model as its metrics do."""
        if model.external:
            return {"accuracy": None, "agreement": None}
        line = model.lines.get("saved-model" if case.format in IN_KERAS else case.format)
        if line:
            return {"accuracy": line.accuracy, "agreement": line.agreement}
        return {"accuracy": model.run.metrics.accuracy if model.run else None, "agreement": 1.0}

    def _keras_classes(self, model: Model) -> NDArray[np.int64] | None:
        """The top classes that a model's Keras form gives for its test set; None where it has no such form."""
        if KERAS not in model.paths:
            return None
        if model.name not in self._classes:
            self._classes[model.name] = self._keras_answers(model).argmax(axis=1)
        return self._classes[model.name]

    def _keras_answers(self, model: Model) -> NDArray[np.float32]:
        if model.run is not None:
            return model.run.predictions()[0]
        for answers in self._answers.values():
            first = answers[0]
            if "answers" in first and (first["format"], first["path"]) == (KERAS, str(model.paths[KERAS])):
                return np.load(first["answers"])
        answers = self._session.scratch / f"{model.name}-keras.npy"
        ask("answer", 2, case=self._job(Case(model.name, KERAS, 1, 2, "cpu")), to=str(answers))
        return np.load(answers)


def check(session: Session, case: Case) -> None:
    """Whether a case can be measured here.

    Raises:
        NotAvailableError: this machine lacks what it needs.
        CifarError: its file is not what it should be.
    """
    runtime = _form(case.format).runtime
    if not installed(IMPORTS[runtime]):
        raise NotAvailableError(f"{runtime} is not installed")
    if case.device == "gpu" and hardware.gpu() is None:
        raise NotAvailableError("there is no NVIDIA GPU on this machine")
    if case.device not in _form(case.format).providers:
        raise NotAvailableError(f"{runtime} runs {case.format} on no {case.device.upper()}")
    model = session.model(case.model)
    lack = model.unavailable.get(case.format)
    if lack and lack.bad:
        raise CifarError(lack.reason)
    if lack or case.format not in model.paths:
        raise NotAvailableError(lack.reason if lack else f"{case.model} comes without a {case.format} file")


@cache
def installed(module: str) -> bool:
    """Whether a module could be imported."""
    return importlib.util.find_spec(module.partition(".")[0]) is not None


def _form(name: str) -> Format:
    """What is known of a format; Keras runs where its backend does."""
    return IN_KERAS.get(name) or FORMATS[name]


def _group(case: Case) -> tuple[str, int, str]:
    """Cases with the same group share a worker: Keras has one of its own, on each backend."""
    return (case.format if case.format in IN_KERAS else _form(case.format).runtime, case.threads, case.device)


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000
