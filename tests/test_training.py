from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from reidkit import checkpoints  # noqa: E402
from reidkit.errors import (  # noqa: E402
    ArgumentError,
    DatasetError,
    FormatError,
    MissingExtraError,
    TrainingError,
    UnreadableImagesError,
)
from reidkit.exporting import export_package  # noqa: E402
from reidkit.records import Dataset, Samples  # noqa: E402
from reidkit.training import Event, Recipe, Run, read_run, train  # noqa: E402
from tests.drawn_people import draw_people, quick_recipe, score  # noqa: E402
from tests.torch_threads import one_thread as one_thread  # noqa: E402


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return draw_people(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def trained(people: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, list[Event]]:
    """Train two epochs of the quick recipe, unbroken."""
    events: list[Event] = []
    out = tmp_path_factory.mktemp("run") / "run"
    return train(people, quick_recipe(log_every=2), out, report=events.append), events


def weights(run: Run, which: Any = "last") -> dict[str, np.ndarray[Any, Any]]:
    return dict(checkpoints.read(run.checkpoint(which)).tensors)


def assert_equal_weights(first: Run, second: Run) -> None:
    left, right = weights(first), weights(second)
    assert left.keys() == right.keys()
    for name, values in left.items():
        np.testing.assert_array_equal(values, right[name], err_msg=name)


def test_a_run_leaves_its_files(trained: tuple[Run, list[Event]]) -> None:
    run, _ = trained
    names = {path.name for path in run.folder.iterdir()}
    assert names == {
        *("best.safetensors", "last.safetensors", "log.jsonl"),
        *("recipe.toml", "run.json", "state.pth"),
    }
    assert read_run(run.folder) == run
    assert run.epoch == 2
    assert run.finished


def test_what_a_run_tells(trained: tuple[Run, list[Event]]) -> None:
    run, events = trained
    kinds = [event.kind for event in events if event.kind != "step"]
    assert kinds == ["start", *["epoch", "validation", "checkpoint"] * 2]
    steps = [event for event in events if event.kind == "step"]
    assert [event.step % 2 for event in steps] == [0] * len(steps)
    assert steps
    for event in (*steps, *(event for event in events if event.kind == "epoch")):
        assert event.values["loss"] > 0
        assert event.values["pictures_per_second"] > 0
        assert 0 <= event.values["waiting"] <= 1
        assert event.values["eta_seconds"] >= 0
        assert event.values["learning_rate"] == pytest.approx(1e-3)
    lines = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
    told = [event for event in events if event.kind in ("step", "epoch", "validation")]
    assert [line["kind"] for line in lines] == [event.kind for event in told]
    assert lines[-1]["mAP"] == told[-1].values["mAP"]


def test_validation_is_what_the_exported_checkpoint_scores(
    people: Dataset, trained: tuple[Run, list[Event]], tmp_path: Path
) -> None:
    run, events = trained
    validations = {event.epoch: event for event in events if event.kind == "validation"}
    package = export_package(run.checkpoint("last"), tmp_path / "p", contract=run.recipe.contract)
    assert score(package, people) == pytest.approx(validations[2].values["mAP"], abs=1e-4)
    best = max(validations.values(), key=lambda event: event.values["mAP"])
    assert run.best_epoch == best.epoch
    assert run.scores["mAP"] == best.values["mAP"]


def test_the_same_recipe_gives_the_same_weights(
    people: Dataset, trained: tuple[Run, list[Event]], tmp_path: Path
) -> None:
    again = train(people, quick_recipe(workers=3), tmp_path / "again")
    assert_equal_weights(again, trained[0])
    other = train(people, quick_recipe(seed=1), tmp_path / "other")
    assert not np.array_equal(
        weights(other)["classifier.weight"], weights(again)["classifier.weight"]
    )


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_a_run_goes_on_where_its_state_is(
    people: Dataset, trained: tuple[Run, list[Event]], tmp_path: Path, kept: int
) -> None:
    """Whatever a killed run had written after its state, the result is that of an unbroken one."""
    out = tmp_path / "run"

    class Killed(BaseException):
        pass

    def kill(event: Event) -> None:
        if event.kind == ("step", "checkpoint", "validation")[kept]:
            raise Killed

    with pytest.raises(Killed):
        train(people, quick_recipe(log_every=2), out, report=kill)
    run = train(people, quick_recipe(log_every=2), out)
    assert_equal_weights(run, trained[0])
    assert dataclasses.replace(run, folder=trained[0].folder) == trained[0]
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    whole = (trained[0].folder / "log.jsonl").read_text().splitlines()
    assert [line["kind"] for line in lines] == [json.loads(line)["kind"] for line in whole]


def test_a_finished_run_is_given_back(trained: tuple[Run, list[Event]], people: Dataset) -> None:
    run, _ = trained
    before = (run.folder / "state.pth").stat().st_mtime_ns
    assert train(people, run.recipe, run.folder) == run
    assert (run.folder / "state.pth").stat().st_mtime_ns == before


def test_another_recipe_or_folder_is_refused(
    trained: tuple[Run, list[Event]], people: Dataset, tmp_path: Path
) -> None:
    run, _ = trained
    with pytest.raises(ArgumentError, match=r"learning_rate was 0\.001 and is 0\.5"):
        train(people, dataclasses.replace(run.recipe, learning_rate=0.5), run.folder)
    fewer = dataclasses.replace(people, train=people.train.select(slice(5, None)))
    with pytest.raises(ArgumentError, match="a run on other data"):
        train(fewer, run.recipe, run.folder)
    (tmp_path / "something").write_text("else")
    with pytest.raises(ArgumentError, match="a folder with other things in it"):
        train(people, run.recipe, tmp_path)
    with pytest.raises(ArgumentError, match="not a folder"):
        train(people, run.recipe, tmp_path / "something")
    lonely = dataclasses.replace(people, train=people.train.select(slice(0, 1)))
    with pytest.raises(DatasetError, match="1 pictures of 1 people"):
        train(lonely, run.recipe, tmp_path / "lonely")


def test_killed_before_any_file_appears_it_goes_on_to_the_same_bytes(
    people: Dataset, tmp_path: Path
) -> None:
    """Die before each of the renames by which files appear, as `kill -9` would make it."""
    recipe = quick_recipe(epochs=2, batch=8)
    people = dataclasses.replace(
        people,
        train=people.train.select(slice(0, 40)),
        query=people.query.select(slice(0, 2)),
        gallery=people.gallery.select(people.gallery.person_ids > 0).select(slice(0, 12)),
    )
    whole = train(people, recipe, tmp_path / "whole")
    replace = Path.replace
    moves = 0

    def count(path: Path, target: Path) -> Path:
        nonlocal moves
        moves += 1
        return replace(path, target)

    def die(number: int) -> Run:
        """Train in a process that ends at the given rename, then go on here."""
        out = tmp_path / str(number)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of threads, of which none holds anything here
            pid = os.fork()
        if not pid:
            left = iter(range(number))
            ending = lambda path, to: replace(path, to) if next(left, None) is not None else kill()  # noqa: E731
            Path.replace = ending  # type: ignore[method-assign,assignment]
            try:
                train(people, recipe, out)
            finally:
                os._exit(0)
        assert os.waitpid(pid, 0)[1] == signal.SIGKILL
        return train(people, recipe, out)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "replace", count)
        train(people, recipe, tmp_path / "counted")
    assert moves >= 10
    for number in range(moves):
        run = die(number)
        names = sorted(path.name for path in run.folder.iterdir())
        assert names == sorted(path.name for path in whole.folder.iterdir()), number
        for name in ("best.safetensors", "last.safetensors", "recipe.toml"):
            assert (run.folder / name).read_bytes() == (whole.folder / name).read_bytes(), number
        assert dataclasses.replace(run, folder=whole.folder) == whole


