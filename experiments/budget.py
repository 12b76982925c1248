"""Does the ranking survive ten times the epochs?

    python experiments/budget.py [--out DIR] [--data cifar10 --data-dir DIR …] [--quick]

Found: not run yet at full size.
"""

import dataclasses
import sys
from pathlib import Path

import ablation
import tyro

FACTORS = (1, 10)


@dataclasses.dataclass(frozen=True)
class Config(ablation.Scale):
    """Accuracy and rank with a budget, and with ten times that."""

    out: Path = Path("runs/budget")
    """Where runs and table go."""


def main(config: Config) -> int:
    """Runs both budgets, writes the table with the correlation of the ranks."""
    factors = (1, 2) if config.quick else FACTORS
    points = {}
    for factor in factors:
        study = config.config(f"epochs-x{factor}")
        epochs = study.training.epochs * factor
        points[epochs] = dataclasses.replace(
            study, training=dataclasses.replace(study.training, epochs=epochs)
        )
    frame = ablation.sweep(points)
    text = (
        f"{ablation.to_markdown(frame, 'accuracy, %, by epochs')}\n"
        f"- {ablation.rank_correlation(frame)}\n"
        f"- {ablation.provenance(frame)}\n"
    )
    return ablation.write(config.out, frame, text)


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Config, description=__doc__)))
