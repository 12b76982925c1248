"""Every ablation: its points, studies, table and figure, with made-up logits in the place of trained ones."""

import dataclasses
import datetime
import re
import tomllib
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fusion_bench.data.sources import base
from fusion_bench.fusion.registry import StrategySpec, strategies
from fusion_bench.store import Store
from fusion_bench.study import execute
from tests.experiments.loading import ABLATIONS, load
from tests.recordings import made_up, write_recordings
from tests.studies import make_config, make_quick, run_recorded, write_source


def make_up(job, resources):
    """Returns a result as if the job had been trained, whose accuracy its strategy and seed decide."""
    rng = np.random.default_rng([zlib.crc32(f"{job.label} {job.data.captions}".encode()), job.seed])
    labels = np.asarray(resources.target_data(job).labels)
    logits = {}
    for split in ("validation",) if job.kind == "tune" else ("validation", "test"):
        of_split = labels[resources.dataset.splits[split]]
        classes = resources.dataset.num_classes
        logits[split] = rng.normal(size=(len(of_split), classes)) + 2 * np.eye(classes)[of_split]
    cost = {"params": 1000, "train_seconds": 1.0}
    return execute._result(job, resources, logits, labels, metrics={"epoch": 1}, cost=cost)


def make_up_cost(job, resources):
    return execute.Result(resources.record(job, cost={"compile_s": 1.0, "train_examples_per_s": 1000.0}))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_source(tmp_path_factory.mktemp("ablations") / "tiny.npz", 500)


@pytest.fixture(scope="module", autouse=True)
def spoken(tmp_path_factory):
    """Recordings in the usual place of data, for the ablation that reads no other."""
    folder = write_recordings(tmp_path_factory.mktemp("spoken"), made_up(count=8))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TFDS_DATA_DIR", str(folder))
        yield


@pytest.fixture(autouse=True)
def own_sources(monkeypatch):
    """Keeps the sources of data that an ablation registers from other tests."""
    monkeypatch.setattr(base.REGISTRY, "known", base.sources())


@pytest.fixture
def untrained(monkeypatch):
    make_quick(monkeypatch)
    for name in ("_train", "_join"):
        monkeypatch.setattr(execute, name, make_up)
    monkeypatch.setattr(execute, "_measure", make_up_cost)


def scale_of(name, images):
    """Returns the scale of an ablation on images, with what people said of them if it asks for that."""
    scale = dataclasses.replace(load(name).SWEEP.scale, data=str(images))
    if not hasattr(scale, "people"):
        return scale
    people = images.with_name("people.csv")
    with np.load(images) as arrays:
        label, split, names = (arrays[part] for part in ("label", "split", "class_names"))
    named = np.where(np.arange(len(label)) % 5 == 0, (label + 1) % len(names), label)  # one in five is wrong
    table = {"id": np.arange(len(label)), "split": split, "label": names[label], "named": names[named]}
    pd.DataFrame(table).to_csv(people, index=False)
    return dataclasses.replace(scale, people=people, test_size=100)


def run(name, images, out):
    """Runs an ablation in its short form; returns its frame and its text."""
    module = load(name)
    scale = dataclasses.replace(scale_of(name, images), out=out, quick=True)
    assert load("sweep").run(module.SWEEP, scale, "Why?") == 0
    return pd.read_csv(out / "table.csv"), (out / "table.md").read_text()


@pytest.mark.parametrize("name", ABLATIONS)
def test_the_studies_of_an_ablation_are_tabulated_and_drawn(name, images, untrained, tmp_path):
    frame, text = run(name, images, tmp_path)
    assert len(set(frame["x"])) == 2
    assert len(set(frame["n_train"])) == (2 if name == "data_size" else 1)
    assert len(set(frame["epochs"].dropna())) == (2 if name in EPOCHS_DIFFER else 1)
    trained = frame.loc[frame["n_seeds"] > 0]
    assert set(trained["n_seeds"]) == {2}
    assert "n = 2 seeds" in text
    for row in trained.loc[trained["family"] != "reference"].to_dict("records"):
        assert f"{100 * row['test_accuracy_mean']:.2f}" in text, row["strategy"]
    facts = tomllib.loads((tmp_path / "run.toml").read_text())
    assert (facts["question"], facts["seeds"], facts["date"]) == ("Why?", 2, datetime.date.today())
    assert facts["data"].endswith("to test")
    figure = tmp_path / "figure.svg"
    assert figure.exists() == (load(name).SWEEP.draw is not None)
    if figure.exists():
        words = " ".join(re.sub(r"<[^>]+>", " ", figure.read_text()).split())
        assert "95 % interval over n = 2 seeds" in words


EPOCHS_DIFFER = ("budget", "data_size", "every_strategy", "fusion_depth")


def test_an_ablation_trains_in_its_short_form(images, tmp_path, monkeypatch):
    make_quick(monkeypatch)
    frame, _ = run("coarse_vs_contrast", images, tmp_path)
    assert set(frame["x"]) == {"contrast", "pairs"}
    assert set(frame["gain_over"].dropna()) == {"image-only"}
    assert frame.loc[frame["family"] != "ceiling", "test_accuracy_mean"].between(0, 1).all()


