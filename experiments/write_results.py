"""Write results/README.md from results/DEVICE/device.toml and results/DEVICE/EXPERIMENT/run.toml.

python experiments/write_results.py

A run.toml has the question, the finding, the commands, the commit, the date, the data, the number of seeds if there are
any, and details in Markdown.
"""

import re
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fusion_bench.report.listing import markdown_table

RESULTS = Path(__file__).parents[1] / "results"
INTRODUCTION = """\
# Results

There is one folder for each device and experiment. Its `run.toml` has the commands, the commit, the data and the
finding; `experiments/write_results.py` writes this page from these files. Paths in a command are those at its commit;
`DIR` is a prepared TFDS directory with a JPEG copy (quality 75) of CIFAR-10. ± is half a 95 % interval over seeds.

## What was found

1. Where image and caption both inform (`default` captions, CIFAR-10, 40 strategies), late fusion with a loss of each
   modality is best: `pdf`, `qmf` and `tmc` have 65.1 to 65.3 %, `late-posthoc` 64.5, `concat` 62.6, `tensor` 62.0; no
   strategy is above the Bayes reference, 66.1 ± 0.6 ([all strategies](#cpu-2-cores-cifar10-all-strategies)), and at
   equal parameters `pdf` leads, too ([main table](#cpu-2-cores-cifar10-main-table)).
2. Their loss explains more of it than their weights: with a loss of each modality `late-mean`, without any weights, has
   64.9 % in place of 64.1 ([modality losses](#cpu-2-cores-cifar10-modality-losses)), and the image's weight in `pdf`
   and `qmf` does not fall when the image is corrupted ([dynamic joins](#cpu-2-cores-cifar10-dynamic-joins)).
3. Where only the interaction decides (`synergy`), sums of logits stay at chance
   ([shift](#cpu-2-cores-cifar10-synergy-shift)), and the joins of tokens learn it: `cross-attention` and
   `early-token` with convolutions only if what their head reads is normalised, `early-token` with patches only if these
   know the class already ([token joins](#cpu-2-cores-shapes-token-joins), one seed).
4. Words of people in place of drawn ones, wrong equally often, leave the order of the strategies nearly as it is
   (Kendall's τ 0.95), although the classes that people name are not independent of the image given its class (p <
   0.001; [human words](#cpu-2-cores-cifar10-human-words)).
5. Text alone is at its computed ceiling at every amount of information ([caption
   information](#cpu-2-cores-cifar10-caption-information)), but beside an image bits count by what they are about: 0.971
   bits on classes that images confuse are worth 16 to 17 points to joins of features or logits, 0.971 bits on others 4
   to 5 ([coarse against contrast](#cpu-2-cores-cifar10-coarse-vs-contrast)).

Examples per second are comparable only within shapes-default, shapes-neutral and shapes-synergy: other programs ran
beside the other studies.
"""


def render(results: Path = RESULTS) -> str:
    """Returns the page, in Markdown."""
    return "\n".join(
        [INTRODUCTION, *(line for path in sorted(results.glob("*/device.toml")) for line in _device(path))]
    )


def _device(path: Path) -> Iterator[str]:
    device = tomllib.loads(path.read_text(encoding="utf-8"))
    runs = {
        run.parent: tomllib.loads(run.read_text(encoding="utf-8")) for run in sorted(path.parent.glob("*/run.toml"))
    }
    yield f"## {path.parent.name}\n\nOn {device['device']}, with {device['packages']}:\n"
    rows = [
        (f"[{folder.name}](#{path.parent.name}-{folder.name})", run["question"], run["finding"])
        for folder, run in runs.items()
    ]
    yield markdown_table(["experiment", "question", "finding"], rows, "lll").rstrip()
    for folder, run in runs.items():
        yield from _section(f"{path.parent.name}/{folder.name}", folder, run)


def _section(link: str, folder: Path, run: dict[str, Any]) -> Iterator[str]:
    yield f"\n### {link.replace('/', ' ')}\n"
    yield "```console"
    for command in run["commands"]:
        whole_options = re.sub(r" (?!--)", "\0", command)  # a line breaks before an option
        lines = textwrap.wrap(whole_options, 110, break_long_words=False, break_on_hyphens=False)
        yield "$ " + " \\\n      ".join(lines).replace("\0", " ")
    yield "```\n"
    seeds = f" n = {run['seeds']} seed{'s' * (run['seeds'] > 1)}." if "seeds" in run else ""
    yield f"Commit {run['commit']}, {run['date']}. {run['data'][0].upper()}{run['data'][1:]}.{seeds}"
    shown = {"table.md": "table", "figure.svg": "figure"}
    links = [f"[{word}]({link}/{name})" for name, word in shown.items() if (folder / name).exists()]
    yield f"Files: {', '.join(links)}."
    if "details" in run:
        yield "\n" + run["details"].strip()


if __name__ == "__main__":
    (RESULTS / "README.md").write_text(render() + "\n", encoding="utf-8")
