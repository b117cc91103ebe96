"""`cifar sweep`: a grid of runs on Ray, or as jobs for Kubernetes and Slurm."""

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
from cifar.system.environment import requested_backend
from cifar.training.cluster.node_data import WantedData
from cifar.training.cluster.task import Task

if TYPE_CHECKING:
    from cifar.recipes import Recipe
    from cifar.training.cluster.task import Outcome

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
    tasks = [_task(one, common, device) for one in chosen]
    if engine in jobs.ENGINES:
        written = jobs.ENGINES[engine](tasks, to, runs, data_dir, image)
        stdout.print(f"{len(tasks):,} runs. Start them: {written}", highlight=False, soft_wrap=True)
        return
    folder = data_dir.resolve() if data_dir else None
    wanted = WantedData(loaded.name, folder, loaded.sha256, loaded.path.absolute() if loaded.path else None)
    with interrupt.resumable(runs):
        outcomes = _train(
            tasks,
            runs.resolve(),
            wanted,
            engine == "local",
            address or None,
            collect,
            mixed,
        )
    _show(tasks, outcomes, runs, as_json)


def _common_arguments(
    recipe: str | None, profile: str | None, fields: dict[str, Any], data: str, threads: int, device: str
) -> list[str]:
    """The arguments of `cifar train` that all runs share, but for the place of the data."""
    arguments = ["--data", data, "--threads", str(threads), "--device", device]
    if recipe:
        is_file = Path(recipe).is_file()
        arguments += ["--recipe", str(Path(recipe).resolve()) if is_file else recipe]
    elif profile:
        arguments += ["--profile", profile]
    for name, value in fields.items():
        arguments += [f"--{name.replace('_', '-')}", str(value)]
    return arguments


def _task(recipe: "Recipe", common: "Sequence[str]", device: str) -> Task:
    """A run as a call of `cifar train`."""
    own = ("--network", recipe.network, "--augment", recipe.policy.name, "--seed", str(recipe.seed))
    return Task(recipe, (*common, *own), gpu=device == "gpu")


def _train(
    tasks: "Sequence[Task]",
    runs: Path,
    wanted: WantedData,
    here: bool,
    address: str | None,
    collect: bool,
    mixed: bool,
) -> "dict[str, Outcome]":
    """Train what is not finished on Ray; return how each of these runs ended."""
    from cifar.training.cluster import on_ray
    from cifar.training.cluster.nodes import choose, probe
    from cifar.training.cluster.view import View

    waiting = [task for task in tasks if not _is_finished(task, runs)]
    if len(waiting) < len(tasks):
        note(f"{len(tasks) - len(waiting)} of {len(tasks)} runs are finished already.")
    if not waiting:
        return {}
    with on_ray.cluster(address, here, note):
        with stderr.status("Asking the nodes"):
            found = probe(wanted, waiting[0].recipe.threads, note)
            nodes = choose(found, waiting, mixed, note)
        with View(stderr, waiting) as view:
            return on_ray.train_all(waiting, runs, nodes, collect, view.show)


def _is_finished(task: Task, runs: Path) -> bool:
    try:
        return task.is_finished(runs)
    except CifarError:  # its folder is damaged: the run fails, and the others do not
        return False


def _show(tasks: "Sequence[Task]", outcomes: "Mapping[str, Outcome]", runs: Path, as_json: bool) -> None:
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
        note(f"{name} failed on {outcome.node or 'no node'}: {outcome.message}")
    if failed:
        raise CifarError(f"{len(failed)} of {len(tasks)} runs failed. The same command tries them again.")


def _facts(task: Task, outcome: "Outcome | None", runs: Path) -> dict[str, Any]:
    """A run for JSON; of one that was finished before no node is known."""
    from cifar.runs.run import Run, folder_of

    facts: dict[str, Any] = {"name": task.name, "node": None, "code": 0, "message": ""}
    if outcome is not None:
        facts |= {"node": outcome.node, "code": outcome.code, "message": outcome.message}
    if facts["code"] == 0:
        run = Run(folder_of(runs, task.recipe))
        facts |= {"path": str(run.path), "status": run.status}
        if run.finished:
            facts |= run.metrics.model_dump()
    return facts
