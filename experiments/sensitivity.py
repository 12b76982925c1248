"""How far does the ranking depend on learning rate and width?

    python experiments/sensitivity.py [--out DIR] [--data cifar10 --data-dir DIR …] [--tune 8] [--quick]

Every strategy that has a width, at half of it, at its own and at twice; with the usual learning rate and weight decay,
and with the best of so many random ones, chosen on validation with the same budget for each.

Found: not run yet at full size.
"""

import dataclasses
import sys
from pathlib import Path

import ablation
import tyro

from fusion_bench.data.load import load_dataset
from fusion_bench.fusion.registry import parse_strategies

FACTORS = (0.5, 1.0, 2.0)


@dataclasses.dataclass(frozen=True)
class Config(ablation.Scale):
    """Accuracy over width, as usual and tuned."""

    out: Path = Path("runs/sensitivity")
    """Where runs and table go."""
    tune: int = 8
    """Settings that are tried for each strategy at each width."""
    strategies: str = "canonical,low-rank,mlb,gmu"
    """As in `fusion-bench run`."""


def widths_of(config: Config) -> str:
    """Returns the strategies, each with the sizes that are tried."""
    found = []
    for spec in parse_strategies(config.strategies, load_dataset(config.config("any").data).task):
        size = spec.registration.size
        usual = spec.resolved_options.get(size)
        if usual is None:
            found.append(spec.label)
            continue
        changed = (dataclasses.replace(spec, options={**spec.options, size: int(f * usual)}) for f in FACTORS)
        found += [other.label for other in changed]
    return ",".join(found)


def main(config: Config) -> int:
    """Runs every width, as usual and tuned, and writes both with the correlation of the ranks."""
    asked = widths_of(config)
    usual = config.config("usual", strategies=asked)
    tuned = dataclasses.replace(usual, tune=2 if config.quick else config.tune, out=config.out / "tuned")
    frame = ablation.sweep({"usual": usual, f"best of {tuned.tune}": tuned})
    text = (
        f"{ablation.to_markdown(frame, 'accuracy, %')}\n"
        f"- {ablation.rank_correlation(frame)}\n"
        f"- {ablation.provenance(frame)}\n"
    )
    ablation.write(config.out, frame, text)
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Config, description=__doc__)))
