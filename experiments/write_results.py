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