def kill() -> Path:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("still alive")


def test_a_lost_state_is_not_begun_anew(people: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "run"
    run = stop_after_an_epoch(people, out)
    (out / "state.pth").unlink()
    before = run.checkpoint("last").read_bytes()
    with pytest.raises(TrainingError, match=r"has no state\.pth, though 1 epochs are done"):
        train(people, run.recipe, out)
    assert run.checkpoint("last").read_bytes() == before


def stop_after_an_epoch(people: Dataset, out: Path) -> Run:
    def stop(event: Event) -> None:
        if event.kind == "checkpoint":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(people, quick_recipe(), out, report=stop)
    return read_run(out)


def test_a_foreign_state_is_named(people: Dataset, tmp_path: Path) -> None:
    run = stop_after_an_epoch(people, tmp_path / "run")
    state = tmp_path / "run" / "state.pth"
    kept = torch.load(state, weights_only=True)
    others: list[Any] = [
        torch.zeros(3),
        {"format": 1},
        kept | {"fingerprint": "of other data"},
        kept | {"stepper": {}},
        kept | {"stepper": kept["stepper"] | {"objective": {}}},
    ]
    for other in others:
        torch.save(other, state)
        with pytest.raises(TrainingError, match=r"state\.pth cannot be read"):
            train(people, run.recipe, tmp_path / "run")
    torch.save(kept | {"format": 2}, state)
    with pytest.raises(FormatError, match="another format"):
        train(people, run.recipe, tmp_path / "run")


def test_before_the_first_epoch_a_mistake_can_be_mended_in_place(
    people: Dataset, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with pytest.raises(ArgumentError, match="set a smaller batch"):
        train(people, quick_recipe(batch=1024), out)
    with pytest.raises(TrainingError, match="not finite"):
        train(people, quick_recipe(learning_rate=1e20), out)
    assert train(people, quick_recipe(epochs=1), out).finished


def test_what_cannot_be_validated_is_said_before_anything_is_trained(
    people: Dataset, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    paths = [str(broken), *people.query.paths[1:]]
    query = Samples.from_columns(paths, people.query.person_ids, people.query.camera_ids)
    events: list[Event] = []
    with pytest.raises(UnreadableImagesError, match=r"1 of \d+ pictures.*broken\.jpg") as error:
        train(
            dataclasses.replace(people, query=query),
            quick_recipe(),
            tmp_path / "run",
            report=events.append,
        )
    assert "skip" not in str(error.value)
    alone = people.query.select(slice(0, 1))
    with pytest.raises(DatasetError, match="none of the 1 queries is in the gallery under another"):
        train(
            dataclasses.replace(people, query=alone, gallery=alone), quick_recipe(), tmp_path / "r"
        )
    assert events == []


def test_other_queries_are_other_data(trained: tuple[Run, list[Event]], people: Dataset) -> None:
    run, _ = trained
    fewer = dataclasses.replace(people, query=people.query.select(slice(0, 8)))
    with pytest.raises(ArgumentError, match="a run on other data"):
        train(fewer, run.recipe, run.folder)


def test_a_run_by_milestones_may_be_made_longer(people: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(people, quick_recipe(epochs=1), out)
    longer = train(people, quick_recipe(epochs=2), out)
    assert longer.epoch == 2
    with pytest.raises(ArgumentError, match="epochs was 2 and is 1"):
        train(people, quick_recipe(epochs=1), out)
    with pytest.raises(ArgumentError, match="epochs was 2 and is 3, schedule was"):
        train(people, quick_recipe(epochs=3, schedule="cosine"), out)


def test_a_damaged_state_is_named(
    trained: tuple[Run, list[Event]], people: Dataset, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    run = train(people, quick_recipe(epochs=2), out)
    disk_state = out / "state.pth"
    disk_state.write_bytes(disk_state.read_bytes()[:1000])
    content = json.loads((out / "run.json").read_text()) | {"epoch": 1, "best_epoch": 1}
    (out / "run.json").write_text(json.dumps(content))
    with pytest.raises(TrainingError, match=r"state\.pth cannot be read"):
        train(people, run.recipe, out)


def test_a_loss_that_is_no_number_stops_and_shows_its_batch(
    people: Dataset, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with pytest.raises(TrainingError, match=r"loss of step \d+ of epoch 1 is not finite"):
        train(people, quick_recipe(learning_rate=1e20), out)
    with np.load(out / "failed-batch.npz") as saved:
        assert saved["images"].shape == (16, 3, 64, 32)
        assert len(saved["paths"]) == len(saved["labels"]) == 16
        assert not np.isfinite(saved["loss"])
    assert all(Path(path).is_file() for path in saved_paths(out))
    assert read_run(out).epoch == 0


def saved_paths(out: Path) -> list[str]:
    with np.load(out / "failed-batch.npz") as saved:
        return [str(path) for path in saved["paths"]]


@pytest.mark.parametrize(
    "changes",
    [
        {"pooling": "gem", "head": "arcface", "optimiser": "sgd", "schedule": "cosine"},
        {"bnneck": False, "metric_loss": "soft_triplet", "center_weight": 0.0},
        {"metric_loss": "circle", "head": "cosface", "ema_decay": 0.9, "accumulate": 2},
        {"metric_loss": "none", "sampler": "shuffle", "precision": "bfloat16"},
        {"channels_last": False, "optimiser": "adamw", "architecture": "osnet_ain_x0_25"},
    ],
    ids=lambda changes: "-".join(map(str, changes)),
)
def test_every_part_trains_and_exports(
    people: Dataset, tmp_path: Path, changes: dict[str, Any]
) -> None:
    recipe = quick_recipe(epochs=1, **changes)
    events: list[Event] = []
    run = train(people, recipe, tmp_path / "run", report=events.append)
    package = export_package(run.checkpoint(), tmp_path / "package", contract=recipe.contract)
    assert score(package, people) == pytest.approx(run.scores["mAP"], abs=5e-3)


def test_a_frozen_backbone_does_not_move(
    people: Dataset, trained: tuple[Run, list[Event]], tmp_path: Path
) -> None:
    source = trained[0].checkpoint()
    begun = weights(trained[0], "best")
    recipe = quick_recipe(epochs=2, freeze_epochs=1, pretrained=str(source))
    after: list[dict[str, np.ndarray[Any, Any]]] = []

    def look(event: Event) -> None:
        if event.kind == "checkpoint":
            after.append(weights(read_run(tmp_path / "run")))

    train(people, recipe, tmp_path / "run", report=look)
    frozen, learning = after
    for name, values in begun.items():
        free = name.startswith(("bottleneck", "classifier"))
        if not free:
            np.testing.assert_array_equal(frozen[name], values, err_msg=name)
    assert not np.array_equal(frozen["classifier.weight"], begun["classifier.weight"])
    assert not np.array_equal(learning["conv1.conv.weight"], begun["conv1.conv.weight"])


def test_without_queries_the_last_epoch_is_the_best(people: Dataset, tmp_path: Path) -> None:
    nobody = Samples.from_columns([], [], [])
    blind = dataclasses.replace(people, query=nobody)
    run = train(blind, quick_recipe(epochs=1), tmp_path / "run")
    assert run.best_epoch == 1
    assert run.scores == {}
    assert_equal_weights_of_files(run)


def assert_equal_weights_of_files(run: Run) -> None:
    best, last = weights(run, "best"), weights(run, "last")
    for name, values in best.items():
        np.testing.assert_array_equal(values, last[name])


def test_pretrained_weights_are_the_start(
    people: Dataset, trained: tuple[Run, list[Event]], tmp_path: Path
) -> None:
    source = trained[0].checkpoint("last")
    recipe = quick_recipe(epochs=1, pretrained=str(source), learning_rate=1e-12)
    run = train(people, recipe, tmp_path / "run")
    np.testing.assert_allclose(
        weights(run)["conv1.conv.weight"], weights(trained[0])["conv1.conv.weight"], atol=1e-6
    )
    assert isinstance(run.recipe, Recipe)


def test_tensorboard_gets_what_the_log_has(people: Dataset, tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = train(people, quick_recipe(epochs=1, tensorboard=True, log_every=4), tmp_path / "run")
    board = accumulator.EventAccumulator(str(run.folder / "tensorboard"))
    board.Reload()
    lines = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if line["kind"] == "step"]
    assert [each.value for each in board.Scalars("step/loss")] == pytest.approx(losses)
    assert board.Scalars("validation/mAP")[0].value == pytest.approx(run.scores["mAP"])


def test_without_tensorboard_the_extra_is_named(
    people: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingExtraError, match=r"reidkit\[tensorboard\]"):
        train(people, quick_recipe(epochs=1, tensorboard=True), tmp_path / "run")