def test_words_of_people_are_compared_with_as_many_wrong_ones_at_random(images, untrained, tmp_path):
    frame, text = run("human_words", images, tmp_path)
    drawn, said = (frame.loc[frame["x"] == x] for x in ("drawn at random", "said by people"))
    studies = load("human_words").SWEEP.points(scale_of("human_words", images))
    assert {study.data.test_from for x, study in studies.items() if "official" not in x} == {"train"}
    assert {study.data.test_from for x, study in studies.items() if "official" in x} == {"test"}
    wrong = float(drawn["captions"].iloc[0].removeprefix("default:wrong="))
    assert wrong == pytest.approx(0.2, abs=0.05)
    assert set(said["captions"]) == {"human:people.csv"}
    assert f"People name another class in {100 * wrong:.1f} % of the training examples" in text
    assert "Kendall's τ of the order of the 2 multimodal rows: drawn at random and said by people: " in text
    assert "from drawn to said words: " in text
    for name, second, count in (("word", "informative word", 2), ("named", "class named", 1)):
        tested = frame.loc[frame[f"cmi_{name}_p_value"].notna()]
        assert tested["strategy"].tolist() == ["image-only"] * count
        assert (tested[f"cmi_{name}_bits"] > 0).all()
        assert tested[f"cmi_{name}_p_value"].between(1 / 1001, 1).all()
        for row in tested.to_dict("records"):
            (printed,) = re.findall(rf"\| {row['x']} \| {second} \| ([\d.]+) \|", text)
            assert float(printed) == pytest.approx(row[f"cmi_{name}_bits"], abs=1.1e-5)  # the file rounds, too


def test_words_of_people_need_a_file():
    with pytest.raises(SystemExit, match="--people FILE"):
        load("human_words").SWEEP.points(load("human_words").SWEEP.scale)


def test_every_depth_is_a_row_in_order(images, untrained, tmp_path):
    frame, _ = run("fusion_depth", images, tmp_path)
    joins = [name for name in frame.loc[frame["x"] == "synergy", "strategy"] if name.startswith("mid-channel")]
    assert len(joins) > 1
    assert joins == [f"mid-channel:depth={depth}" for depth in range(len(joins))]


def test_widths_and_rates_are_crossed(images, untrained, tmp_path):
    frame, text = run("sensitivity", images, tmp_path)
    assert list(dict.fromkeys(frame["x"])) == ["0.009", "best of 2"]
    assert len([name for name in set(frame["strategy"]) if name.startswith("sum")]) == 3
    assert "Kendall's τ with the order of the 4 multimodal rows at best of 2" in text


def test_the_main_table_names_what_was_resized(images, untrained, tmp_path):
    _, text = run("main_table", images, tmp_path)
    assert "has the highest mean of 2 strategies" in text
    assert "of 1 strategies that were resized" in text


def test_what_is_below_its_baseline_is_named(images, untrained, tmp_path):
    _, text = run("every_strategy", images, tmp_path)
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")][2:]
    assert [row[0] for row in rows] == ["| image-only", "| sum", "| late-mean"]
    assert rows[-1][-1] == "no: log-scores add up |"
    below = ", ".join(row[0][2:] for row in rows if row[3].startswith(("−", "+0.00 "))) or "none"
    assert f"Not above their baseline with `default` captions: {below}." in text


def test_the_formula_of_sequences_gives_its_labels_and_ceilings():
    """The coins are read off the data, and the ceilings counted on them."""
    module = load("sequences")
    for shuffled in (False, True):
        raw = module.draw(shuffled)
        words, mask = raw.modalities["text"].values, raw.modalities["text"].mask
        shown = np.where(mask[:, :, None], words, -np.inf)
        coins = {
            "order": (shown[:, :, 0].argmax(1) < shown[:, :, 1].argmax(1)).astype(int),
            "positive": (raw.modalities["audio"].values[:, 0] > 0).astype(int),
            "light": (raw.modalities["image"].values.mean((1, 2, 3)) > 125).astype(int),
            "level": (words[:, 0, 2] + words[:, 1, 2] + words[:, 2, 2] > 0).astype(int),
        }
        right = (module.label(**coins) == raw.labels).mean()
        assert right == (pytest.approx(0.5, abs=0.02) if shuffled else 1)
        if not shuffled:
            for names in (*module.SHOWN.values(), module.ONE_BY_ONE, module.COINS, module.COINS[1:]):
                seen = pd.DataFrame({name: coins[name] for name in names})
                best = pd.crosstab([seen[name] for name in names], raw.labels).max(axis=1).sum() / len(raw.labels)
                assert module.ceiling(names) == pytest.approx(best, abs=0.03)
    assert [module.ceiling(names) for names in module.SHOWN.values()] == [0.25, 0.125, 0.25]


