"""Reads, checks and draws phrases, which edits ask for: data (params/prompts/*.yaml), no Python.

A *bank* is what 02_attributes writes and every later stage reads:

    {"dataset", "templates": {attribute: {"edit", "prior"?}}, "verify": {attribute: sentence},
     "colors": {name: [r, g, b]},
     "phrases": {attribute: {class name or "*": {"feasible": [...], "infeasible": [...]}}}}

In a replicate of three values the arms are familiar, unfamiliar, infeasible, placebo (`by_value`).

Invariant: both arms draw the same ranks of equally long lists, by a hash of (study seed, image id,
attribute), so arms are paired and equally varied.
"""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from typing import Any

import yaml

from ..core.arms import PLACEBO, SIDES, THREE, WIDE
from ..core.attributes import ATTRIBUTES
from ..core.config_file import Loader
from ..core.seeds import numpy_rng

ARMS = SIDES
ORDER = ("feasible", *THREE, PLACEBO)
TO_FILL = "TODO"  # begins a phrase that `new` left to the user
Bank = dict[str, Any]


class PhraseError(ValueError):
    """A phrase bank that cannot be used; names file, attribute, class and phrase."""


def load_bank(path: str | Path, dataset: str, class_names: list[str], family: str = "") -> Bank:
    """The phrases of one data set from a YAML file.

    The file's `families` maps a family ("": the data set's own name) to attributes, each in one of
    four forms (F, I: lists of feasible and infeasible phrases):

        {feasible: F, infeasible: I}                             one pair of lists for all classes
        {<class>: {feasible: F, infeasible: I}, ...}             a pair for each class
        {groups: {<group>: {classes: [...], feasible: F, infeasible: I}, ...}}
        {infeasible: I, classes: {<class>: F, ...}}              own feasible ones, shared others

    Raises PhraseError.
    """
    path = Path(path)
    data = read_file(path)
    _check_form(data, path)
    family = family or dataset
    if family not in data["families"]:
        raise PhraseError(
            f"{path}: families: no {family!r} for data set {dataset!r}; it has "
            f"{sorted(map(str, data['families']))}"
        )
    phrases: dict[str, dict] = {}
    for attribute, lists in _mapping(
        data["families"][family], f"{path}: families.{family}"
    ).items():
        where = f"{path}: families.{family}.{attribute}"
        found = _by_class(lists, where)
        missing = [] if "*" in found else [c for c in class_names if c not in found]
        if missing:
            raise PhraseError(f"{where}: no phrases for {missing[:5]}")
        phrases[attribute] = {c: found[c] for c in (["*"] if "*" in found else class_names)}
    return {
        "dataset": dataset,
        "source": path.as_posix(),
        "templates": data["templates"],
        "verify": data["verify"],
        "colors": data.get("colors") or {},
        "phrases": phrases,
    }


def _check_form(data: dict[str, Any], path: Path) -> None:
    """Templates and colours have the form that the module's docstring gives. Raises PhraseError."""
    for attribute, kinds in data["templates"].items():
        if (
            not isinstance(kinds, dict)
            or not isinstance(kinds.get("edit"), str)
            or not all(isinstance(k, str) and isinstance(v, str) for k, v in kinds.items())
        ):
            raise PhraseError(
                f"{path}: templates.{attribute}: wanted a sentence under edit, and "
                f"perhaps prior, got {kinds!r}"
            )
        for kind, sentence in kinds.items():
            _check_places(sentence, f"{path}: templates.{attribute}.{kind}")
    for attribute, sentence in data["verify"].items():
        if not isinstance(sentence, str) or not sentence.strip():
            raise PhraseError(f"{path}: verify.{attribute}: wanted a sentence, got {sentence!r}")
        _check_places(sentence, f"{path}: verify.{attribute}")
    if not isinstance(data.get("colors") or {}, dict):
        raise PhraseError(f"{path}: colors: wanted names with [r, g, b], got {data['colors']!r}")


