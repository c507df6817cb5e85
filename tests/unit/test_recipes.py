import subprocess
import sys

import pandas as pd
import pytest

from varireal_utils.data.shots import few_shot
from varireal_utils.training import recipes, training_rows


def images(classes=3, per_class=6):
    rows = [
        {
            "image_id": f"{split}-{c}-{i}",
            "path": f"data/{split}-{c}-{i}.png",
            "label": c,
            "class_name": f"class {c}",
            "split": split,
        }
        for split in ("train", "val", "test")
        for c in range(classes)
        for i in range(per_class)
    ]
    return pd.DataFrame(rows)


def edits(frame, attributes=("background", "color", "texture"), ks=2):
    rows = []
    for attribute in attributes:
        for arm in recipes.ARMS:
            for r in frame[frame["split"] == "train"].itertuples():
                for k in range(ks):
                    rows.append(
                        {
                            "edit_id": f"{r.image_id}-{k}",
                            "image_id": r.image_id,
                            "path": f"edits/{attribute}/{arm}/{r.image_id}-{k}.png",
                            "label": r.label,
                            "class_name": r.class_name,
                            "phrase": "p",
                            "attribute": attribute,
                            "feasibility": arm,
                            "accepted": True,
                        }
                    )
    return pd.DataFrame(rows)


def slots(rows):
    return list(rows[["image_id", "attribute", "k"]].itertuples(index=False, name=None))


@pytest.mark.parametrize(
    "text",
    [
        "zero_shot",
        "real",
        "edit(background,feasible)",
        "real+edit(all,infeasible)",
        "mix(color,0.5)",
        "real+mix(texture,0.25)",
        "datadream(cls)",
        "real+datadream(dset)",
        "generated(untuned)",
        "real@4",
        "edit(color,feasible)@2",
        "real+mix(all,0.5)@16",
        "edit(color,familiar)",
        "real+edit(background,unfamiliar)@4",
        "edit(texture,familiar,half=2)",
        "real+perfect(color,familiar,half=1)",
        "perfect(all,infeasible)",
        "real+matched(color,infeasible)",
        "unmatched(color,familiar)",
        "nearest(color,infeasible)",
        "real+wide(texture,infeasible)",
    ],
)
def test_names_are_read_and_written(text):
    recipe = recipes.parse(text)
    assert str(recipe) == text and recipes.parse(str(recipe)) == recipe
    assert recipes.parse(text.replace(",", " , ")) == recipe


def test_arms_and_fractions():
    assert recipes.parse("edit(color,feasible)").fraction == 0
    assert recipes.parse("edit(color,infeasible)").fraction == 1
    assert recipes.parse("mix(color,.50)") == recipes.parse("mix(color, 0.5)")
    assert recipes.parse("mix(color,0.5)").arm == "mixed"
    assert recipes.parse("real").arm is None
    for value in ("familiar", "unfamiliar"):
        one = recipes.parse(f"perfect(color,{value})")
        assert (one.arm, one.fraction, one.maker, one.half) == (value, 0, "perfect", None)
    assert recipes.parse("edit(color,familiar,half=2)").half == 2


def test_what_a_study_must_make_for_its_recipes():
    names = [
        "zero_shot",
        "real@4",
        "real+edit(color,feasible)",
        "mix( all , 0.5)",
        "generated(untuned)",
        "real+datadream(dset)",
        "datadream(dset)",
    ]
    assert recipes.edited(names) == ["all", "color"]
    assert recipes.generators(names) == ["dset", "untuned"]


