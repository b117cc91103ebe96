"""The rows of inference and of cold start: one worker process per runtime, number of threads and device."""

import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar.benchmark import jobs, models, quality
from cifar.benchmark.case_runtime import KERAS_RUNTIMES, require_available, runtime_name, runtime_of
from cifar.benchmark.grid import Case
from cifar.benchmark.jobs import FileJob
from cifar.benchmark.models import KERAS, KERAS_JAX, BenchmarkModel
from cifar.benchmark.session import NotAvailableError, Row, Session
from cifar.benchmark.timing import MIN_SAMPLES, sample_percentile
from cifar.benchmark.worker import TIME_LIMIT, run_worker, thread_variables
from cifar.data import dataset
from cifar.errors import CifarError
from cifar.system.child_process import ChildProcess

LOADED_AT_ONCE = 4  # workers that load their files side by side
MAX_COLD_STARTS = 5  # of a file
COLD_START_SECONDS = 3.0  # after which no further one begins, shared by the models
EXTRA_CORES = 0.25  # that a row may keep busy beyond its threads
JAX_EXTRA_CORES = 0.75  # its calls come from a thread of their own, beside those of its pool
PROGRAM_EXTRA_CORES = 0.5  # a browser's engine collects garbage on threads of its own
PARALLEL_WORK = 100e6  # multiply-adds of a batch from which every runtime uses all its threads
MEASURED = ("provider_actual", "details", "delegated_share", "threads_actual", "warm_up", "order")