def _check_places(sentence: str, where: str) -> None:
    """Raise PhraseError for a place to fill that is neither {class} nor {phrase}."""
    for place in re.findall(r"\{[^{}]*\}", sentence):
        if place not in ("{class}", "{phrase}"):
            raise PhraseError(
                f"{where}: {place} is filled by nothing; wanted {{class}}, {{phrase}}"
            )


def _mapping(value: Any, where: str) -> dict:
    if not isinstance(value, dict) or not value:
        raise PhraseError(f"{where}: wanted keys with values below them, got {value!r}")
    return value


def _by_class(lists: Any, where: str) -> dict[str, dict[str, list]]:
    """Class name (or "*" for all) -> arms, from any of the four forms of `load_bank`."""
    if set(_mapping(lists, where)) <= set(ARMS):
        return {"*": lists}
    if set(lists) == {"infeasible", "classes"}:
        return {
            c: {"feasible": own, "infeasible": lists["infeasible"]}
            for c, own in _mapping(lists["classes"], f"{where}.classes").items()
        }
    if set(lists) != {"groups"}:
        for name, arms in lists.items():
            _mapping(arms, f"{where}.{name}")
        return lists
    out: dict[str, dict[str, list]] = {}
    for name, group in _mapping(lists["groups"], f"{where}.groups").items():
        missing = {"classes", *ARMS} - set(_mapping(group, f"{where}.groups.{name}"))
        if (
            missing
            or not isinstance(group["classes"], list)
            or not all(isinstance(c, str) for c in group["classes"])
        ):
            raise PhraseError(
                f"{where}.groups.{name}: wanted classes (names), feasible and "
                f"infeasible, got {group!r}"
            )
        twice = sorted(set(group["classes"]) & set(out))
        if twice:
            raise PhraseError(f"{where}.groups.{name}: classes in another group too: {twice[:5]}")
        out |= {c: {arm: group[arm] for arm in ARMS} for c in group["classes"]}
    return out


def by_value(bank: Bank, values: dict[str, dict[str, list[str]]]) -> Bank:
    """The bank with the arms of a replicate: for each the phrases of its values, in their order.

    values: attribute -> arm -> values (DataSetSpec.values); without any, the bank as it is. Raises
    PhraseError for a value that no phrase names.
    """
    phrases: dict[str, dict] = dict(bank["phrases"])
    for attribute, arms in values.items():
        for name, known in bank["phrases"].get(attribute, {}).items():
            every = [phrase for arm in known.values() for phrase in arm]
            chosen: dict[str, list[str]] = {}
            for arm, wanted in arms.items():
                chosen[arm] = [_naming(value, every, bank, attribute) for value in wanted]
            phrases[attribute] = phrases[attribute] | {name: chosen}
    return bank | {"phrases": phrases}


def _naming(value: str, phrases: list[str], bank: Bank, attribute: str) -> str:
    """The phrase that names a value: equal to it, or ending with it."""
    for phrase in phrases:
        if phrase == value or phrase.endswith(f" {value}"):
            return phrase
    raise PhraseError(
        f"{bank['source']}: {attribute}: no phrase names {value!r}, which a replicate of "
        f"{bank['dataset']} asks for; add one (params/prompts/world.yaml has all)"
    )


def balance(bank: Bank, seed: int) -> Bank:
    """The bank with both arms of every class equally long: of the longer one, a draw by
    (seed, attribute, class) in the order of the list. Equal lists stay as they are."""
    phrases: dict[str, dict] = {}
    for attribute, classes in bank["phrases"].items():
        phrases[attribute] = {}
        for name, arms in classes.items():
            size = min(len(arms[arm]) for arm in ARMS)
            rng = numpy_rng(seed, "balance", attribute, name)
            phrases[attribute][name] = {
                arm: [arms[arm][i] for i in sorted(rng.permutation(len(arms[arm]))[:size])]
                for arm in ARMS
            }
    return bank | {"phrases": phrases}


