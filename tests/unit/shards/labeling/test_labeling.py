"""Labeling without its page: orders, durable answers, the formula, agreement, and the export."""

from __future__ import annotations

import errno
import json
import math
import os
import tracemalloc
from pathlib import Path

import krippendorff
import numpy as np
import pytest
from PIL import Image

from field_trees import write_images
from shards.base.errors import UserError
from shards.label import ExportConfig, export, main, report
from shards.labeling.answers import Answer, AnswerLog, read_answers
from shards.labeling.scoring import combine, evaluate, krippendorff_alpha, strength
from shards.labeling.session import Session, check_subject, open_session
from shards.pack import main as pack_main

FILES = tuple(f"face{number:02d}.png" for number in range(40))


def test_every_subject_sees_every_picture_and_some_twice() -> None:
    session = Session(FILES, seed=3, repeats=0.25)
    order = session.order("ann")
    assert session.num_trials == len(order) == 50 and set(order) == set(range(40))
    assert session.order("ann") == order != session.order("bob") and order != sorted(order)
    twice = [image for image in set(order) if order.count(image) == 2]
    gaps = [len(order) - 1 - order[::-1].index(image) - order.index(image) for image in twice]
    assert len(twice) == 10 and min(gaps) > 10


@pytest.mark.parametrize(("num", "repeats"), [(1, 1.0), (5, 1.0), (12, 0.5), (3, 0.0)])
def test_orders_of_few_pictures(num: int, repeats: float) -> None:
    session = Session(FILES[:num], 0, repeats)
    assert len(session.order("x")) == session.num_trials and set(session.order("x")) == set(range(num))


@pytest.mark.parametrize("name", ["", "a b", "../x", "ä", "x" * 41])
def test_names_that_cannot_be_file_names(name: str) -> None:
    with pytest.raises(UserError, match="cannot name a subject"):
        check_subject(name)


def test_answers_are_appended_undone_and_read_again(tmp_path: Path) -> None:
    log = AnswerLog(tmp_path, "ann")
    answers = [Answer(trial, FILES[trial], trial % 2 == 0, 500.0 + trial) for trial in range(5)]
    assert all(log.add(answer) for answer in answers)
    assert not log.add(answers[3])  # Came twice.
    assert not log.add(Answer(9, "x", True, 1.0))  # From the future.
    assert log.undo() and log.undo()
    changed = Answer(3, FILES[3], True, 700.0)
    assert log.add(changed)
    assert log.answers == [*answers[:3], changed] == read_answers(tmp_path)["ann"]
    path = tmp_path / "answers" / "ann.jsonl"
    assert len(path.read_text().splitlines()) == 8  # The file only grows.
    # Killed while writing a line.
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"trial": 4, "ima')
    assert read_answers(tmp_path)["ann"] == [*answers[:3], changed]
    again = AnswerLog(tmp_path, "ann")
    assert again.add(answers[4]) and path.read_bytes().startswith(whole) and path.read_bytes().count(b"\n") == 9
    assert [answer.trial for answer in again.answers] == [0, 1, 2, 3, 4]
    assert not AnswerLog(tmp_path, "bob").undo()


def test_a_full_disk_stores_no_answer_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = AnswerLog(tmp_path, "ann")
    answers = [Answer(trial, FILES[trial], True, 500.0) for trial in range(3)]
    assert log.add(answers[0])

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        for _ in range(3):  # The page retries.
            with pytest.raises(OSError, match="No space left"):
                log.add(answers[1])
            with pytest.raises(OSError, match="No space left"):
                log.undo()
    assert log.add(answers[1]) and log.add(answers[2])
    assert len((tmp_path / "answers" / "ann.jsonl").read_text().splitlines()) == 3
    assert read_answers(tmp_path)["ann"] == AnswerLog(tmp_path, "ann").answers == answers


DAMAGED_LINES = {
    "cut": b'{"format_version": 1, "tri\n',
    "not UTF-8": b"\xff\xfe\x00\n",
    "a list": b"[1, 2]\n",
    "no version": b'{"format_version": "x", "undo": 0}\n',
    "another object": b'{"format_version": 1, "name": "ann"}\n',
    "text for a number": b'{"trial": "1", "image": "a.png", "smile": true, "rt_ms": 500.0}\n',
    "a time before the picture": b'{"trial": 1, "image": "a.png", "smile": true, "rt_ms": -5.0}\n',
    "infinite time": b'{"trial": 1, "image": "a.png", "smile": true, "rt_ms": 1e999}\n',
    "undo of text": b'{"undo": "0"}\n',
    "deep": b"[" * 100_000 + b"\n",
}


