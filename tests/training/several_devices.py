"""Run as a script: trains strategies on so many devices and writes what came of it, for test_mesh.py to compare.

python -m tests.training.several_devices OUT.npz DEVICES,DEVICES… STRATEGY,STRATEGY… [COORDINATOR PROCESS PROCESSES]
"""

import sys

import jax
import numpy as np

from fusion_bench.config import TrainingConfig
from fusion_bench.data.batches import to_device
from fusion_bench.fusion.registry import resolve
from fusion_bench.training import mesh
from fusion_bench.training.compile import compile_program
from fusion_bench.training.loop import train
from fusion_bench.training.step import epoch_order

TRAINING = TrainingConfig(epochs=2, batch_size=16, learning_rate=0.03)


def results(strategy: str, devices: int) -> dict[str, np.ndarray]:
    """Returns the first gradients, the state after one step, the logits after training, and FLOPs."""
    from tests.tasks import CONFIG, make_dataset  # starts JAX's backend, which processes join before

    dataset = make_dataset()
    (spec,) = resolve([strategy], dataset.task)
    examples = dataset.splits["train"]
    with mesh.use_devices(devices):
        data = mesh.replicate(to_device(dataset))
        program = compile_program(spec, dataset.task, CONFIG, TRAINING, data, len(examples))
        order, seed = epoch_order(examples, 0, 1), np.int32(0)
        state, loss = program.train(program.init(seed), data, order, seed, np.int32(1))
        (moments, *_) = (part for part in state.optimizer if hasattr(part, "mu"))
        trained = train(program, data, dataset.splits, 0, TRAINING)
        logits = program.predictions(trained.variables, data, dataset.splits["test"])
        first = {f"moment{i}": leaf for i, leaf in enumerate(jax.tree.leaves(moments.mu))}
        first |= {f"rest{i}": leaf for i, leaf in enumerate(jax.tree.leaves(state.variables.rest))}
        shown = first | {"loss": loss, "logits": logits, "train_flops": program.train_flops}
        return {f"{strategy}/{devices}/{name}": np.asarray(value) for name, value in shown.items()}


def main(out: str, devices: str, strategies: str, coordinator: str = "", process="0", processes="1") -> None:
    if coordinator:
        jax.distributed.initialize(coordinator, int(processes), int(process))
    found = {}
    for strategy in strategies.split(","):
        for count in map(int, devices.split(",")):
            found |= results(strategy, count)
    np.savez(out, **found)  # type: ignore[arg-type]


if __name__ == "__main__":
    main(*sys.argv[1:])