def read_file(path: str | Path) -> dict[str, Any]:
    """A phrase file as it stands, with its keys families, templates, verify. Raises PhraseError."""
    path = Path(path)
    if not path.is_file():
        raise PhraseError(f"{path}: no such phrase file; `prompts` in the parameter file names it")
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PhraseError(f"{path}: not valid YAML: {error}") from error
    for key in ("families", "templates", "verify"):
        if not isinstance(data, dict) or not isinstance(data.get(key), dict):
            raise PhraseError(
                f"{path}: wanted the keys families, templates and verify, each with "
                f"keys and values below it; {key} is not so"
            )
    return data


def check_bank(bank: Bank, controlled: bool = True) -> list[dict]:
    """Check every list; returns one row per attribute, class and arm with its number of phrases.

    No phrase in both arms, none twice, none empty, every colour with its RGB, a template for every
    attribute, and, under the controlled protocol, equal numbers in both arms. Raises PhraseError.
    """
    rows = []
    for attribute, classes in bank["phrases"].items():
        for key in ("templates", "verify"):
            if attribute not in bank[key]:
                raise PhraseError(f"{bank['source']}: {key}.{attribute} is missing")
        for name, arms in classes.items():
            where = f"{bank['source']}: {attribute}, class {name}"
            for arm in ARMS:
                _check_list(arms.get(arm), f"{where}, {arm}")
                rows.append(
                    {"attribute": attribute, "class": name, "arm": arm, "phrases": len(arms[arm])}
                )
            both = set(map(_folded, arms["feasible"])) & set(map(_folded, arms["infeasible"]))
            if both:
                raise PhraseError(
                    f"{where}: in both arms: {sorted(both)}; a phrase is feasible "
                    "or infeasible, not both"
                )
            if controlled and len(arms["feasible"]) != len(arms["infeasible"]):
                raise PhraseError(
                    f"{where}: {len(arms['feasible'])} feasible but "
                    f"{len(arms['infeasible'])} infeasible phrases; protocol "
                    "controlled draws from equally long lists"
                )
            if attribute in ATTRIBUTES and ATTRIBUTES[attribute].coloured:
                for phrase in arms["feasible"] + arms["infeasible"]:
                    rgb(bank, phrase)
    return rows


def _check_list(phrases: Any, where: str) -> None:
    if not isinstance(phrases, list) or not phrases:
        raise PhraseError(f"{where}: wanted a list of phrases, got {phrases!r}")
    bad = [p for p in phrases if not isinstance(p, str) or not p.strip() or "{" in p]
    if bad:
        raise PhraseError(f"{where}: not a phrase: {bad[0]!r} (quote words such as on, off, yes)")
    open_ = [p for p in phrases if p.startswith(TO_FILL)]
    if open_:
        raise PhraseError(f"{where}: {open_[0]!r} is a place to fill in; write a phrase there")
    folded = [_folded(p) for p in phrases]
    twice = sorted({p for p in folded if folded.count(p) > 1})
    if twice:
        raise PhraseError(f"{where}: repeated: {twice}")


def _folded(phrase: str) -> str:
    """A phrase as it is compared with others: in any case and Unicode form the same."""
    return unicodedata.normalize("NFC", phrase).casefold()


def lists(bank: Bank, attribute: str, class_name: str) -> dict[str, list[str]]:
    """The phrase lists of a class by arm: both sides, or the arms of a replicate."""
    classes = bank["phrases"].get(attribute)
    if classes is None:
        raise PhraseError(
            f"{bank['source']}: no phrases for attribute {attribute!r}; it has "
            f"{sorted(bank['phrases'])}"
        )
    return classes.get(class_name) or classes["*"]


def of_arm(bank: Bank, arm: str) -> Bank:
    """The bank as an arm is edited and verified by: for WIDE its phrases are the infeasible ones,
    among which the verifier chooses; other arms know nothing of them."""
    phrases: dict[str, dict] = {}
    for attribute, classes in bank["phrases"].items():
        phrases[attribute] = {}
        for name, arms in classes.items():
            kept = {key: list(found) for key, found in arms.items() if key != WIDE}
            if arm == WIDE:
                kept |= {key: list(arms[WIDE]) for key in ("infeasible", WIDE)}
            phrases[attribute][name] = kept
    return bank | {"phrases": phrases}