class InferenceBenchmark:
    """Runs the workers of a session and makes rows of their results."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._results: dict[str, list[Row]] = {}
        self._classes: dict[str, NDArray[np.int64]] = {}

    def latency(self, case: Case) -> tuple[list[float], Row]:
        """Return the samples of a case, in seconds per batch, and its row.

        Raises:
            NotAvailableError: this machine lacks what the case needs.
            CifarError: the case failed, or something else ran than was wanted.
        """
        require_available(self._session, case)
        if str(case) not in self._results:
            self._run_all()
        results = self._results[str(case)]
        seconds: list[float] = []
        for result in results:
            if "error" in result:
                raise CifarError(result["error"])
            self._check_what_ran(case, result)
            seconds += result["seconds"]
        self._session.measure_peak(case.threads)
        return seconds, self._row(case, results, seconds)

    def cold_start(self, case: Case) -> tuple[list[float], Row]:
        """Return seconds from process start to the first prediction, several times, and the row.

        Raises:
            NotAvailableError: this machine lacks what the case needs.
            CifarError: the case failed, or something else ran than was wanted.
        """
        require_available(self._session, case)
        results = self._run_cold_starts(case)
        seconds, loads = _column(results, "start_seconds"), _column(results, "load_seconds")
        memory = {}
        for batch in map(str, self._session.grid.batch_sizes):
            if batch in results[0]["memory_bytes"]:
                memory[batch] = max(result["memory_bytes"][batch] for result in results)
        return seconds, {
            **self._file(case),
            "kind": "cold_start",
            "batch": 1,
            "provider_actual": results[-1]["provider_actual"],
            "threads_actual": results[-1]["threads_actual"],
            "cold_start_ms": 1000 * float(np.median(seconds)),
            "load_ms": 1000 * float(np.median(loads)),
            "load_seconds": loads,
            "memory_bytes": memory,
            "repeats": [1] * len(results),
        }

    def _run_cold_starts(self, case: Case) -> list[Row]:
        """Start a file a few times, each in a new process."""
        job, runtime = self._job(case), runtime_of(case)
        batches = self._session.grid.batch_sizes
        budget = COLD_START_SECONDS / len(self._session.models)
        began = time.perf_counter()
        results: list[Row] = []
        while not results or (
            len(results) < MAX_COLD_STARTS and time.perf_counter() - began < budget and self._session.has_time
        ):
            result = run_worker(
                jobs.cold_start,
                case.threads,
                job=job,
                module=runtime.import_name,
                spawned=time.time(),
                batches=batches,
            )
            self._check_what_ran(case, result)
            results.append(result)
        return results

    def _run_all(self) -> None:
        """Run all selected cases that are available: one worker for each runtime, threads and device.

        They load their files side by side and are timed in turn. Then all of them again, in new processes: what
        differs between processes is noise that no single one shows.
        """
        groups: dict[tuple[str, int, str], list[Case]] = {}
        for case in self._session.inference:
            if self._is_available(case):
                groups.setdefault(_group(case), []).append(case)
        ordered = list(groups.values())
        for repeat in range(self._session.grid.processes):
            for start in range(0, len(ordered), LOADED_AT_ONCE):
                self._run_groups(ordered[start : start + LOADED_AT_ONCE], repeat)

    def _run_groups(self, groups: Sequence[Sequence[Case]], repeat: int) -> None:
        """Measure some groups of cases, each in a worker."""
        results: list[Row] = []
        with ExitStack() as stack:
            ready: list[tuple[Sequence[Case], ChildProcess]] = []
            for cases, worker in [(cases, stack.enter_context(self._start(cases, repeat))) for cases in groups]:
                try:
                    worker.receive(TIME_LIMIT)  # it has loaded its files
                    ready.append((cases, worker))
                except CifarError as error:
                    results += _failed(cases, error)
            for cases, worker in ready:
                try:
                    worker.resume()
                    results += worker.receive(TIME_LIMIT)
                except CifarError as error:
                    results += _failed(cases, error)
        for result in results:
            self._results.setdefault(result["id"], []).append(result)

    def _start(self, cases: Sequence[Case], repeat: int) -> ChildProcess:
        """Start the worker of the cases of one runtime, number of threads and device."""
        session = self._session
        predictions = None
        if repeat == 0:
            predictions = Path(tempfile.mkdtemp(dir=session.scratch))
        return ChildProcess(
            jobs.inference,
            variables=thread_variables(cases[0].threads),
            jobs=list(map(self._job, cases)),
            predictions=predictions,
            seed=session.order_seed + repeat,
            budget=session.grid.budget / len(session.models),
            processes=session.grid.processes,
        )

    def _check_what_ran(self, case: Case, result: Row) -> None:
        """Refuse a number that something else gave than was wanted; an external file may run on what it can."""
        provider = runtime_of(case).providers[case.device]
        if result["provider_actual"] != provider and not self._session.model(case.model).external:
            raise CifarError(f"wanted {provider}, but {result['provider_actual']} ran")
        if result["threads_actual"] != case.threads:
            raise CifarError(f"wanted {case.threads} threads, but {result['threads_actual']} ran")
        if self._must_use_threads(case) and result.get("threads_busy") == 1:
            raise CifarError(f"wanted {case.threads} threads, but one did the work")
        extra_cores = EXTRA_CORES
        if case.format == KERAS_JAX:
            extra_cores = JAX_EXTRA_CORES
        elif runtime_of(case).import_name is None:
            extra_cores = PROGRAM_EXTRA_CORES
        if result.get("cores_busy", 0) > case.threads + extra_cores:
            raise CifarError(f"wanted {case.threads} threads, but {result['cores_busy']:.1f} cores were busy")

    def _must_use_threads(self, case: Case) -> bool:
        """Whether a case is enough work for several threads, on the CPU."""
        multiply_adds = self._session.model(case.model).multiply_adds or 0
        return case.threads > 1 and case.device == "cpu" and case.batch * multiply_adds >= PARALLEL_WORK

    def _is_available(self, case: Case) -> bool:
        try:
            require_available(self._session, case)
        except (NotAvailableError, CifarError):
            return False
        return True

    def _job(self, case: Case) -> FileJob:
        model = self._session.model(case.model)
        return FileJob(
            id=str(case),
            format=case.format,
            path=model.paths[case.format],
            network=model.facts["network"],
            batch=case.batch,
            threads=case.threads,
            device=case.device,
            images=self._images(model),
            preprocessing=model.external.preprocessing if model.external else None,
            predicts=self._is_predicted(case),
            runtime=case.runtime,
        )

    def _is_predicted(self, case: Case) -> bool:
        """Whether a case's file predicts all test images."""
        is_thorough = case.model in self._session.thorough_models
        return is_thorough and (case.runtime is None or self._session.grid.predict_in_all_runtimes)

    def _images(self, model: BenchmarkModel) -> Path:
        """A file of the model's test images; of drawn ones where its data is not on this machine."""
        data = models.data_of(model)
        name = data.sha256 if data else "drawn"
        path = self._session.scratch / f"{name}.npy"
        if not path.exists():
            data = data or dataset.draw_synthetic(10, 500)
            np.save(path, data.x_test)
        return path

    def _file(self, case: Case) -> Row:
        """What is known of a case's file before it is run."""
        model = self._session.model(case.model)
        entry = model.entries.get(case.format)
        row: Row = {
            "model": case.model,
            "origin": model.origin,
            "stand_in": model.stand_in,
            **model.facts,
            "format": case.format,
            "precision": None if model.external else "float32",
            "threads": case.threads,
            "device": case.device,
            "runtime": runtime_name(case),
            "runtime_version": runtime_of(case).version,
            "file_bytes": model.own_bytes,
            "parameters": model.parameters,
            "sha256": None,
        }
        if entry:
            row |= {"precision": entry.precision, "file_bytes": entry.bytes, "sha256": entry.sha256}
        return row

    def _row(self, case: Case, results: Sequence[Row], seconds: list[float]) -> Row:
        model, first = self._session.model(case.model), results[0]
        row = self._file(case)
        row.update({name: first[name] for name in MEASURED})
        row["cores_busy"] = max(_column(results, "cores_busy"))
        row["threads_busy"] = min(_column(results, "threads_busy"))
        row["steady"] = all(_column(results, "steady"))
        row["repeats"] = list(map(len, _column(results, "seconds")))
        row["kind"] = "inference"
        row["batch"] = case.batch
        row["samples"] = len(seconds)
        for percent in MIN_SAMPLES:
            value = sample_percentile(seconds, percent)
            row[f"p{percent}_ms"] = None if value is None else 1000 * value
        row["images_per_second"] = case.batch / float(np.median(seconds))
        row["flop_per_image"] = None
        if row["precision"] != "int8" and model.multiply_adds:
            row["flop_per_image"] = 2 * model.multiply_adds
        return row | self._quality(case, first)

    def _quality(self, case: Case, result: Row) -> Row:
        """Accuracy and agreement with the Keras model: measured where the data is, else as recorded at export."""
        model = self._session.model(case.model)
        recorded = quality.recorded(case, model)
        if not self._is_predicted(case):
            return {"quality": "recorded", "not_measured": "--full measures it", **recorded}
        data = models.data_of(model)
        if data is None:
            return {"quality": "recorded", "not_measured": "the data is not on this machine", **recorded}
        predictions = np.load(result["predictions"])
        measured = quality.measured(model, data, predictions, self._keras_classes(model))
        return {"quality": "measured", "agreement": recorded["agreement"], **measured}

    def _keras_classes(self, model: BenchmarkModel) -> NDArray[np.int64] | None:
        """The top classes that a model's Keras form predicts for its test set; None where it has no such form."""
        if KERAS not in model.paths:
            return None
        if model.name not in self._classes:
            self._classes[model.name] = self._keras_predictions(model).argmax(axis=1)
        return self._classes[model.name]

    def _keras_predictions(self, model: BenchmarkModel) -> NDArray[np.float32]:
        if model.run is not None:
            return model.run.predictions()[0]
        for results in self._results.values():
            first = results[0]
            if "predictions" in first and (first["format"], first["path"]) == (KERAS, str(model.paths[KERAS])):
                measured: NDArray[np.float32] = np.load(first["predictions"])
                return measured
        path = self._session.scratch / f"{model.name}-keras.npy"
        job = self._job(Case(model.name, KERAS, 1, 2, "cpu"))
        run_worker(jobs.save_predictions, 2, job=job, to=path)
        predictions: NDArray[np.float32] = np.load(path)
        return predictions


def _group(case: Case) -> tuple[str, int, str]:
    """Cases with the same group share a worker: Keras has one of its own, on each backend."""
    runtime = case.format if case.format in KERAS_RUNTIMES else runtime_name(case)
    return runtime, case.threads, case.device


def _failed(cases: Sequence[Case], error: CifarError) -> list[Row]:
    """The results of a worker that failed."""
    return [{"id": str(case), "error": str(error)} for case in cases]


def _column(results: Iterable[Row], name: str) -> list[Any]:
    return [result[name] for result in results]