@pytest.mark.parametrize("name", DAMAGED_LINES)
def test_a_damaged_line_is_named_and_the_other_answers_are_kept(name: str, tmp_path: Path) -> None:
    log = AnswerLog(tmp_path, "ann")
    answers = [Answer(trial, FILES[trial], True, 500.0 + trial) for trial in range(4)]
    assert all(map(log.add, answers))
    path = tmp_path / "answers" / "ann.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + DAMAGED_LINES[name] + lines[2] + lines[3])
    told: list[str] = []
    assert read_answers(tmp_path, told.append)["ann"] == [answers[0], *answers[2:]]
    assert len(told) == 1 and f"{path}, line 2 is damaged" in told[0] and len(told[0]) < len(str(path)) + 120
    assert AnswerLog(tmp_path, "ann").next_trial == 4


def test_an_answer_that_was_taken_back_by_a_damaged_line_is_replaced(tmp_path: Path) -> None:
    log = AnswerLog(tmp_path, "ann")
    answers = [Answer(trial, FILES[trial], True, 500.0) for trial in range(3)]
    changed = Answer(1, FILES[1], False, 600.0)
    assert all(map(log.add, answers)) and log.undo() and log.undo() and log.add(changed)
    path = tmp_path / "answers" / "ann.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3]) + b"?\n?\n" + lines[5])
    assert read_answers(tmp_path, lambda sentence: None)["ann"] == [answers[0], changed]


def test_only_plain_files_are_read_as_answers(tmp_path: Path) -> None:
    (tmp_path / "answers").mkdir()
    os.mkfifo(tmp_path / "answers" / "ann.jsonl")
    with pytest.raises(UserError, match="ann.jsonl cannot be read .*not a plain file"):
        read_answers(tmp_path)


def test_the_formula_by_hand() -> None:
    times = np.exp(np.linspace(np.log(400), np.log(1600), 21))
    strengths = strength(times)
    # The 5th and 95th percentiles of 21 evenly spread values are the second and the last but one.
    expected = np.clip(1 - (np.arange(21) - 1) / 18, 0, 1)
    assert strengths == pytest.approx(expected)
    assert strength(np.array([500.0, 500.0])).tolist() == [1, 1] and len(strength(np.array([]))) == 0
    answers = [Answer(i, f"{i}.png", i % 2 == 0, float(t)) for i, t in enumerate(times)]
    degrees = evaluate(answers).degrees
    assert [degrees[f"{i}.png"] for i in range(21)] == pytest.approx(
        [s if i % 2 == 0 else -s for i, s in enumerate(expected)]
    )


def test_hasty_answers_repeats_and_inattentive_subjects() -> None:
    base = [Answer(i, f"{i}.png", i < 10, 500.0 + 20 * i) for i in range(20)]
    attentive = [
        *base,
        Answer(20, "3.png", True, 520.0),
        Answer(21, "15.png", False, 600.0),
        Answer(22, "4.png", True, 90.0),
    ]
    careless = [*base, Answer(20, "3.png", False, 520.0), Answer(21, "15.png", True, 600.0)]
    result = combine({"ann": attentive, "bob": careless, "eve": []}, min_consistency=0.5)
    ann = result.subjects["ann"]
    assert (ann.num_answers, ann.num_too_fast, ann.num_repeated, ann.consistency) == (23, 1, 2, 1.0)
    assert result.left_out == {"bob": "only 0% of 2 repeats answered alike", "eve": "no answers"}
    strengths = strength(np.array([answer.rt_ms for answer in attentive[:-1]]))
    assert result.degrees["3.png"] == pytest.approx((strengths[3] + strengths[20]) / 2)
    assert result.degrees["15.png"] == pytest.approx(-(strengths[15] + strengths[21]) / 2)
    assert math.isnan(result.alpha_degree)
    assert set(combine({"ann": attentive, "bob": careless}).subjects) == {"ann", "bob"}