def test_recipes_are_read_without_torch():
    code = "import sys, varireal_utils.workflow.study; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("fake", "not known"),
        ("edit(colour,feasible)", "attribute is 'colour'"),
        ("edit(color,maybe)", "feasibility is 'maybe'"),
        ("mix(color,1.5)", "from 0 to 1"),
        ("mix(color,half)", "from 0 to 1"),
        ("edit(color)", "number of arguments"),
        ("edit(color,familiar,half=1,half=2)", "number of arguments"),
        ("edit(color,familiar,half=3)", "half is 'half=3'"),
        ("edit(color,infeasible,half=1)", "half= is of feasible or familiar"),
        ("matched(color,familiar,half=1)", "half= is of feasible or familiar"),
        ("nearest(color,familiar)", "nearest takes one attribute's infeasible values"),
        ("wide(all,infeasible)", "wide takes one attribute's infeasible values"),
        ("wide(color,infeasible,half=1)", "half= is of feasible or familiar"),
        ("perfect(color,maybe)", "feasibility is 'maybe'"),
        ("datadream(both)", "variant"),
        ("edit(color,feasible)x", "not known"),
        ("", "not known"),
        ("real@0", "after @ are '0'"),
        ("real@", "after @ are ''"),
        ("real@2@3", "after @"),
        ("zero_shot@4", "zero_shot takes no @"),
        ("datadream(cls)@4", "datadream.shots"),
    ],
)
def test_wrong_names_are_errors_that_say_why(text, says):
    with pytest.raises(ValueError, match=says):
        recipes.parse(text)


def test_what_each_recipe_holds():
    frame = images()
    every = edits(frame)
    build = lambda r: training_rows.training_set(r, frame, every, seed=1)  # noqa: E731
    assert build("zero_shot").empty
    real = build("real")
    assert len(real) == 18 and real["is_real"].all()
    assert set(real["image_id"]) == set(frame.loc[frame["split"] == "train", "image_id"])
    only = build("edit(color,infeasible)")
    assert len(only) == 36 and not only["is_real"].any()
    assert set(only["attribute"]) == {"color"} and set(only["feasibility"]) == {"infeasible"}
    both = build("real+edit(color,infeasible)")
    assert len(both) == 54 and both["is_real"].sum() == 18
    assert both["is_real"].dtype == bool and both["label"].dtype.kind == "i"
    assert list(both.columns) == training_rows.COLUMNS