def draw(
    bank: Bank,
    attribute: str,
    feasibility: str,
    class_name: str,
    image_id: str,
    count: int,
    seed: int,
    own: str | None = None,
) -> list[str]:
    """`count` phrases for one photograph, without repetition, the same ranks in all arms.

    feasibility: the arm; own: the photograph's own phrase, where the data set has it. It is left
    out, for an edit that asks for what is there is no edit; its rank is left out of the other arms
    too. Of the arm WIDE all, whatever `count` is.
    """
    arms = lists(bank, attribute, class_name)
    if feasibility == WIDE:
        return list(arms[WIDE])
    size = min(len(a) for a in arms.values())
    skip = {a.index(own) for a in arms.values() if own in a}
    ranks = [r for r in range(size) if r not in skip]
    if count > len(ranks):
        raise PhraseError(
            f"{bank['source']}: {attribute}, class {class_name}: {count} different "
            f"phrases a photograph are asked for, there are {len(ranks)}; lower "
            "edit.images_per_real or add phrases"
        )
    order = numpy_rng(seed, "phrase", image_id, attribute).permutation(len(ranks))[:count]
    return [arms[feasibility][ranks[i]] for i in order]


def alternatives(bank: Bank, attribute: str, class_name: str) -> list[str]:
    """All phrases of every arm: what a verifier chooses among."""
    arms = lists(bank, attribute, class_name)
    return [phrase for arm in ORDER if arm in arms for phrase in arms[arm]]


def own_phrase(bank: Bank, attribute: str, class_name: str, value: str | None) -> str | None:
    """The phrase that says what a photograph already shows, or None where unknown.

    value: the data set's word for it ("city street"), equal to a phrase or the end of one.
    """
    if not isinstance(value, str) or not value:
        return None
    for phrase in alternatives(bank, attribute, class_name):
        if phrase == value or phrase.endswith(f" {value}"):
            return phrase
    return None


def edit_prompt(
    bank: Bank, attribute: str, phrase: str, class_name: str, kind: str = "edit"
) -> str:
    """What a model is asked: a description (kind edit), or an instruction (kind instruct), whose
    template a bank may leave to the attribute's entry."""
    template = bank["templates"][attribute].get(kind) or ATTRIBUTES[attribute].instruct
    return _fill(template, phrase, class_name)


def weighted(prompt: str, phrase: str, weight: float) -> str | tuple[tuple[str, float], ...]:
    """A prompt whose phrase (its last occurrence) has a weight, as fragments; 1 leaves it plain."""
    before, found, after = prompt.rpartition(phrase)
    if weight == 1 or not found:
        return prompt
    return tuple((words, w) for words, w in ((before, 1.0), (found, weight), (after, 1.0)) if words)


def prior_prompt(bank: Bank, attribute: str, phrase: str) -> str:
    """What the text-to-image model is asked for the prior: no object in it."""
    return _fill(bank["templates"][attribute]["prior"], phrase, "")


def verify_prompt(bank: Bank, attribute: str, phrase: str, class_name: str) -> str:
    """The sentence that CLIP compares an edit with."""
    return _fill(bank["verify"][attribute], phrase, class_name)


def _fill(template: str, phrase: str, class_name: str) -> str:
    """Plain replacement: a phrase or class name with braces in it stays text."""
    words = {"{class}": class_name, "{phrase}": phrase}
    return re.sub(r"\{class\}|\{phrase\}", lambda found: words[found[0]], template)


def rgb(bank: Bank, phrase: str) -> tuple[int, int, int]:
    """The colour that a colour phrase means, 0..255 each."""
    value = bank["colors"].get(phrase)
    if not (
        isinstance(value, list)
        and len(value) == 3
        and all(isinstance(v, int) and 0 <= v <= 255 for v in value)
    ):
        raise PhraseError(
            f"{bank['source']}: colors.{phrase}: wanted [r, g, b] from 0 to 255, got {value!r}"
        )
    return tuple(value)
