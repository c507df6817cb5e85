"""A study of replicates: its jobs, keys, values and rows. Seed 991 is no study's."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from microworld.feasibility import ATTRIBUTES, INFEASIBLE, split
from tests.conftest import ROOT
from varireal_utils.analysis import load
from varireal_utils.analysis.stage import ClaimsStage
from varireal_utils.core import arms
from varireal_utils.core.config import ParameterError, load_config, written
from varireal_utils.data import registry
from varireal_utils.data.sets import world
from varireal_utils.editing import pipeline, roles
from varireal_utils.editing.slices import EditStage
from varireal_utils.editing.sources import Source, editable_mask
from varireal_utils.prompts import phrase_bank
from varireal_utils.training import training_rows
from varireal_utils.training.slices import ClassifyStage
from varireal_utils.workflow import completeness, graph, invocation, stages

BASE = 991
RECIPES = [
    "zero_shot",
    "real",
    "edit(color,familiar)",
    "edit(color,infeasible)",
    "edit(color,familiar,half=2)",
    "perfect(color,unfamiliar)",
    "mix(color,0.5)",
    "matched(color,familiar)",
    "datadream(dset)",
]
PARAMS = {
    "include": str(ROOT / "tests" / "tiny.yaml"),
    "study": "drawn",
    "seed": BASE,
    "replicates": 3,
    "prompts": "params/prompts/world.yaml",
    "attributes": ["color"],
    "edit": {"distances": True},
    "classify": {"job": "dataset", "seeds": [0, 1], "recipes": RECIPES},
}


def _file(folder: Path, **changed) -> str:
    path = folder / "drawn.yaml"
    path.write_text(yaml.safe_dump(PARAMS | {"runs_dir": str(folder / "runs")} | changed))
    return str(path)


@pytest.fixture(autouse=True)
def _root(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_each_replicate_has_its_own_jobs_and_the_study_its_claims(tmp_path):
    config = load_config(_file(tmp_path))
    jobs = stages.jobs(config)
    names = [job.name for job in jobs]
    assert len(set(names)) == len(names)
    of_one = [n.removeprefix("replicates/01/") for n in names if n.startswith("replicates/01/")]
    assert of_one == [
        "data/micro_pets",
        "attributes/micro_pets",
        "guidance/micro_pets",
        "edits/micro_pets/color/familiar",
        "edits/micro_pets/color/infeasible",
        "edits/micro_pets/color/placebo",
        "edits/micro_pets/color/unfamiliar-perfect",
        "datadream/micro_pets/dset",
        "classify/micro_pets",
    ]
    assert len(names) == 3 * len(of_one) + 2 and names[-2:] == ["results", "figures"]
    claims = next(job for job in jobs if job.stage.name == "07_claims")
    above = {up.name for up in claims.upstream()}
    assert {f"replicates/{r:02d}/classify/micro_pets" for r in range(3)} <= above
    for job in jobs:  # a replicate never waits for another one
        if job.name.startswith("replicates/02/"):
            assert {up.name.split("/")[1] for up in job.upstream()} <= {"02"}
            assert '"replicate": 2' in job.command("drawn.yaml", {}, "notebooks")


def test_the_graph_names_every_record_below_the_study(tmp_path):
    found = graph.Graph({"params": _file(tmp_path)})
    root = (tmp_path / "runs" / "drawn").as_posix()
    records = found.records()
    assert f"{root}/replicates/02/classify/micro_pets/run.json" in records
    assert f"{root}/results/run.json" in records
    inputs = found.inputs("replicates/02/edits/micro_pets/color/placebo")
    assert f"{root}/replicates/02/data/micro_pets/run.json" in inputs


def test_a_replicate_draws_everything_anew_and_more_replicates_change_none(tmp_path):
    file = _file(tmp_path)

    def slices(**more):
        config = load_config(file, more)
        return {
            (job.stage.name, job.what): job.settings()
            for job in stages.jobs(config)
            if not job.stage.whole
        }

    one, two = slices(replicate=1), slices(replicate=2)
    for (name, what), settings in one.items():
        other = two[name, what.replace("replicate 1", "replicate 2")]
        assert (settings != other) == (name != "03_guidance"), name
        if name not in ("01_data", "03_guidance"):
            assert settings.seed != other.seed
    assert one == slices(replicate=1, replicates=9)
    own = load_config(file, {"replicate": 1})
    starts = ClassifyStage.of(own, dataset="micro_pets").start
    assert (
        starts(0)
        != starts(1)
        != ClassifyStage.of(load_config(file, {"replicate": 2}), dataset="micro_pets").start(1)
    )
    plain = load_config("tests/tiny.yaml")
    assert ClassifyStage.of(plain, dataset="micro_pets").start(1) == 1
    assert plain.draw_seed == plain.seed and plain.draws() == [plain]


def test_wrong_replicates_are_refused_by_name(tmp_path):
    with pytest.raises(ParameterError, match=r"replicate: got 3, wanted a number below replicates"):
        load_config(_file(tmp_path), {"replicate": 3})
    with pytest.raises(ParameterError, match="seed: got -1, wanted 0 or more"):
        load_config(_file(tmp_path, seed=-1))
    mixed = PARAMS["classify"] | {"recipes": ["edit(color,familiar)", "edit(color,feasible)"]}
    with pytest.raises(ParameterError, match="not both"):
        stages.jobs(load_config(_file(tmp_path, classify=mixed)))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({}, ""),
        ({"replicates": 0}, "three values need source: world and replicates"),
        ({"edit": {"distances": False}}, r"needs edit\.distances: true"),
        ({"claims": {"only": ["Z9"]}}, "claims.only: 'Z9' is no claim of claims.yaml"),
        (
            {"classify": PARAMS["classify"] | {"recipes": ["real", "edit(color,feasible)"]}},
            "ask for feasible values, which micro_pets has not got",
        ),
    ],
)
def test_a_study_whose_arms_nothing_makes_is_refused_before_it_starts(tmp_path, changed, words):
    config = load_config(_file(tmp_path, **changed))
    if not words:
        return completeness.complete(config)
    with pytest.raises(ParameterError, match=words):
        completeness.complete(config)


def test_photographs_of_a_real_data_set_stay_unless_resample_asks():
    plain = registry.parse("mine", {"source": "imagefolder", "root": "x", "train_per_class": 4})
    assert plain.of_replicate(BASE, 1) == plain and plain.values() == {}
    asked = registry.parse("mine", {"source": "imagefolder", "root": "x", "resample": True})
    first, second = (asked.of_replicate(BASE, r).taken_by for r in (1, 2))
    assert first != second and asked.taken_by is None


def _bank(replicate: int, family: str = "pets") -> phrase_bank.Bank:
    spec = registry.parse(
        f"micro_{family}",
        {
            "source": "world",
            "family": family,
            **dict.fromkeys(("train_per_class", "val_per_class", "test_per_class"), 2),
        },
    )
    file = "params/prompts/world.yaml"
    bank = phrase_bank.load_bank(file, f"micro_{family}", ["akora"], family)
    phrase_bank.check_bank(bank)
    return phrase_bank.by_value(bank, spec.of_replicate(BASE, replicate).values())


@pytest.mark.parametrize("family", ["cars", "aircraft", "pets"])
def test_each_arm_asks_for_the_values_of_its_replicate(family):
    for replicate in range(3):
        bank = _bank(replicate, family)
        for attribute in ATTRIBUTES:
            wanted = split(family, attribute, BASE, replicate)
            for arm, phrases in phrase_bank.lists(bank, attribute, "akora").items():
                found = [world.value_of(attribute, phrase) for phrase in phrases]
                every = INFEASIBLE[family][attribute]
                assert tuple(found) == (every if arm == arms.WIDE else getattr(wanted, arm))


def test_a_photograph_takes_the_same_rank_in_every_arm_and_never_its_own_value():
    bank = _bank(0)
    lists = phrase_bank.lists(bank, "color", "akora")
    for own in lists["familiar"] + lists["placebo"]:
        rank = next(ranks.index(own) for ranks in lists.values() if own in ranks)
        for arm in lists.keys() - {arms.WIDE}:
            drawn = phrase_bank.draw(bank, "color", arm, "akora", "p1", 1, 5, own)
            assert drawn == [lists[arm][1 - rank]] != [own]
    assert phrase_bank.draw(bank, "color", arms.WIDE, "akora", "p1", 1, 5) == lists[arms.WIDE]
    short = {"color": {"familiar": ["gold"]}}
    with pytest.raises(phrase_bank.PhraseError, match="no phrase names 'gold'"):
        phrase_bank.by_value(bank, short)


def test_the_wide_arm_has_a_bank_of_its_own():
    """Its verifier chooses among all infeasible phrases; that of another arm sees no new one."""
    bank = _bank(0)
    plain, wide = (phrase_bank.of_arm(bank, arm) for arm in ("familiar", arms.WIDE))
    assert arms.WIDE not in phrase_bank.lists(plain, "color", "akora")
    options = phrase_bank.alternatives(wide, "color", "akora")
    assert set(phrase_bank.lists(bank, "color", "akora")[arms.WIDE]) < set(options)
    assert len(set(options)) == len(options) == 6 + len(INFEASIBLE["pets"]["color"])
    assert phrase_bank.alternatives(plain, "color", "akora") == (
        phrase_bank.alternatives(bank, "color", "akora")
    )


def test_arms_have_sides_values_and_neighbours():
    assert arms.side("wide-perfect") == "infeasible"
    assert arms.beside("wide-perfect") == ("wide-perfect",)
    assert [arms.side(a) for a in ("placebo", "unfamiliar-perfect", "infeasible-perfect")] == [
        "feasible",
        "feasible",
        "infeasible",
    ]
    assert arms.beside("feasible") == ("feasible", "infeasible")
    assert "familiar-perfect" in arms.beside("infeasible-perfect")
    with pytest.raises(ValueError, match="wanted one of"):
        arms.value("impossible")


def test_perfect_edits_take_one_attempt_the_same_noise_and_no_editing_model(tmp_path):
    config = load_config(_file(tmp_path), {"replicate": 1})
    perfect = EditStage.of(config, attribute="color", feasibility="unfamiliar-perfect")
    plain = EditStage.of(config, attribute="color", feasibility="familiar")
    assert perfect.edit.editor == "world" and perfect.edit.max_attempts == 1
    assert perfect.models.inpaint is None and plain.models.inpaint is not None
    spec = registry.of_study(config, "micro_pets")
    drawings = list(world.draw(spec.model_copy(update={"val_per_class": 0, "test_per_class": 0})))
    images = pd.DataFrame(
        [
            {"image_id": d.image_id, "label": d.label, "class_name": d.class_name, **d.extra}
            for d in drawings
        ]
    )
    rows = pipeline.plan(images, _bank(1), perfect)
    other = pipeline.plan(images, _bank(1), plain)
    assert rows["seed"].tolist() == other["seed"].tolist()
    masks = [(d.masks["mask_path"], d.masks["paint_mask_path"]) for d in drawings]
    sources = [
        Source(d.pixels, mask, editable_mask("color", mask, paint), mask)
        for d, (mask, paint) in zip(drawings, masks)
    ]
    pipes = roles.load(perfect, torch.device("cpu"), torch.float32)
    made = pipeline.edit_batch(pipes, sources, rows.to_dict("records"), {}, _bank(1), perfect, 0)
    for drawing, source, picture, row in zip(drawings, sources, made, rows.itertuples()):
        changed = (picture != drawing.pixels).any(2)
        assert changed[source.editable > 0].mean() > 0.5
        assert not changed[source.editable == 0].any()
        assert json.loads(row.facts)["scene_seed"] == drawing.extra["scene_seed"]
    with pytest.raises(ValueError, match="this data set has no"):
        pipeline.plan(images.drop(columns="scene_seed"), _bank(1), perfect)


def _edits(names: tuple[str, ...], photographs: int = 8) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Photographs of two classes, and one edit of each in each arm, with distances."""
    images = pd.DataFrame(
        {
            "image_id": [f"p{i}" for i in range(photographs)],
            "path": [f"p{i}.png" for i in range(photographs)],
            "label": [i % 2 for i in range(photographs)],
            "class_name": ["ab"[i % 2] for i in range(photographs)],
            "split": "train",
        }
    )
    rows = [
        {
            "image_id": image.image_id,
            "label": image.label,
            "class_name": image.class_name,
            "attribute": "color",
            "feasibility": arm,
            "k": 0,
            "phrase": arm,
            "path": f"{image.image_id}-{arm}.png",
            "accepted": True,
            "distance": 0.1 * (image.Index + 1) * (arm == "infeasible"),
        }
        for arm in names
        for image in images.itertuples()
    ]
    return images, pd.DataFrame(rows)