def test_arms_are_paired_row_by_row_whatever_the_order_of_the_edits():
    frame = images()
    every = edits(frame)
    shuffled = every.assign(k=[0, 1] * (len(every) // 2)).sample(frac=1, random_state=3)
    names = ("edit(texture,feasible)", "edit(texture,infeasible)", "mix(texture,0.5)")
    sets = [training_rows.training_set(n, frame, every, 1) for n in names]
    assert slots(sets[0]) == slots(sets[1]) == slots(sets[2])
    again = training_rows.training_set(names[2], frame, shuffled, 1)
    assert list(again["path"]) == list(sets[2]["path"])


def test_mix_has_the_asked_share_in_each_class_and_is_nested():
    frame = images()
    every = edits(frame)
    mixed = {
        f: training_rows.training_set(f"mix(color,{f})", frame, every, 1) for f in (0, 0.25, 0.5, 1)
    }
    bad = {
        f: {s for s, a in zip(slots(m), m["feasibility"], strict=True) if a == "infeasible"}
        for f, m in mixed.items()
    }
    assert [len(bad[f]) for f in (0, 0.25, 0.5, 1)] == [0, 9, 18, 36]
    assert bad[0.25] < bad[0.5] < bad[1]
    half = mixed[0.5]
    assert (half[half["feasibility"] == "infeasible"].groupby("label").size() == 6).all()
    other = training_rows.training_set("mix(color,0.5)", frame, every, 2)
    assert list(other["feasibility"]) != list(half["feasibility"])


def test_fewer_photographs_are_the_first_of_one_list_in_every_arm():
    frame = images()
    every = edits(frame)
    build = lambda r, seed=1: training_rows.training_set(r, frame, every, seed)  # noqa: E731
    few = build("real@2")
    assert (few.groupby("label").size() == 2).all() and len(few) == 6
    assert set(few["image_id"]) == set(few_shot(frame, 2, 1)["image_id"])
    assert set(few["image_id"]) < set(build("real@3")["image_id"])
    assert set(few["image_id"]) != set(build("real@2", 2)["image_id"])
    arms_ = [build(f"edit(color,{arm})@2") for arm in recipes.ARMS]
    assert slots(arms_[0]) == slots(arms_[1]) and len(arms_[0]) == 12
    assert set(arms_[0]["image_id"]) == set(few["image_id"])
    assert len(build("real+edit(all,feasible)@2")) == 6 + 12
    whole = build("real")
    assert build("real@6").equals(whole) and build("real@99").equals(whole)
    leak = every.assign(image_id=every["image_id"].str.replace("train", "test"))
    with pytest.raises(ValueError, match="outside the train split"):
        training_rows.training_set("edit(color,feasible)@2", frame, leak, 1)


def test_all_takes_one_attribute_for_each_photograph_and_k():
    frame = images()
    every = edits(frame)
    a, b = (training_rows.training_set(f"edit(all,{arm})", frame, every, 1) for arm in recipes.ARMS)
    assert len(a) == 36 and slots(a) == slots(b)
    assert not a.duplicated(["image_id", "k"]).any()
    assert set(a["attribute"]) == {"background", "color", "texture"}


def test_rejected_edits():
    frame = images()
    every = edits(frame)
    hit = (every["attribute"] == "color") & (every["feasibility"] == "feasible")
    every.loc[every[hit].index[:3], "accepted"] = False  # three slots, feasible arm only

    def n(recipe, accepted):
        rows = training_rows.training_set(recipe, frame, every, 1, accepted)
        return len(rows), rows.attrs["dropped"]

    assert n("edit(color,feasible)", "paired") == n("edit(color,infeasible)", "paired") == (33, 3)
    assert n("mix(color,0.5)", "paired") == (33, 3)
    assert n("edit(color,feasible)", "accepted") == (33, 3)
    assert n("edit(color,infeasible)", "accepted") == (36, 0)
    assert n("edit(color,feasible)", "all") == (36, 0)
    every["accepted"] = False
    with pytest.raises(ValueError, match="leaves no image"):
        training_rows.training_set("edit(color,feasible)", frame, every, 1)


def test_errors_name_what_is_missing():
    frame = images()
    every = edits(frame)
    half = every[every["feasibility"] == "feasible"]
    with pytest.raises(ValueError, match="infeasible edits of 'color'.*04_edit"):
        training_rows.training_set("edit(color,feasible)", frame, half, 1)
    assert len(training_rows.training_set("edit(color,feasible)", frame, half, 1, "accepted")) == 36
    with pytest.raises(ValueError, match="04_edit"):
        training_rows.training_set("edit(color,feasible)", frame, None, 1)
    with pytest.raises(ValueError, match="05_datadream with variant=cls"):
        training_rows.training_set("datadream(cls)", frame, every, 1)
    leak = every.assign(image_id=every["image_id"].str.replace("train", "test"))
    with pytest.raises(ValueError, match="leak"):
        training_rows.training_set("edit(color,feasible)", frame, leak, 1)
    twice = {"a": every.assign(k=0)}
    with pytest.raises(ValueError, match="Two edits"):
        training_rows.training_set("edit(color,feasible)", frame, twice, 1)


def test_generated_images_take_their_place():
    frame = images()
    train = frame[frame["split"] == "train"].drop_duplicates("class_name")
    samples = pd.concat(
        [
            train.assign(
                image_id=train["class_name"] + f"-{v}",
                path=train["class_name"] + f"-{v}.png",
                variant=v,
                k=0,
                prompt="a photo",
            )
            for v in ("cls", "dset")
        ]
    )[["image_id", "path", "label", "class_name", "variant", "k", "prompt"]]
    alone = training_rows.training_set("datadream(cls)", frame, None, 1, samples=samples)
    assert list(alone["path"]) == [f"{c}-cls.png" for c in train["class_name"]]
    assert not alone["is_real"].any() and set(alone["feasibility"]) == {"datadream"}
    both = training_rows.training_set("real+datadream(dset)", frame, None, 1, samples=samples)
    real = training_rows.training_set("real", frame, None, 1)
    assert len(both) == len(real) + len(train) and both["is_real"].sum() == len(real)
    with pytest.raises(ValueError, match="other classes"):
        training_rows.training_set(
            "datadream(cls)", frame, None, 1, samples=samples.assign(label=samples["label"] + 1)
        )
