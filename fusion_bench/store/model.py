"""The variables of a model, as checkpoints hold them."""

from typing import Any

from flax import nnx

from fusion_bench.store.record import Run
from fusion_bench.store.store import Store
from fusion_bench.training.step import Variables


def checkpoint_of(variables: Variables) -> dict[str, Any]:
    """Returns variables as nested dictionaries of arrays."""
    return {"params": nnx.to_pure_dict(variables.params), "rest": nnx.to_pure_dict(variables.rest)}


def variables_of(module: nnx.Module) -> Variables:
    """Returns a module's present variables."""
    return Variables(nnx.state(module, nnx.Param), nnx.state(module, nnx.Not(nnx.Param)))


def restore(store: Store, run: Run, module: nnx.Module) -> None:
    """Puts a stored run's variables into a module of the same strategy.

    Raises:
      UserError: the run has no checkpoint, it is damaged, or of another model.
    """
    variables = variables_of(module)
    stored = store.restore(run.id, checkpoint_of(variables))
    nnx.replace_by_pure_dict(variables.params, stored["params"])
    nnx.replace_by_pure_dict(variables.rest, stored["rest"])
    nnx.update(module, *variables)
