"""`cifar sweep`: a grid of runs on Ray, or as jobs for Kubernetes and Slurm."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cifar.cli import interrupt
from cifar.cli.options import DataDir, Json, Networks, Policies, Seeds, Threads
from cifar.cli.output import note, stderr, stdout, write_json
from cifar.cli.recipe_options import ProfileName, RecipeName, grid, with_field_options
from cifar.cli.train import DEFAULT_SEEDS, DataName, Device, Runs, announce_synthetic
from cifar.errors import CifarError, UsageError, one_of, printable
from cifar.recipes import is_file, read
from cifar.system.environment import requested_backend
from cifar.training.cluster.node_data import WantedData
from cifar.training.cluster.task import Outcome, Task

if TYPE_CHECKING:
    from cifar.recipes import Recipe

ENGINES = ("local", "ray", "k8s", "slurm")

Engine = Annotated[
    str,
    typer.Option(
        "--on",
        help="local: Ray on this machine. ray: the cluster that is there, or ray=HOST:PORT. k8s, slurm: write the "
        "files of a job.",
        metavar="|".join(ENGINES),
    ),
]
Collect = Annotated[
    bool,
    typer.Option("--collect", help="The nodes do not share --runs: finished runs come back, checked by digest."),
]
Mixed = Annotated[bool, typer.Option("--mixed", help="Take nodes of every kind; their runs may differ in bits.")]
JobFolder = Annotated[Path, typer.Option("--to", help="For the files of a job.", metavar="DIR")]
Image = Annotated[str, typer.Option("--image", help="The container image of a Kubernetes job.", metavar="NAME")]


@with_field_options
def sweep(
    *,
    fields: dict[str, Any],
    recipe: RecipeName = None,
    profile: ProfileName = None,
    network: Networks = None,
    augment: Policies = None,
    seed: Seeds = DEFAULT_SEEDS,
    data: DataName = "auto",
    data_dir: DataDir = None,
    runs: Runs = Path("runs"),
    threads: Threads = 2,
    device: Device = "cpu",
    on: Engine = "local",
    collect: Collect = False,
    mixed: Mixed = False,
    to: JobFolder = Path("job"),
    image: Image = "cifar-bench",
    as_json: Json = False,
) -> None:
    """Train a grid on several machines.

    A run is a task of Ray, retried where its node dies; the same command goes on. Reports: `cifar report RUNS`.

    Example: cifar sweep --recipe tuned --network first --seed 0-29 --on ray --runs runs
    """
    from cifar.data import dataset
    from cifar.training.cluster import jobs

    engine, _, address = on.partition("=")
    one_of("engine for --on", engine, ENGINES)
    if address and engine != "ray":
        raise UsageError(f"--on {engine} takes no address; --on ray=HOST:PORT does.")
    loaded = dataset.load(data, data_dir, note)
    if loaded.name == "synthetic":
        announce_synthetic()
    settings = {"fields": fields, "dataset": loaded.name, "threads": threads, "backend": requested_backend()}
    chosen = grid(recipe, profile, network, augment, seed, **settings)
    common = _common_arguments(recipe, profile, fields, loaded.name, threads, device)
    text = read(recipe).text if recipe and is_file(recipe) else None
    tasks = [_task(one, common, loaded.sha256, device, text) for one in chosen]
    if engine in jobs.ENGINES:
        named = data_dir or os.environ.get("CIFAR10_DIR")
        place = Path(named) if named and loaded.path else None
        start = jobs.ENGINES[engine](tasks, to, runs, place, image, note)
        _show_job(tasks, start, as_json)
        return
    folder = data_dir.resolve() if data_dir else None
    wanted = WantedData(loaded.name, folder, loaded.sha256, loaded.path.absolute() if loaded.path else None)
    with interrupt.resumable(runs, kept="Finished runs" if collect else "Finished epochs"):
        outcomes = _train(tasks, runs.resolve(), wanted, engine == "local", address or None, collect, mixed)
    _show(tasks, outcomes, runs, as_json)


def _common_arguments(
    recipe: str | None, profile: str | None, fields: dict[str, Any], data: str, threads: int, device: str
) -> list[str]:
    """The arguments of `cifar train` that all runs share, but for the place of the data and a recipe file."""
    arguments = ["--data", data, "--threads", str(threads), "--device", device]
    if recipe and not is_file(recipe):
        arguments += ["--recipe", recipe]
    elif profile:
        arguments += ["--profile", profile]
    for name, value in fields.items():
        arguments += [f"--{name.replace('_', '-')}", str(value)]
    return arguments


def _task(recipe: "Recipe", common: Sequence[str], data_sha256: str, device: str, recipe_text: str | None) -> Task:
    """A run as a call of `cifar train`."""
    own = ("--network", recipe.network, "--augment", recipe.policy.name, "--seed", str(recipe.seed))
    return Task(recipe, (*common, *own), data_sha256, device == "gpu", recipe_text, Path.cwd())


def _show_job(tasks: Sequence[Task], start: str, as_json: bool) -> None:
    """Print how the job is started."""
    if as_json:
        write_json({"runs": [task.name for task in tasks], "command": start})
    else:
        stdout.print(f"{len(tasks):,} runs. Start them: {start}", highlight=False, soft_wrap=True)


def _train(
    tasks: Sequence[Task],
    runs: Path,
    wanted: WantedData,
    here: bool,
    address: str | None,
    collect: bool,
    mixed: bool,
) -> dict[str, Outcome]:
    """Train what is not finished on Ray; return how each of these runs ended."""
    from cifar.training.cluster import on_ray
    from cifar.training.cluster.nodes import choose, probe
    from cifar.training.cluster.view import View

    waiting, outcomes = _unfinished(tasks, runs)
    n_finished = len(tasks) - len(waiting) - len(outcomes)
    if n_finished:
        note(f"{n_finished} of {len(tasks)} runs are finished already.")
    if not waiting:
        return outcomes
    with on_ray.cluster(address, here, note):
        with stderr.status("Asking the nodes"):
            found = probe(wanted, waiting[0], None if collect else runs, note)
            nodes = choose(found, waiting, mixed, note)
        with View(stderr, waiting) as view:
            return outcomes | on_ray.train_all(waiting, runs, nodes, collect, view.show)


def _unfinished(tasks: Sequence[Task], runs: Path) -> tuple[list[Task], dict[str, Outcome]]:
    """The runs to train, and, by name, why others cannot be: such as a folder that holds something else."""
    waiting, refused = [], {}
    for task in tasks:
        try:
            if not task.can_be_skipped(runs):
                waiting.append(task)
        except (CifarError, OSError) as error:
            refused[task.name] = Outcome.of(error)
    return waiting, refused


def _show(tasks: Sequence[Task], outcomes: Mapping[str, Outcome], runs: Path, as_json: bool) -> None:
    """Print which runs are there; raise for those that failed."""
    failed = {name: outcome for name, outcome in outcomes.items() if outcome.code != 0}
    if as_json:
        write_json({"runs": [_facts(task, outcomes.get(task.name), runs) for task in tasks]})
    else:
        done = len(tasks) - len(failed)
        stdout.print(
            f"{done:,} of {len(tasks):,} runs are in {printable(str(runs))}: cifar report {printable(str(runs))}",
            highlight=False,
            soft_wrap=True,
        )
    for name, outcome in failed.items():
        where = f" on {outcome.node}" if outcome.node else ""
        note(f"{name} failed{where}: {outcome.message}")
    if failed:
        raise CifarError(f"{len(failed)} of {len(tasks)} runs failed. The same command trains what is missing.")


def _facts(task: Task, outcome: Outcome | None, runs: Path) -> dict[str, Any]:
    """A run for JSON; of one that was finished before no node is known."""
    from cifar.runs.run import Run, folder_of

    facts: dict[str, Any] = {"name": task.name, "node": None, "code": 0, "message": ""}
    if outcome is not None:
        facts |= {"node": outcome.node, "code": outcome.code, "message": outcome.message}
    if facts["code"] == 0:
        try:
            run = Run(folder_of(runs, task.recipe))
            facts |= {"path": str(run.path), "status": run.status}
            if run.finished:
                facts |= run.metrics.model_dump()
        except CifarError as error:  # it was damaged after it had finished
            facts |= {"code": error.exit_code, "message": str(error)}
    return facts