@pytest.mark.parametrize(
    ("accuracy", "interval", "expected"),
    [(0.8, 0.04, "yes"), (0.8, 0.06, "in part"), (0.53, 0.0, "not shown"), (0.9, np.nan, "not shown")],
)
def test_an_interaction_is_learned_where_the_whole_interval_says_so(accuracy, interval, expected):
    row = {"test_accuracy_mean": accuracy, "test_accuracy_ci95": interval, "n_test": 2000}
    assert load("sequences").verdict(row) == expected


def test_theory_speaks_of_every_strategy():
    experiment = load("every_strategy")
    for name, registration in strategies().items():
        assert experiment.theory(name, registration.family).split(":")[0] in ("yes", "no", "a little")


def test_significant_changes_are_listed_with_their_interval():
    before = {name: {seed: 0.5 + 0.001 * seed for seed in range(5)} for name in ("a", "b", "c")}
    after = {
        "a": {seed: accuracy + 0.05 + 0.001 * (seed % 2) for seed, accuracy in before["a"].items()},
        "b": {seed: accuracy + 0.05 * (-1) ** seed for seed, accuracy in before["b"].items()},
    }
    listed = load("changes").listed_changes
    assert listed(before, after, 1000).startswith("a +5.04 ± ")
    assert " b " not in listed(before, after, 1000)
    assert listed(before, {"b": after["b"]}, 1000) == "none (paired t-tests over seeds, Holm-corrected)"


def test_posthoc_gap(tmp_path, capsys):
    config = make_config(write_source(tmp_path / "x.npz"), tmp_path / "out", strategies=("late-posthoc",), seeds=2)
    run_recorded(config)
    experiment = load("posthoc_gap")
    assert experiment.main(experiment.Config(config.out, config.data)) == 0
    heading, trained, counted, exact = capsys.readouterr().out.splitlines()
    assert heading == "192 captions to learn from, 60 to test, n = 2 seeds, ± 95 %"
    runs = Store(config.out, read_only=True).runs()
    for name, line in (("late-posthoc", trained), ("bayes-reference", exact)):
        accuracies = [run.metrics["test_accuracy"] for run in runs if run.strategy == name and run.metrics]
        assert float(line.split("%")[0].split()[-1]) == pytest.approx(100 * sum(accuracies) / 2, abs=0.005)
    assert counted.startswith("counted frequencies")
    assert exact.endswith("+0.00 ± 0.00 points")


def test_flops_spent(tmp_path, capsys):
    asked = ("image-only", StrategySpec("dynmm", {"cost": 0.0}), StrategySpec("dynmm", {"cost": 50.0}))
    config = make_config(write_source(tmp_path / "x.npz"), tmp_path / "out", strategies=asked, seeds=1)
    run_recorded(config)
    experiment = load("flops_spent")
    places = {"data": str(config.data.source)}
    assert experiment.main(experiment.Config(config.out, **places, timed=3)) == 0
    printed = capsys.readouterr().out
    assert "60 test examples" in printed
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in printed.splitlines() if "dynmm" in line]
    assert [row[0] for row in rows] == ["dynmm:cost=0.0", "dynmm:cost=50.0"]
    free, dear = (float(row[-2]) for row in rows)
    assert dear < min(100, free)
    assert experiment.main(experiment.Config(config.out, **places, timed=0)) == 2
    other = dataclasses.replace(config, data=dataclasses.replace(config.data, captions="half"))
    run_recorded(other)
    assert experiment.main(experiment.Config(config.out, **places, timed=3)) == 2
    assert capsys.readouterr().err.splitlines() == [
        "--timed is 0; 1 or more is right",
        f"{config.out} has runs of dynmm in 2 settings; one is right",
    ]


@pytest.mark.parametrize("name", ABLATIONS)
def test_every_point_is_another_study(name, images):
    points = [load("sweep").as_sequence(point) for point in load(name).SWEEP.points(scale_of(name, images)).values()]
    assert len(points) > 1
    assert all(len({study.out for study in point}) == 1 for point in points)
    assert len({point[0].out for point in points}) == len(points)
    studies = [study for point in points for study in point]
    assert len({repr(dataclasses.replace(study, out=Path())) for study in studies}) == len(studies)


def test_an_earlier_finding_stays(tmp_path):
    sweep, path = load("sweep"), tmp_path / "run.toml"
    fields = {"question": "Why?", "finding": "", "seeds": 3, "date": datetime.date(2026, 1, 2)}
    path.write_text('finding = "So."\ndetails = "More"\n')
    sweep.write_facts(path, fields)
    assert tomllib.loads(path.read_text()) == {**fields, "finding": "So.", "details": "More"}


def test_a_command_names_no_path_of_this_machine():
    words = ["a.py", "--data-dir", "/home/me/data", "--seeds", "5", "--out", "/tmp/x", "--people", "/home/me/p.csv"]
    assert load("sweep").command(words) == "python a.py --data-dir DIR --seeds 5 --out OUT --people FILE"
