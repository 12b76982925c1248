"""The default study as one would write it in plain PyTorch: what study_speed.py times. Needs no jax.

    python experiments/speed/pytorch_study.py DATA.npz [--epochs 4 --seeds 3 --strategies image-only concat]

It has one process, eager networks, a Dataset that augments examples one by one, and a DataLoader. Networks, steps,
optimiser and schedule are those of `fusion-bench run`; validation after each epoch selects the one that is tested.
"""

# What PyTorch's types make of a dynamic module is checked only where it is installed.
# pyright: reportArgumentType=false, reportCallIssue=false

import dataclasses
import json
import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
import tyro
from pytorch_networks import Sizes, make_network
from torch.utils.data import DataLoader, Dataset  # pyright: ignore[reportMissingImports]

REACH = 4  # pixels by which an image is moved at most
POSTHOC = "late-posthoc"


@dataclasses.dataclass(frozen=True)
class Config:
    """Trains the strategies and prints their accuracies."""

    data: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DATA.npz")]
    """image, text, label, the indices train, validation and test, and sizes, as study_speed.py writes them."""
    strategies: tuple[str, ...] = (
        "image-only", "text-only", "early-channel", "early-token", "concat", "tensor", "late-mean", "late-posthoc",
    )  # fmt: skip
    """Strategies to train."""
    epochs: int = 4
    """Passes over the training examples."""
    seeds: int = 3
    """Trainings of each strategy."""
    batch_size: int = 64
    """Examples in an update."""
    workers: int = 0
    """Processes that load data."""


class Examples(Dataset):
    """The examples of one split: standardised image, words, label."""

    def __init__(self, arrays, split: str, *, augmented: bool, with_image: bool = True):
        self.with_image = with_image
        self.indices = torch.from_numpy(arrays[split]).long()
        self.images, self.texts = (torch.from_numpy(arrays[name]) for name in ("image", "text"))
        self.labels = torch.from_numpy(arrays["label"]).long()
        train = arrays["image"][arrays["train"]].reshape(-1, 3)
        self.mean, self.deviation = (torch.tensor(f(train, 0), dtype=torch.float32) for f in (np.mean, np.std))
        self.augmented = augmented

    def __len__(self):
        return len(self.indices)

    def __getitem__(self, number):
        index = self.indices[number]
        if not self.with_image:  # a text model's images would be loaded for nothing
            return torch.empty(0, 0, 0), self.texts[index], self.labels[index]
        image = ((self.images[index].float() - self.mean) / self.deviation).permute(2, 0, 1)
        if self.augmented:
            image = augment(image)
        return image, self.texts[index], self.labels[index]


def augment(image):
    """Flips an image at random and moves it by up to `REACH` pixels."""
    height, width = image.shape[1:]
    flip, down, right = (int(torch.randint(n, ())) for n in (2, 2 * REACH + 1, 2 * REACH + 1))
    image = image.flip(2) if flip else image
    padded = torch.nn.functional.pad(image[None], [REACH] * 4, mode="reflect")[0]
    return padded[:, down : down + height, right : right + width]


def train(strategy: str, seed: int, config: Config, arrays, sizes: Sizes):
    """Returns the network of the best epoch."""
    torch.manual_seed(seed)
    network = make_network(strategy, sizes)
    options = {"batch_size": config.batch_size, "num_workers": config.workers}
    examples = Examples(arrays, "train", augmented=True, with_image=needs_image(strategy))
    loader = DataLoader(examples, shuffle=True, drop_last=True, **options)
    matrices = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": 0.2}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.003, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 0.003, total_steps=config.epochs * len(loader), pct_start=0.25, div_factor=10,
        final_div_factor=100, cycle_momentum=False,
    )  # fmt: skip
    cross_entropy = torch.nn.CrossEntropyLoss(label_smoothing=0.1)
    best, best_accuracy = None, -1.0
    for _ in range(config.epochs):
        network.train()
        for image, text, label in loader:
            loss = cross_entropy(network(inputs(image, text)), label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        logits, labels = predict(network, strategy, "validation", config, arrays)
        accuracy = float((logits.argmax(1) == labels).float().mean())
        if accuracy > best_accuracy:
            best = {name: value.clone() for name, value in network.state_dict().items()}
            best_accuracy = accuracy
    network.load_state_dict(best)
    return network


def needs_image(strategy: str) -> bool:
    """Returns whether a network reads the image."""
    return not strategy.startswith("text-")


@torch.no_grad()
def predict(network, strategy: str, split: str, config: Config, arrays):
    """Returns logits and labels of a split."""
    network.eval()
    examples = Examples(arrays, split, augmented=False, with_image=needs_image(strategy))
    loader = DataLoader(examples, batch_size=500, num_workers=config.workers)
    parts = [(network(inputs(image, text)), label) for image, text, label in loader]
    return tuple(torch.cat(part) for part in zip(*parts, strict=True))


def inputs(image, text):
    return {"image": image.contiguous(memory_format=torch.channels_last), "text": text}


def join(scores, arrays):
    """Returns the sum of calibrated log-probabilities less the prior's, on test."""
    counts = torch.bincount(torch.from_numpy(arrays["label"][arrays["train"]]).long()).float()
    total = -torch.log(counts / counts.sum())
    for (validation, labels), (test, _) in scores:
        temperature = torch.ones((), requires_grad=True)
        optimizer = torch.optim.LBFGS([temperature], max_iter=50)

        def closure(validation=validation, labels=labels, temperature=temperature, optimizer=optimizer):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(validation / temperature, labels)
            loss.backward()
            return loss

        optimizer.step(closure)
        total = total + torch.log_softmax(test / temperature.detach(), 1)
    return total


def main(config: Config) -> int:
    """Trains, and prints a line for each strategy."""
    with np.load(config.data) as archive:
        arrays = dict(archive)
    sizes = Sizes(**json.loads(str(arrays.pop("sizes"))))
    accuracies: dict[str, list[float]] = {strategy: [] for strategy in config.strategies}
    for seed in range(config.seeds):
        scores = {}
        for strategy in (name for name in config.strategies if name != POSTHOC):
            network = train(strategy, seed, config, arrays, sizes)
            logits, labels = predict(network, strategy, "test", config, arrays)
            if strategy.endswith("-only"):
                scores[strategy] = [
                    predict(network, strategy, "validation", config, arrays), (logits, labels),
                ]  # fmt: skip
            accuracies[strategy].append(float((logits.argmax(1) == labels).float().mean()))
        if POSTHOC in config.strategies:
            logits = join(list(scores.values()), arrays)
            labels = scores["image-only"][1][1]
            accuracies[POSTHOC].append(float((logits.argmax(1) == labels).float().mean()))
    print(f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads, {config.workers} workers; test, %:")
    for strategy, values in accuracies.items():
        print(f"{strategy}: {100 * np.mean(values):.2f} ± {100 * np.std(values, ddof=min(1, len(values) - 1)):.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Config, description=__doc__)))
