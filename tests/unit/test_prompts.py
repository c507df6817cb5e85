"""Phrase banks: data that is checked before anybody draws from it."""

import copy

import pytest
import yaml

from microworld import captions, feasibility, render
from varireal_utils.prompts import phrase_bank
from varireal_utils.prompts.phrase_bank import PhraseError

FILE = "params/prompts/micro.yaml"


@pytest.fixture(params=feasibility.FAMILIES)
def bank(request, monkeypatch, pytestconfig):
    monkeypatch.chdir(pytestconfig.rootpath)
    family = request.param
    return phrase_bank.load_bank(
        FILE, f"micro_{family}", list(render.class_names(family)), family
    ) | {"family": family}


def test_the_bank_of_the_world_says_what_its_law_says(bank):
    rows = phrase_bank.check_bank(bank)
    assert {(r["attribute"], r["arm"]): r["phrases"] for r in rows} == {
        (a, arm): n
        for a, n in (("background", 6), ("color", 5), ("texture", 4))
        for arm in phrase_bank.ARMS
    }
    for arm, table in (("feasible", feasibility.FEASIBLE), ("infeasible", feasibility.INFEASIBLE)):
        for attribute, names in table[bank["family"]].items():
            said = [captions.PLACES[n] if attribute == "background" else n for n in names]
            assert sorted(phrase_bank.lists(bank, attribute, "any")[arm]) == sorted(said)
    for name, value in feasibility.COLORS.items():
        assert phrase_bank.rgb(bank, name) == value


def test_every_prompt_is_of_words_that_the_text_encoder_knows(bank):
    words = set(captions.vocabulary())
    for attribute in bank["phrases"]:
        for phrase in phrase_bank.alternatives(bank, attribute, "any"):
            for name in render.class_names(bank["family"]):
                said = phrase_bank.edit_prompt(bank, attribute, phrase, name)
                said += " " + phrase_bank.verify_prompt(bank, attribute, phrase, name)
                if attribute != "color":
                    said += " " + phrase_bank.prior_prompt(bank, attribute, phrase)
                assert set(said.split()) <= words, said


def test_draws_are_paired_without_repetition_and_deterministic(bank):
    lists = phrase_bank.lists(bank, "background", "any")
    firsts = set()
    for i in range(60):
        arms = [
            phrase_bank.draw(bank, "background", arm, "any", f"img{i}", 4, 7)
            for arm in phrase_bank.ARMS
        ]
        ranks = [
            [lists[arm].index(p) for p in drawn]
            for arm, drawn in zip(phrase_bank.ARMS, arms, strict=True)
        ]
        assert ranks[0] == ranks[1] and len(set(ranks[0])) == 4
        assert arms[0] == phrase_bank.draw(bank, "background", "feasible", "any", f"img{i}", 4, 7)
        assert arms[0][:2] == phrase_bank.draw(
            bank, "background", "feasible", "any", f"img{i}", 2, 7
        )
        firsts.add(ranks[0][0])
    assert firsts == set(range(6))


def test_the_photographs_own_phrase_is_left_out_of_both_arms(bank):
    lists = phrase_bank.lists(bank, "color", "any")
    own = phrase_bank.own_phrase(bank, "color", "any", lists["feasible"][2])
    assert (
        own == lists["feasible"][2] and phrase_bank.own_phrase(bank, "color", "any", None) is None
    )
    for arm in phrase_bank.ARMS:
        drawn = phrase_bank.draw(bank, "color", arm, "any", "x", 4, 7, own)
        assert lists[arm][2] not in drawn and len(set(drawn)) == 4
    with pytest.raises(PhraseError, match="5 different phrases .* there are 4"):
        phrase_bank.draw(bank, "color", "feasible", "any", "x", 5, 7, own)


def test_scenes_are_recognised_by_their_name(bank):
    for name in feasibility.FEASIBLE[bank["family"]]["background"]:
        assert phrase_bank.own_phrase(bank, "background", "any", name) == captions.PLACES[name]


@pytest.mark.parametrize(
    "change, words",
    [
        (
            lambda b: b["phrases"]["color"]["*"]["feasible"].append("pink"),
            r"in both arms: \['pink'\]",
        ),
        (lambda b: b["phrases"]["color"]["*"]["feasible"].append("Red"), r"repeated: \['red'\]"),
        (lambda b: b["phrases"]["texture"]["*"]["feasible"].pop(), "3 feasible but 4 infeasible"),
        (
            lambda b: b["phrases"]["color"]["*"]["feasible"].__setitem__(0, "mauve"),
            r"colors\.mauve",
        ),
        (
            lambda b: b["phrases"]["color"]["*"]["feasible"].__setitem__(0, True),
            "not a phrase: True",
        ),
        (lambda b: b["phrases"]["color"]["*"].__setitem__("feasible", []), r"got \[\]"),
        (lambda b: b["phrases"]["color"]["*"].pop("feasible"), "got None"),
        (lambda b: b["templates"].pop("texture"), r"templates\.texture is missing"),
    ],
)
def test_bad_banks_are_refused_with_file_attribute_and_phrase(
    change, words, monkeypatch, pytestconfig
):
    monkeypatch.chdir(pytestconfig.rootpath)
    bad = copy.deepcopy(phrase_bank.load_bank(FILE, "micro_cars", [], "cars"))
    change(bad)
    with pytest.raises(PhraseError, match=rf"micro\.yaml.*{words}"):
        phrase_bank.check_bank(bad)


