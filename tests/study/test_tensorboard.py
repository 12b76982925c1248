import dataclasses
import shutil
import struct
import time

import pytest

from fusion_bench.config import TrainingConfig
from fusion_bench.errors import UserError
from fusion_bench.store import Store
from fusion_bench.study.tensorboard import EventFiles
from fusion_bench.training.loop import EpochMetrics
from tests.studies import make_config, run_recorded


def read(folder):
    """Returns tag, step and value of each scalar in a run's event files, in the order they were written."""
    from tensorboardX.proto.event_pb2 import Event  # type: ignore[attr-defined]  # made by protobuf

    found = []
    for path in sorted(folder.iterdir()):
        data, place = path.read_bytes(), 0
        while place + 12 < len(data):
            (length,) = struct.unpack_from("<Q", data, place)
            event = Event.FromString(data[place + 12 : place + 12 + length])
            place += 12 + length + 4  # length and its checksum, the event, its checksum
            found += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
    return found


def with_events(store):
    """Returns the runs that have events: all but the measurements."""
    return [run for run in store.runs() if run.identity["target"] != "cost"]


def expected(store, run):
    """What the stored run says."""
    scalars = []
    if "train_seconds" in run.cost:
        for row in store.curve(run.id).to_dict("records"):
            scalars += [
                (tag, row["epoch"], pytest.approx(row[name]))
                for tag, name in (
                    ("train/loss", "train_loss"),
                    ("validation/loss", "validation_loss"),
                    ("validation/accuracy", "validation_accuracy"),
                )
            ]
    epoch = run.metrics.get("epoch", 0)
    return [
        *scalars,
        ("test/accuracy", epoch, pytest.approx(run.metrics["test_accuracy"])),
        ("test/loss", epoch, pytest.approx(run.metrics["test_loss"])),
    ]


@pytest.fixture(scope="module")
def watched(source, tmp_path_factory):
    """A study of two epochs whose events are written as it runs."""
    config = make_config(source, tmp_path_factory.mktemp("watched"))
    training = TrainingConfig(epochs=2, batch_size=16, learning_rate=0.01)
    return run_recorded(dataclasses.replace(config, training=training, tensorboard=True))


def check(done):
    store = done.store
    assert len(with_events(store)) == 5
    for run in with_events(store):
        assert read(done.config.out / "tensorboard" / run.id) == expected(store, run)


def test_every_run_has_its_events(watched):
    check(watched)


def test_events_are_no_part_of_a_run(watched, tmp_path):
    shutil.copytree(watched.config.out / "runs", tmp_path / "runs")
    again = run_recorded(dataclasses.replace(watched.config, out=tmp_path, tensorboard=False))
    assert again.events[0] == ("kept", 3)
    assert again.runs == []
    assert not (tmp_path / "tensorboard").exists()


def test_complete_runs_get_their_events_from_their_curves(watched, tmp_path):
    shutil.copytree(watched.config.out / "runs", tmp_path / "runs")
    run = watched.stored("concat")
    unfinished = EventFiles(Store(tmp_path))
    unfinished.training(run.id, [EpochMetrics(1, 9.0, 9.0, 0.0)])  # and is killed
    again = run_recorded(dataclasses.replace(watched.config, out=tmp_path))
    assert again.runs == []
    check(again)


def test_events_are_written_as_the_epochs_go(tmp_path):
    events = EventFiles(Store(tmp_path))
    curve = [EpochMetrics(epoch, 2.0 / epoch, 1.0, 0.25 * epoch) for epoch in (1, 2, 3)]
    folder = tmp_path / "tensorboard" / "a-run"
    events.training("a-run", [])
    assert not folder.exists()
    for known in (1, 1, 3):
        events.training("a-run", curve[:known])
        wanted = [("validation/accuracy", e.epoch, e.validation_accuracy) for e in curve[:known]]
        for _ in range(100):  # while the run goes on
            if read(folder)[2::3] == wanted:
                break
            time.sleep(0.1)
        assert read(folder)[2::3] == wanted
    events.training("another", curve[:1])
    # tried again, as after an interruption: what it wrote before is replaced
    events.training("a-run", curve[:2])
    events.training("another", curve[:1])
    assert [step for tag, step, _ in read(folder) if tag == "train/loss"] == [1, 2]


def test_a_folder_that_cannot_be_created_is_said_in_one_line(tmp_path):
    (tmp_path / "tensorboard").write_text("")
    with pytest.raises(UserError, match="tensorboard cannot be created"):
        EventFiles(Store(tmp_path))


def test_events_that_cannot_be_written_are_said_once_and_left(tmp_path):
    said: list[str] = []
    events = EventFiles(Store(tmp_path), said.append)
    (tmp_path / "tensorboard" / "a-run").write_text("in the way")
    for epochs in (1, 2):
        events.training("a-run", [EpochMetrics(epoch, 1.0, 1.0, 0.5) for epoch in range(1, epochs + 1)])
    (line,) = said
    assert line.startswith("events for TensorBoard cannot be written any more: ")


def test_what_another_process_is_making_is_left_to_it(watched, tmp_path):
    store = Store(shutil.copytree(watched.store.directory, tmp_path / "copy"))
    shutil.rmtree(store.directory / "tensorboard")
    events, theirs = EventFiles(store), with_events(store)[0]
    with Store(store.directory).claim(theirs.id):
        events.catch_up()
    folders = {path.name for path in (store.directory / "tensorboard").iterdir()}
    assert folders == {run.id for run in with_events(store)} - {theirs.id}
