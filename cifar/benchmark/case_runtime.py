"""The runtime of a case of inference, and whether the case can be measured on this machine."""

from cifar.benchmark.grid import Case
from cifar.benchmark.models import KERAS, KERAS_JAX
from cifar.benchmark.session import NotAvailableError, Session
from cifar.errors import CifarError
from cifar.formats import FORMATS
from cifar.inference.runtimes import RUNTIMES, Runtime
from cifar.inference.runtimes.requirements import PythonPackage
from cifar.system import hardware

JAX = Runtime("", (), (PythonPackage("jax", "jax", "jax"),), {"cpu": "JAX CPU", "gpu": "JAX GPU"})
KERAS_RUNTIMES = {KERAS: ("tensorflow", RUNTIMES["tensorflow"]), KERAS_JAX: ("jax", JAX)}
"""The backends of the Keras model: name, and what is known of it."""


def require_available(session: Session, case: Case) -> None:
    """Check that a case can be measured on this machine.

    Raises:
        NotAvailableError: this machine lacks what it needs.
        CifarError: its file is not what it should be.
    """
    runtime = runtime_of(case)
    if runtime.missing is not None:
        raise NotAvailableError(runtime.missing)
    if case.device == "gpu" and hardware.gpu() is None:
        raise NotAvailableError("there is no NVIDIA GPU on this machine")
    if case.device not in runtime.providers:
        raise NotAvailableError(f"{runtime_name(case)} does not run {case.format} on the {case.device.upper()}")
    model = session.model(case.model)
    unavailable = model.unavailable.get(case.format)
    if unavailable and unavailable.is_failure:
        raise CifarError(unavailable.reason)
    if unavailable:
        raise NotAvailableError(unavailable.reason)
    if case.format not in model.paths:
        raise NotAvailableError(f"{case.model} comes without a {case.format} file")


def runtime_name(case: Case) -> str:
    """The name of the runtime of a case."""
    if case.format in KERAS_RUNTIMES:
        return KERAS_RUNTIMES[case.format][0]
    return case.runtime or FORMATS[case.format].runtime


def runtime_of(case: Case) -> Runtime:
    """What is known of the runtime of a case."""
    if case.format in KERAS_RUNTIMES:
        return KERAS_RUNTIMES[case.format][1]
    return RUNTIMES[runtime_name(case)]