def test_unequal_lists_pass_under_the_faithful_protocol(monkeypatch, pytestconfig):
    monkeypatch.chdir(pytestconfig.rootpath)
    bank = phrase_bank.load_bank(FILE, "micro_cars", [], "cars")
    bank["phrases"]["texture"]["*"]["feasible"].pop()
    assert phrase_bank.check_bank(bank, controlled=False)
    with pytest.raises(PhraseError, match="controlled"):
        phrase_bank.check_bank(bank)


def bank_file(path, families, **more):
    data = {
        "templates": {"color": {"edit": "a {phrase} {class}"}},
        "verify": {"color": "{phrase}"},
        "colors": {"red": [255, 0, 0], "blue": [0, 0, 255]},
        "families": families,
        **more,
    }
    path.write_text(yaml.safe_dump(data))
    return path


def test_lists_by_class(tmp_path):
    path = bank_file(
        tmp_path / "b.yaml",
        {
            "mine": {
                "color": {
                    "F-16A/B": {"feasible": ["red"], "infeasible": ["blue"]},
                    "{phrase}": {"feasible": ["blue"], "infeasible": ["red"]},
                }
            }
        },
    )
    bank = phrase_bank.load_bank(path, "mine", ["F-16A/B", "{phrase}"])
    assert len(phrase_bank.check_bank(bank)) == 4
    assert phrase_bank.draw(bank, "color", "feasible", "{phrase}", "x", 1, 0) == ["blue"]
    assert phrase_bank.edit_prompt(bank, "color", "red", "{phrase}").endswith("{phrase}")
    with pytest.raises(PhraseError, match=r"mine\.color: no phrases for \['cat'\]"):
        phrase_bank.load_bank(path, "mine", ["F-16A/B", "cat"])


@pytest.mark.parametrize(
    "text, words",
    [
        ("families: [", "not valid YAML"),
        ("", "families is not so"),
        ("families: {}", "templates is not so"),
        ("{families: {}, templates: {}, verify: {}}", "no 'mine' for data set 'mine'"),
    ],
)
def test_files_that_are_no_banks(tmp_path, text, words):
    (tmp_path / "b.yaml").write_text(text)
    with pytest.raises(PhraseError, match=rf"(?s)b\.yaml: .*{words}"):
        phrase_bank.load_bank(tmp_path / "b.yaml", "mine", [])
    with pytest.raises(PhraseError, match="no such phrase file"):
        phrase_bank.load_bank(tmp_path / "none.yaml", "mine", [])


def test_forms_of_the_file_and_balanced_arms(tmp_path):
    shared = [f"colour {i}" for i in range(9)]
    groups = {
        "big": {"classes": ["a", "b"], "feasible": ["in a park"], "infeasible": ["on mars"]},
        "small": {"classes": ["c"], "feasible": ["on a sofa"], "infeasible": ["in lava"]},
    }
    data = {
        "templates": {"color": {"edit": "{phrase}"}, "background": {"edit": "{phrase}"}},
        "verify": {"color": "{phrase}", "background": "{phrase}"},
        "colors": {n: [1, 2, 3] for n in [*shared, "red", "blue", "grey"]},
        "families": {
            "toys": {
                "background": {"groups": groups},
                "color": {
                    "infeasible": shared,
                    "classes": {"a": ["red", "blue"], "b": ["blue"], "c": ["grey", "red"]},
                },
            }
        },
    }
    path = tmp_path / "toys.yaml"
    path.write_text(yaml.safe_dump(data))
    bank = phrase_bank.load_bank(path, "toys", ["a", "b", "c"])
    assert phrase_bank.lists(bank, "background", "c") == {
        "feasible": ["on a sofa"],
        "infeasible": ["in lava"],
    }
    with pytest.raises(PhraseError, match="2 feasible but 9 infeasible"):
        phrase_bank.check_bank(bank)
    even = phrase_bank.balance(bank, 3)
    phrase_bank.check_bank(even)
    drawn = {c: phrase_bank.lists(even, "color", c)["infeasible"] for c in "abc"}
    assert [len(d) for d in drawn.values()] == [2, 1, 2] and drawn["a"] != drawn["c"]
    assert (
        even
        == phrase_bank.balance(bank, 3)
        == phrase_bank.balance(even, 4)
        != phrase_bank.balance(bank, 4)
    )
    groups["small"]["classes"] = ["c", "a"]
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(PhraseError, match="another group too"):
        phrase_bank.load_bank(path, "toys", ["a", "b", "c"])