def test_each_subject_counts_once_and_agreement_is_krippendorffs() -> None:
    rng = np.random.default_rng(0)
    truth = rng.uniform(-1, 1, 60)

    def subject(felt: np.ndarray, pace: float) -> list[Answer]:
        return [Answer(i, f"{i:02d}.png", bool(f > 0), float(pace * np.exp(-abs(f)))) for i, f in enumerate(felt)]

    alike = combine({"ann": subject(truth, 900), "bob": subject(truth + 0.02 * rng.normal(size=60), 2500)})
    assert alike.alpha_degree > 0.95 and alike.alpha_sign > 0.9
    found = np.array([alike.degrees[f"{i:02d}.png"] for i in range(60)])
    assert np.corrcoef(found, truth)[0, 1] > 0.98 and np.abs(found).max() <= 1
    mean = np.mean([list(alike.subjects[name].degrees.values()) for name in ("ann", "bob")], axis=0)
    assert found == pytest.approx(mean)
    strangers = combine({"ann": subject(truth, 900), "bob": subject(rng.uniform(-1, 1, 60), 900)})
    assert abs(strangers.alpha_degree) < 0.3
    same = [Answer(i, f"{i}.png", True, 400.0) for i in range(3)]
    assert combine({"ann": same, "bob": same}).alpha_sign == 1.0


def test_alpha_by_hand() -> None:
    # Two subjects, nominal, in Krippendorff's own way of counting: observed disagreement over the expected one.
    first, second = [1, 1, 0, 0, 1, 0, 1, 1], [1, 0, 0, 0, 1, 1, 1, 1]
    answers = {
        name: [Answer(i, f"{i}.png", bool(v), 400.0) for i, v in enumerate(values)]
        for name, values in (("ann", first), ("bob", second))
    }
    num_smiles, num = sum(first) + sum(second), 16
    observed = 2 / 8
    expected = 2 * num_smiles * (num - num_smiles) / (num * (num - 1))
    assert combine(answers).alpha_sign == pytest.approx(1 - observed / expected)


@pytest.mark.parametrize("seed", range(8))
def test_alpha_is_that_of_the_krippendorff_package(seed: int) -> None:
    rng = np.random.default_rng(seed)
    table = np.where(
        rng.random((2 + seed % 4, 12)) < 0.7, rng.uniform(-1, 1, 12) + rng.normal(size=12) * seed / 4, np.nan
    )
    table[:2, 0] = 0.25, -0.5  # One picture with two answers at least.
    for level, values in (("interval", table), ("nominal", np.sign(table))):
        pictures = np.nonzero(~np.isnan(values).T)[0]
        given = values.T[~np.isnan(values).T]
        points = given[:, None] if level == "interval" else given[:, None] == np.array([-1, 0, 1])
        expected = krippendorff.alpha(reliability_data=values, level_of_measurement=level)
        assert krippendorff_alpha(pictures, points) == pytest.approx(expected, abs=1e-12)


def test_alpha_where_there_is_nothing_to_compare() -> None:
    different = np.array([[0.1], [0.2], [0.3]])
    assert math.isnan(krippendorff_alpha(np.arange(3), different))
    assert math.isnan(krippendorff_alpha(np.zeros(0, int), np.zeros((0, 1))))
    # The third answer has no other to the same picture.
    assert krippendorff_alpha(np.array([0, 0, 1]), np.array([[0.1], [0.1], [0.3]])) == 1.0


def test_the_agreement_of_many_answers_takes_memory_that_is_linear_in_them() -> None:
    rng = np.random.default_rng(0)
    answers = {
        name: [Answer(i, f"{i}.png", bool(rng.random() < 0.5), rng.uniform(300, 900)) for i in range(3000)]
        for name in ("ann", "bob")
    }
    tracemalloc.start()
    alpha = combine(answers).alpha_degree
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert abs(alpha) < 0.1 and peak < 20e6  # A table of all pairs of values takes 288 MB.


def test_resuming_needs_the_same_pictures_and_options(tmp_path: Path) -> None:
    images, out = tmp_path / "images", tmp_path / "out"
    write_images(images, FILES[:5])
    session = open_session(out, images, 0, 0.2)
    assert open_session(out, images, 0, 0.2) == session
    with pytest.raises(UserError, match="was begun with --seed 0 --repeats 0.2"):
        open_session(out, images, 1, 0.2)
    (images / FILES[0]).unlink()
    with pytest.raises(UserError, match="1 pictures of this labeling are missing from .*face00.png"):
        open_session(out, images, 0, 0.2)
    for content, finding in (
        ("{", "is not JSON"),
        ("[" * 100_000, "nests too deeply"),
        ('{"files": "face", "seed": 0, "repeats": 0.2}', "files should be"),
    ):
        (out / "session.json").write_text(content)
        with pytest.raises(UserError, match=f"session.json.*{finding}.*; restore it, or label into another folder"):
            open_session(out, images, 0, 0.2)
    with pytest.raises(UserError, match="no readable pictures"):
        open_session(tmp_path / "new", out, 0, 0.2)
    with pytest.raises(UserError, match="is not a folder"):
        open_session(tmp_path / "new", tmp_path / "nowhere", 0, 0.2)


