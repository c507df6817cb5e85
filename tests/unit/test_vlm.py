"""A vision-language model as verifier: logits, rules, and nothing that a constant answer passes."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from tests import tiny_vision_models
from varireal_utils.core import storage
from varireal_utils.core.config_sections import ModelRoles, ModelSpec, VlmVerifierSettings
from varireal_utils.data import images
from varireal_utils.models import loaders
from varireal_utils.models.residence import Residence
from varireal_utils.prompts import phrase_bank
from varireal_utils.verification import vlm_asker, vlm_verifier
from varireal_utils.verification.vlm_asker import VlmAsker

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("VARIREAL_SHARED", ROOT.parent / "shared"))
CPU = torch.device("cpu")
PETS = SHARED / "data" / "oxford_pets_mini"
needs_pets = pytest.mark.skipif(
    not PETS.is_dir(),
    reason=f"{PETS} is not there; VARIREAL_SHARED "
    "names the folder that holds data/oxford_pets_mini",
)
CLASSES = ["Birman", "Pug", "Samoyed", "Sphynx"]
BANK = {
    "source": "bank.yaml",
    "verify": {"color": "a photo of a {phrase} animal"},
    "phrases": {
        "color": {
            "*": {
                "feasible": ["white", "cream", "fawn"],
                "infeasible": ["neon pink", "purple", "teal"],
            }
        }
    },
}
SETTINGS = VlmVerifierSettings(false_accept=0.1, false_identity=0.5)
THRESHOLDS = {"attribute_threshold": 0.1, "identity_threshold": 0.1}
LOOK = np.zeros((8, 8, 3), np.uint8)


def row(arm: str = "feasible", phrase: str = "cream", **more) -> dict:
    return {
        "image_id": "a",
        "k": 0,
        "attribute": "color",
        "phrase": phrase,
        "class_name": "Pug",
        "feasibility": arm,
    } | more


class Fake:
    """Answers by a rule p(image, question), and keeps what it was asked."""

    def __init__(self, p) -> None:
        self.p, self.asked = p, []

    mass = 0.9

    def __call__(self, pictures: list, questions: list) -> list:
        return [[self.one(i, q) for q in own] for i, own in zip(pictures, questions, strict=True)]

    def one(self, image: np.ndarray, question: str) -> vlm_asker.Answer:
        self.asked.append((image, question))
        return vlm_asker.Answer(question, float(self.p(image, question)), self.mass)


def judge(ask, rows=None, thresholds=THRESHOLDS, source=LOOK, **settings):
    rows = rows or [row("feasible", "cream"), row("infeasible", "purple")]
    return vlm_verifier.score(
        ask,
        [LOOK + 9] * len(rows),
        [source] * len(rows),
        rows,
        BANK,
        CLASSES,
        SETTINGS.model_copy(update=settings),
        thresholds,
    )


def knows(*truths: str) -> Fake:
    """A model that says yes to questions with one of these words in them."""
    return Fake(lambda _, q: 0.9 if any(t in q for t in truths) else 0.1)


@pytest.mark.parametrize("p", [0.0, 0.01, 0.5, 0.99, 1.0])
def test_a_constant_answer_cannot_pass_in_either_arm(p):
    got = judge(
        Fake(lambda *_: p),
        thresholds=vlm_verifier.calibrate(
            Fake(lambda *_: p),
            vlm_verifier.Calibration([LOOK] * 5, ["Pug"] * 5, list("abcde")),
            BANK,
            "color",
            CLASSES,
            SETTINGS,
            1,
        ),
    )
    assert not got["attribute_passed"].any() and not got["identity_passed"].any()
    assert not got["accepted"].any()


def test_an_answer_that_follows_the_picture_alone_cannot_pass():
    got = judge(Fake(lambda image, _: image.mean() / 255 * 20 + 0.2))
    assert not got["accepted"].any() and (got["attribute_margin"] == 0).all()


def test_both_questions_must_pass_each():
    assert list(judge(knows("cream", "Pug"))["accepted"]) == [True, False]
    assert list(judge(knows("purple", "Pug"))["accepted"]) == [False, True]
    lost = judge(knows("cream", "purple"))
    assert lost["attribute_passed"].all() and not lost["identity_passed"].any()
    gone = judge(knows("Pug"))
    assert gone["identity_passed"].all() and not gone["attribute_passed"].any()
    assert not lost["accepted"].any() and not gone["accepted"].any()
    assert (judge(knows("cream", "purple", "Pug"))["worst_margin"] > 0).all()


def test_a_yes_below_one_half_does_not_pass_however_low_its_controls():
    ask = Fake(lambda _, q: 0.45 if "cream" in q or "Pug" in q else 0.0)
    got = judge(ask, [row()])
    assert got["attribute_margin"][0] == 0.45 and not got["attribute_passed"][0]
    assert judge(ask, [row()], p_yes=0.4)["accepted"][0]


@pytest.mark.parametrize("possible", [0.0, 1.0])
def test_feasibility_is_recorded_and_decides_nothing(possible):
    ask = Fake(
        lambda _, q: possible if "real world" in q else 0.9 if "cream" in q or "Pug" in q else 0.1
    )
    got = judge(ask, [row()])
    assert got["accepted"][0] and got["feasibility_yes"][0] == possible


def test_the_strict_model_is_never_told_the_answer_nor_the_arm():
    texts = []
    for arm in ("feasible", "infeasible"):
        ask = knows("cream")
        judge(ask, [row(arm)])
        texts.append([q for _, q in ask.asked])
    assert texts[0] == texts[1]  # the arm changes no question
    assert not any(
        w in q.lower()
        for q in texts[0]
        for w in ("feasible", "answer:", "truth", "choices", "expected")
    )
    assert all(q.endswith("Answer with one word, yes or no.") for q in texts[0])


def test_every_answer_is_stored():
    ask = knows("cream", "Pug")
    told = json.loads(judge(ask, [row()])["answers"][0])
    assert len(told) == len(ask.asked) == 2 * (1 + SETTINGS.controls) + 2
    assert {q for _, q in ask.asked} == {q for _, q, *_ in told}
    assert [t for t in told if t[0] == "source"] == [
        ["source", vlm_verifier.attribute_question(BANK, "color", "cream", "Pug"), 0.9, 0.9]
    ]


def test_what_the_source_showed_is_recorded():
    ask = Fake(lambda image, q: 0.8 if image is LOOK else 0.2)
    assert judge(ask, [row()])["attribute_before"][0] == 0.8


def test_controls_are_others_and_do_not_know_the_arm():
    options = phrase_bank.alternatives(BANK, "color", "Pug")
    drawn = {tuple(vlm_verifier.controls(options, "cream", 3, f"image {i}", 0)) for i in range(40)}
    assert len(drawn) > 10 and all(len(set(d)) == 3 and "cream" not in d for d in drawn)
    assert {p for d in drawn for p in d} == set(options) - {"cream"}  # of both arms
    assert vlm_verifier.controls(options, "cream", 3, "x") == vlm_verifier.controls(
        options, "cream", 3, "x"
    )
    with pytest.raises(ValueError, match="'only' has no alternative.*kind: clip"):
        vlm_verifier.controls(["only"], "only", 3)


def test_calibration_keeps_a_model_that_does_not_look_below_its_promise():
    """It answers by the words alone, at random: unedited photographs must seldom pass."""

    def blind(image, question):
        return np.random.default_rng(abs(hash_of(question))).random()

    many = [f"phrase {i}" for i in range(60)]
    bank = BANK | {"phrases": {"color": {"*": {"feasible": many[:30], "infeasible": many[30:]}}}}
    ids = [f"i{n}" for n in range(150)]
    limits = vlm_verifier.calibrate(
        Fake(blind),
        vlm_verifier.Calibration([LOOK] * 150, ["Pug"] * 150, ids),
        bank,
        "color",
        CLASSES,
        SETTINGS,
        1,
    )
    rows = [row(phrase=many[n % 60], image_id=f"new{n}") for n in range(150)]
    got = vlm_verifier.score(
        Fake(blind), [LOOK] * 150, [LOOK] * 150, rows, bank, CLASSES, SETTINGS, limits
    )
    assert limits["attribute_threshold"] > 0.3 and got["attribute_passed"].mean() < 0.25


def hash_of(text: str) -> int:
    return int(storage.sha256_bytes(text.encode())[:12], 16)


def test_calibration_of_a_good_model():
    class Good(Fake):
        def __init__(self):
            super().__init__(
                lambda image, q: 0.95 if f"a {CLASSES[image[0, 0, 0]]}?" in q else 0.05
            )

    pictures = [np.full((8, 8, 3), n % 4, np.uint8) for n in range(20)]
    got = vlm_verifier.calibrate(
        Good(),
        vlm_verifier.Calibration(
            pictures, [CLASSES[n % 4] for n in range(20)], [str(n) for n in range(20)]
        ),
        BANK,
        "color",
        CLASSES,
        SETTINGS,
        1,
    )
    assert got["identity_kept"] == 1 and got["n_calibration"] == 20
    assert got["attribute_threshold"] == SETTINGS.margin


def test_a_model_that_answers_neither_word_is_called_out():
    ask = Fake(lambda *_: 0.6)
    ask.mass = 0.01
    with pytest.warns(UserWarning, match="puts 1% of its probability on yes and no"):
        vlm_verifier.calibrate(
            ask,
            vlm_verifier.Calibration([LOOK], ["Pug"], ["a"]),
            BANK,
            "color",
            CLASSES,
            SETTINGS,
            1,
        )
    with pytest.raises(ValueError, match="no validation photograph"):
        vlm_verifier.calibrate(
            ask, vlm_verifier.Calibration([], [], []), BANK, "color", CLASSES, SETTINGS, 1
        )


@pytest.mark.parametrize("allowed", [0.0, 0.1, 0.5, 1.0])
def test_the_least_threshold_allows_no_more(allowed):
    margins = list(np.random.default_rng(0).normal(0.2, 0.3, 37)) + [0.4] * 5
    limit = vlm_verifier._least(margins, allowed, -9.0)
    assert np.mean(np.array(margins) >= limit) <= allowed
    assert vlm_verifier._least(margins, allowed, 5.0) == 5.0


def test_the_faithful_rule_is_the_references():
    """Constant answers pass where infeasible (C4.3), and the answer is told (C4.2)."""
    for p, feasible in ((1.0, 1.0), (0.0, 0.0)):
        ask = Fake(lambda *_, p=p: p)
        got = judge(ask, rule="faithful")
        assert list(got["accepted"]) == [bool(feasible), True]
        assert list(got["worst_margin"] + 0.5) == [feasible, 0.5]
        texts = [q for _, q in ask.asked]
        assert len(texts) == 8 and all("'answer': '" in q for q in texts)
        assert [q.count("'answer': 'no'") for q in texts] == [0] * 6 + [1] * 2
    assert vlm_verifier.calibrate(
        None,
        vlm_verifier.Calibration([], [], []),
        BANK,
        "color",
        CLASSES,
        SETTINGS.model_copy(update={"rule": "faithful"}),
        1,
    ) == {"n_calibration": 0}
    strict, loose = judge(knows("cream")), judge(knows("cream"), rule="faithful")
    assert list(strict) == list(loose)  # the same columns


VOCABULARY = {
    t: i
    for i, t in enumerate(
        [
            "yes",
            "Yes",
            "YES",
            "▁yes",
            "Ġyes",
            "ĠYes",
            "no",
            "▁No",
            "ĠNO",
            "ĠĠno",
            "yesterday",
            "not",
            "ye",
            "n",
            "##no",
            "ja",
        ]
    )
}


def test_every_spelling_of_yes_and_no_counts():
    assert vlm_asker.word_ids(VOCABULARY, "yes") == [0, 1, 2, 3, 4, 5]
    assert vlm_asker.word_ids(VOCABULARY, "no") == [6, 7, 8, 9]
    logits = torch.full((16,), -20.0)
    logits[[1, 4, 7, 15]] = torch.tensor([1.0, 1.0, 1.0, 1.0]).log() + 5
    p, mass = vlm_asker.yes_no(logits, [0, 1, 2, 3, 4, 5], [6, 7, 8, 9])
    assert np.isclose(p, 2 / 3) and np.isclose(mass, 3 / 4)
    p, mass = vlm_asker.yes_no(
        torch.tensor([-500.0, -501.0, 500.0]), [0], [1]
    )  # no underflow to 0 / 0
    assert np.isclose(p, torch.sigmoid(torch.tensor(1.0))) and mass < 1e-9
    with pytest.raises(ValueError, match="NaN.*bfloat16"):
        vlm_asker.yes_no(torch.tensor([np.nan, 1.0]), [0], [1])


@pytest.fixture(scope="module", params=["llava", "qwen", "internvl"])
def loaded(request, tmp_path_factory) -> tuple:
    folder = getattr(tiny_vision_models, request.param)(tmp_path_factory.mktemp(request.param))
    params = {"device": "cpu", "models": {"verifier": {"kind": "vlm", "path": str(folder)}}}
    return loaders.load_vlm(ModelRoles.model_validate(params["models"]), CPU), params, folder


def scene(seed: int, size: tuple[int, int] = (40, 60)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def single(pair, *size):
    """ask(image, question) -> Answer, one at a time."""
    ask = VlmAsker(pair, *size)
    return lambda image, question: ask([image], [[question]])[0][0]


PICTURES = [scene(n) for n in range(3)] + [scene(3, (60, 40))]
QUESTIONS = [
    [
        "Is this a photo of a cat? Answer with one word, yes or no.",
        "Is this a red car?",
        "Could it?",
    ],
    ["Is this a blue car?", "Is this a cat?"],
    ["Is this a cat?"],
    ["Is this a car , or a cat?", "Is this red?"],
]


def passes(model, monkeypatch):
    """Calls of the language model and of the vision tower from now on."""
    inner, found = model.model, {"language": 0, "vision": 0}
    tower = getattr(inner, "visual", None) or inner.vision_tower
    for name, module in (("language", inner.language_model), ("vision", tower)):

        def counted(*args, own=module.forward, name=name, **more):
            found[name] += 1
            return own(*args, **more)

        monkeypatch.setattr(module, "forward", counted)
    return found


def test_questions_branch_from_one_reading_of_a_picture(loaded, monkeypatch):
    """As separate prefills answer: pictures of two sizes, with one to three questions each."""
    apart = VlmAsker(loaded[0], 64, known=vlm_asker.Experience(branches=False))
    wanted = apart(PICTURES, QUESTIONS)
    known = vlm_asker.Experience()
    assert len(VlmAsker(loaded[0], 64, known=known)(PICTURES[:1], QUESTIONS[:1])[0]) == 3
    assert known.branches and known.spliced
    counted = passes(loaded[0][0], monkeypatch)
    ask = VlmAsker(loaded[0], 64, known=vlm_asker.Experience(branches=True, spliced=True))
    found = ask(PICTURES, QUESTIONS)
    assert counted["language"] == 4 and counted["vision"] == 2  # two sizes, two passes each
    for own, other, asked in zip(found, wanted, QUESTIONS, strict=True):
        assert [a.question for a in own] == asked
        for a, b in zip(own, other, strict=True):
            assert a.p == pytest.approx(b.p, abs=1e-5) and a.mass == pytest.approx(b.mass, abs=1e-5)
    ask(PICTURES, QUESTIONS)
    assert counted["language"] == 4  # what was asked is remembered


def test_a_model_whose_questions_do_not_branch_is_asked_one_by_one(loaded, monkeypatch):
    wanted = VlmAsker(loaded[0], 64, known=vlm_asker.Experience(branches=False))(
        PICTURES, QUESTIONS
    )
    honest = VlmAsker._positions
    monkeypatch.setattr(VlmAsker, "_positions", lambda self, places: 0 * honest(self, places))
    monkeypatch.setattr(vlm_asker, "TOLERANCE", 1e-6)
    ask = VlmAsker(loaded[0], 64)
    with pytest.warns(UserWarning, match="probabilities differ"):
        found = ask(PICTURES, QUESTIONS)
    assert found == wanted and ask.known.branches is False


def test_a_picture_that_does_not_fit_beside_others_is_read_alone(loaded, monkeypatch):
    honest, tried = VlmAsker._branched, []

    def small(self, turns):
        tried.append(len(turns))
        if len(turns) > 1:
            raise torch.OutOfMemoryError("no room")
        return honest(self, turns)

    monkeypatch.setattr(VlmAsker, "_branched", small)
    known = vlm_asker.Experience(branches=True, spliced=True)
    with pytest.warns(UserWarning, match="done in halves"):
        VlmAsker(loaded[0], 64, known=known)(PICTURES[:2], [QUESTIONS[0]] * 2)
    assert tried == [2, 1, 1] and known.fit.size == 1


def test_a_tiny_model_answers(loaded):
    (model, processor), *_ = loaded
    ask, question = single((model, processor), 64), vlm_verifier.class_question("Pug")
    answer = ask(scene(0), question)
    assert 0 < answer.p < 1 and 0 < answer.mass < 1
    assert ask(scene(0), question) == answer  # the same however often
    ids = [vlm_asker.word_ids(processor.tokenizer.get_vocab(), w) for w in ("yes", "no")]
    assert all(len(i) >= 2 for i in ids)
    assert ask(scene(1), question).p != answer.p  # it looks
    assert ask(scene(0), "Is this a car? Answer with one word, no or yes.").p != answer.p
    assert single((model, processor), 16)(scene(0, (60, 80)), question).p > 0  # shrunk first


def test_the_probabilities_are_those_of_the_next_token(loaded):
    (model, processor), *_ = loaded
    from PIL import Image

    question = vlm_verifier.class_question("cat")
    text = processor.apply_chat_template(
        [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}],
        add_generation_prompt=True,
        tokenize=False,
    )
    assert question in text
    inputs = processor(images=[Image.fromarray(scene(2))], text=[text], return_tensors="pt")
    with torch.no_grad():
        chances = model(**inputs).logits[0, -1].double().softmax(-1)
    sums = [
        float(
            sum(
                chances[i]
                for t, i in processor.tokenizer.get_vocab().items()
                if t.replace("Ġ", "").lower() == word
            )
        )
        for word in ("yes", "no")
    ]
    answer = single((model, processor))(scene(2), question)
    assert np.isclose(answer.mass, sum(sums)) and np.isclose(answer.p, sums[0] / sum(sums))


def test_eight_bits_are_refused_where_they_cannot_be(loaded):
    _, params, folder = loaded
    wanted = {**params["models"]["verifier"], "quantization": "8bit"}
    refusal = "quantization: 8bit needs .*(bitsandbytes|CUDA).*bfloat16"
    with pytest.raises(ValueError, match=refusal):
        loaders.load_vlm(ModelRoles(verifier=ModelSpec(**wanted)), CPU)


def test_a_model_that_cannot_be_asked_is_refused(loaded, tmp_path):
    (model, processor), _, folder = loaded
    import shutil

    shutil.copytree(folder, tmp_path / "m")
    (tmp_path / "m/chat_template.jinja").unlink()
    with pytest.raises(ValueError, match="no chat template.*instruction-tuned"):
        loaders.load_vlm(ModelRoles(verifier=ModelSpec(path=str(tmp_path / "m"))), CPU)
    monkey = type("P", (), {"tokenizer": type("T", (), {"get_vocab": lambda self: {"yes": 0}})()})
    with pytest.raises(ValueError, match="no single token says no"):
        VlmAsker((model, monkey()))


@needs_pets
@pytest.mark.shared
def test_a_tiny_model_judges_real_photographs(loaded):
    files = sorted((PETS / "oxford-iiit-pet/images").glob("*.jpg"))[:4]
    pictures = [np.asarray(images.open_image(f)) for f in files]
    ask = VlmAsker(loaded[0], 96)
    limits = vlm_verifier.calibrate(
        ask,
        vlm_verifier.Calibration(pictures, ["Pug"] * 4, [f.stem for f in files]),
        BANK,
        "color",
        CLASSES,
        SETTINGS.model_copy(update={"controls": 1}),
        3,
    )
    rows = [row(arm) for arm in ("feasible", "infeasible")]
    got = vlm_verifier.score(ask, pictures[:2], pictures[2:], rows, BANK, CLASSES, SETTINGS, limits)
    assert len(got) == 2 and got[["attribute_score", "identity"]].stack().between(0, 1).all()
    alone = vlm_verifier.score(
        ask, pictures[1:2], pictures[3:], rows[1:], BANK, CLASSES, SETTINGS, limits
    )
    both, own = got.iloc[1].to_dict(), alone.iloc[0].to_dict()  # no neighbour is heard
    assert json.loads(both.pop("answers")) == json.loads(own.pop("answers"))
    assert both == pytest.approx(own, abs=1e-6)


@pytest.fixture
def study(tmp_path):
    """A study of three renderings, with what 04_edit reads; (folder, images with guidance)."""
    from varireal_utils.core.config_editing import GuidanceOnCanvas
    from varireal_utils.core.study_paths import StudyPaths
    from varireal_utils.data import datasets
    from varireal_utils.editing import guidance, sources

    spec = {
        "source": "world",
        "family": "pets",
        "train_per_class": 1,
        "val_per_class": 1,
        "test_per_class": 0,
    }
    table = datasets.load("pets", spec, tmp_path)[0].groupby("split").head(3)
    storage.write_table(tmp_path / "data/pets/images.parquet", table)
    rows = [
        guidance.guide(
            r,
            tmp_path,
            tmp_path / "guidance/pets",
            GuidanceOnCanvas(canny_low=0.7, canny_high=255, canny_blur=5),
        )
        for r in table.to_dict("records")
    ]
    import pandas as pd

    storage.write_table(tmp_path / "guidance/pets/guidance.parquet", pd.DataFrame(rows))
    return tmp_path, sources.read_inputs(StudyPaths(tmp_path), "pets")


@pytest.mark.parametrize("rule", ["strict", "faithful"])
def test_an_arm_is_judged_by_the_model_that_the_parameters_name(loaded, study, rule):
    from varireal_utils.editing.sources import Source
    from varireal_utils.verification.build import Verified, build_verifier

    folder, table = study
    settings = SETTINGS.model_copy(update={"rule": rule, "controls": 1, "max_size": 64})
    models = ModelRoles.model_validate(loaded[1]["models"])
    file = folder / ".thresholds/some.json"
    edits = Verified(folder, table, BANK, "color", 1, file)
    verifier = build_verifier(edits, settings, models, CPU)
    kept = file.read_bytes()
    thresholds, answer = verifier.thresholds, verifier.score
    assert thresholds["n_calibration"] == (3 if rule == "strict" else 0)
    train = table[table["split"] == "train"]
    sources = [Source(storage.read_image(folder / p), *[None] * 3) for p in train["path"]]
    rows = [
        row("infeasible", "teal", image_id=i, class_name=c)
        for i, c in zip(train["image_id"], train["class_name"])
    ]
    got = answer([255 - s.image for s in sources], rows, sources)
    assert len(got) == 3 and {"accepted", "worst_margin", "answers"} <= set(got)
    assert len(json.loads(got["answers"][0])) == (6 if rule == "strict" else 4)
    storage.write_table(folder / "edits.parquet", got)  # every column is a plain one
    home = Residence()
    assert build_verifier(edits, settings, models, CPU, home).thresholds == thresholds
    assert not home.held and home.seconds == 0  # read, without the model
    file.write_bytes(kept[:-9])
    assert build_verifier(edits, settings, models, CPU).thresholds == thresholds
    assert file.read_bytes() == kept