def _every_value(photographs: int = 8) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Photographs, a familiar edit of each and three infeasible ones, as perfect edits."""
    images, familiar = _edits(("familiar-perfect",), photographs)
    rng = np.random.default_rng(0)
    wide = pd.concat(
        familiar.assign(
            feasibility="wide-perfect",
            k=k,
            path=[f"{i}-wide-{k}.png" for i in familiar["image_id"]],
        )
        for k in (0, 1, 2)
    )
    both = pd.concat([wide, familiar], ignore_index=True)
    return images, both.assign(distance=rng.random(len(both)))


@pytest.mark.parametrize("real", ["", "real+"])
def test_one_infeasible_edit_of_each_slot_is_as_far_as_the_familiar_one(real):
    images, edits = _every_value()
    distance = edits.set_index("path")["distance"]
    found = {
        maker: training_rows.training_set(f"{real}{maker}(color,infeasible)", images, edits, 3)
        for maker in ("nearest", "wide")
    }
    gaps = {}
    for maker, rows in found.items():
        own = rows[~rows["is_real"]]
        assert own["image_id"].tolist() == images["image_id"].tolist()  # equal n, labels, sources
        assert set(own["feasibility"]) == {"wide-perfect"} and len(rows) == 8 * (1 + bool(real))
        to = [distance[f"{i}-familiar-perfect.png"] for i in own["image_id"]]
        gaps[maker] = np.abs(distance[own["path"]].to_numpy() - to)
        assert rows.attrs["gap"] == pytest.approx(gaps[maker].mean())
        assert rows.attrs["gap_of_all"] > found["nearest"].attrs["gap"]
    for image, gap in zip(images["image_id"], gaps["nearest"], strict=True):
        all_of = [
            abs(distance[f"{image}-wide-{k}.png"] - distance[f"{image}-familiar-perfect.png"])
            for k in (0, 1, 2)
        ]
        assert gap == min(all_of)
    shuffled = edits.sample(frac=1, random_state=1)
    again = training_rows.training_set(f"{real}wide(color,infeasible)", images, shuffled, 3)
    assert again["path"].tolist() == found["wide"]["path"].tolist()
    other = training_rows.training_set(f"{real}wide(color,infeasible)", images, edits, 4)
    assert other["path"].tolist() != found["wide"]["path"].tolist()
    assert len(set(found["wide"].loc[~found["wide"]["is_real"], "k"])) > 1


def test_one_of_each_says_what_it_lacks():
    images, edits = _every_value()
    recipe = "nearest(color,infeasible)"
    with pytest.raises(ValueError, match="set edit.distances to true"):
        training_rows.training_set(recipe, images, edits.drop(columns="distance"), 3)
    with pytest.raises(ValueError, match="familiar-perfect and wide-perfect edits of 'color'"):
        training_rows.training_set(recipe, images, edits[edits["k"] > 0], 3)
    rejected = edits.assign(accepted=edits["k"] < 2)
    rows = training_rows.training_set(recipe, images, rejected, 3)
    assert set(rows["k"]) <= {0, 1}
    without = edits[(edits["feasibility"] == "wide-perfect") | (edits["image_id"] != "p0")]
    assert len(training_rows.training_set(recipe, images, without, 3)) == 7


ALL = ("familiar", "unfamiliar", "infeasible", "placebo", "familiar-perfect", "infeasible-perfect")


@pytest.mark.parametrize("keep", ["all", "paired"])
@pytest.mark.parametrize(
    ("recipe", "arm"),
    [
        ("edit(color,familiar)", "familiar"),
        ("edit(color,familiar,half=1)", "familiar"),
        ("edit(color,familiar,half=2)", "placebo"),
        ("edit(color,unfamiliar)", "unfamiliar"),
        ("edit(color,infeasible)", "infeasible"),
        ("perfect(color,familiar)", "familiar-perfect"),
        ("perfect(color,infeasible)", "infeasible-perfect"),
    ],
)
def test_a_recipe_trains_on_its_arm_alone(recipe, arm, keep):
    images, edits = _edits(ALL)
    rows = training_rows.training_set(recipe, images, edits, 3, keep)
    assert set(rows["feasibility"]) == {arm} and len(rows) == 8
    assert rows["image_id"].tolist() == images["image_id"].tolist()
    both = training_rows.training_set(f"real+{recipe}", images, edits, 3, keep)
    assert both["feasibility"].value_counts().to_dict() == {"real": 8, arm: 8}


def test_mixed_slots_are_familiar_or_infeasible_where_there_are_three_values():
    images, edits = _edits(ALL)
    rows = training_rows.training_set("mix(color,0.5)", images, edits, 3, "all")
    assert rows["feasibility"].value_counts().to_dict() == {"familiar": 4, "infeasible": 4}
    with pytest.raises(ValueError, match="unfamiliar edits"):
        images, edits = _edits(("familiar", "infeasible"))
        training_rows.training_set("edit(color,unfamiliar)", images, edits, 3, "all")


def test_matched_slots_have_the_smallest_gap_of_their_class_and_unmatched_as_many():
    images, edits = _edits(ALL, photographs=16)
    matched = {
        v: training_rows.training_set(f"matched(color,{v})", images, edits, 3, "all")
        for v in ("familiar", "infeasible")
    }
    assert set(matched["familiar"]["image_id"]) == {f"p{i}" for i in range(6)}
    assert matched["familiar"]["image_id"].tolist() == matched["infeasible"]["image_id"].tolist()
    assert set(matched["infeasible"]["feasibility"]) == {"infeasible"}
    assert matched["familiar"].attrs["gap"] == pytest.approx(0.35)
    assert matched["familiar"].attrs["gap_of_all"] == pytest.approx(0.85)
    assert matched["familiar"].attrs["distance"] == pytest.approx(0.175)  # of both arms' edits
    free = training_rows.training_set("unmatched(color,familiar)", images, edits, 3, "all")
    other = training_rows.training_set("unmatched(color,infeasible)", images, edits, 3, "all")
    assert free["image_id"].tolist() == other["image_id"].tolist()
    assert free["label"].value_counts().to_dict() == {0: 3, 1: 3}
    shuffled = edits.sample(frac=1, random_state=np.random.default_rng(1).integers(99))
    again = training_rows.training_set("matched(color,familiar)", images, shuffled, 3, "all")
    assert again["image_id"].tolist() == matched["familiar"]["image_id"].tolist()
    with pytest.raises(ValueError, match=r"edit\.distances"):
        training_rows.training_set(
            "matched(color,familiar)", images, edits.drop(columns="distance"), 3, "all"
        )


def test_reserved_indices_are_drawn_by_the_registered_study_alone():
    """Indices 0..63 of the registered seed are never rendered before its run."""
    seed = yaml.safe_load((ROOT / "params" / "registered.yaml").read_text())["seed"]
    others = [p for p in (ROOT / "params").glob("*.yaml") if p.name != "registered.yaml"]
    for path in (*others, *(ROOT / "tests").rglob("*.yaml")):
        settings = yaml.safe_load(path.read_text())
        if isinstance(settings, dict) and settings.get("replicates"):
            assert settings["seed"] != seed, path
    assert seed != BASE


def test_claims_read_the_trainings_of_the_replicates_that_were_asked_for(tmp_path):
    config = load_config(_file(tmp_path, replicates=2))
    asked = ClaimsStage.of(config)
    for replicate in range(3):  # the last one is left from a larger study
        out = config.whole.replicate(replicate).classify("micro_pets", "real", 0)
        out.mkdir(parents=True)
        (out / "metrics.json").write_text("{}")
    found = load.metrics_files(config.paths, asked)
    assert [p.parts[-6] for p in found] == ["00", "01"]
    again = ClaimsStage.of_parameters(written(config), config.paths.root.as_posix())
    assert again.places(config.paths) == asked.places(config.paths)
    plain = ClaimsStage.of(load_config("tests/tiny.yaml"))
    assert plain.places(config.paths) == [config.paths]


def test_a_job_of_a_running_study_keeps_its_replicate(tmp_path):
    config = load_config(_file(tmp_path))
    frozen = invocation.freeze(config, tmp_path / "frozen.json")
    job = next(j for j in stages.jobs(config) if j.name == "replicates/02/data/micro_pets")
    words = shlex.split(job.command("drawn.yaml", {}, "notebooks", str(frozen)))
    settings = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
    found = invocation.prepare("01_data", "drawn.yaml", settings, frozen=frozen)
    assert found.config.replicate == 2
    assert found.executed.parent == job.config.paths.notebooks
    assert found.arguments["dataset"] == "micro_pets"