def test_files_of_an_older_release_are_read_and_newer_ones_refused(tmp_path: Path) -> None:
    images, out = tmp_path / "images", tmp_path / "out"
    write_images(images, FILES[:2])
    session = open_session(out, images, 0, 0.0)
    answers = [Answer(0, FILES[0], True, 500.0), Answer(1, FILES[1], False, 600.0)]
    log = AnswerLog(out, "ann")
    assert all(map(log.add, answers)) and log.undo()

    def rewrite(version: dict[str, int]) -> None:
        for path in (out / "session.json", out / "answers" / "ann.jsonl"):
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            lines = [
                version | {name: value for name, value in line.items() if name != "format_version"} for line in lines
            ]
            path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))

    assert all('"format_version": 1' in path.read_text() for path in (out / "session.json", out / "answers/ann.jsonl"))
    rewrite({})  # As written before there were versions.
    assert open_session(out, images, 0, 0.0) == session
    assert AnswerLog(out, "ann").answers == answers[:1] == read_answers(out)["ann"]
    rewrite({"format_version": 2})
    with pytest.raises(UserError, match="format version 2 of a labeling session.*install a newer facegen"):
        open_session(out, images, 0, 0.0)
    with pytest.raises(UserError, match="format version 2 of a labeling answer.*install a newer facegen"):
        AnswerLog(out, "ann")


def test_export_writes_what_packing_joins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"{20 + n}_{n % 2}_0_20170104{n:09d}.jpg" for n in range(30)]
    write_images(tmp_path / "images", names)
    open_session(tmp_path / "out", tmp_path / "images", 0, 0.0)
    log = AnswerLog(tmp_path / "out", "ann")
    for trial, name in enumerate(names[:25]):
        log.add(Answer(trial, name, trial % 3 == 0, 400.0 + 30 * trial))
    csv, png = tmp_path / "degrees.csv", tmp_path / "histogram.png"
    main(["export", str(tmp_path / "out"), str(csv), "--histogram", str(png)])
    printed = capsys.readouterr().out
    assert "ann" in printed and "25 degrees from -" in printed and "needs two subjects" in printed
    rows = [line.split(",") for line in csv.read_text().splitlines()]
    assert rows[0] == ["stimulus_filename", "avg_encode"] and len(rows) == 26
    degrees = combine(read_answers(tmp_path / "out")).degrees
    assert {name: float(value) for name, value in rows[1:]} == pytest.approx(degrees, abs=1e-6)
    assert Image.open(png).width > 300
    options = ["--degrees", str(csv), "--size", "16", "--workers", "1"]
    pack_main(["utkface", str(tmp_path / "images"), str(tmp_path / "packed"), *options])
    assert "25 images have a degree of smile." in capsys.readouterr().out


def test_pictures_of_one_name_keep_their_folders(tmp_path: Path) -> None:
    write_images(tmp_path / "images", ["a/1.png", "b/1.png", "b/2.png"])
    open_session(tmp_path / "out", tmp_path / "images", 0, 0.0)
    log = AnswerLog(tmp_path / "out", "ann")
    for trial, name in enumerate(["a/1.png", "b/1.png", "b/2.png"]):
        log.add(Answer(trial, name, True, 500.0))
    result = export(ExportConfig(tmp_path / "out", tmp_path / "out.csv"))
    assert [line.split(",")[0] for line in (tmp_path / "out.csv").read_text().splitlines()[1:]] == [
        "a/1.png",
        "b/1.png",
        "2.png",
    ]
    assert "ann gave only 3 answers, too few to tell fast from slow." in report(result)


def test_mistakes_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no labeling; begin one with"):
        main(["export", str(tmp_path), str(tmp_path / "out.csv")])
    write_images(tmp_path / "images", FILES[:2])
    open_session(tmp_path / "out", tmp_path / "images", 0, 0.0)
    with pytest.raises(UserError, match="there are no degrees to export from .*nobody answered yet"):
        main(["export", str(tmp_path / "out"), str(tmp_path / "out.csv")])
    for wrong in (["serve", "x", "y", "--repeats", "2"], ["serve", "x", "y", "--port", "-1"],
                  ["export", "x", "y", "--min_consistency", "7"]):  # fmt: skip
        with pytest.raises(SystemExit) as stop:
            main(wrong)
        assert stop.value.code == 2
