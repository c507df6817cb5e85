"""The verifier's answers on photographs, and on what must not pass: another object, another phrase,
a grey picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd

from ...core.config import StudyConfig
from ...editing import exemption, sources
from ...prompts import phrase_bank
from ...verification.build import Verified, Verifier, build_verifier
from ..check import Check, Finding, judged
from ..workspace import Workspace
from .edits import CALIBRATION

COUNT, FEW = 16, 6  # photographs: for CLIP, for a vision-language model
KEPT = 0.7  # least share of photographs that pass as their own class, of those that CLIP is asked
NAMED = 0.3  # of those that a vision-language model is asked, whose others are exempt
ROOM = 0.35  # by which shares of so few photographs may exceed what the study allows
PLAIN = 0.2  # largest share of grey pictures that are accepted


def run(bench: Workspace) -> Iterator[Finding]:
    """Findings for each attribute; a vision-language model is asked about the first one."""
    vlm = bench.config.models.verifier_kind() == "vlm"
    if not bench.config.attributes:
        yield Finding("verifier", "attributes", "skip", "none in this study", "-")
    for attribute in bench.config.attributes[: 1 if vlm else None]:
        yield from _of(bench, attribute, FEW if vlm else COUNT)


def _of(bench: Workspace, attribute: str, count: int) -> Iterator[Finding]:
    config, sample, table = bench.config, bench.sample(), bench.guided
    kind = config.models.verifier_kind()
    few = min(config.verify.calibration, CALIBRATION)
    settings = config.verify.model_copy(update={"calibration": few}).of_kind(kind)
    edits = Verified(bench.paths.root, table, sample.bank, attribute, config.seed)
    verifier = build_verifier(edits, settings, config.models, bench.device)
    val = table[table["split"] == "val"].head(count)
    read = sources.reader(bench.paths.root, table, attribute)
    photographs = [read(i) for i in val["image_id"]]
    pictures = [p.image for p in photographs]
    rows = [_row(bench, attribute, r) for r in val.to_dict("records")]
    told = config.verify.rule == "faithful" and kind == "vlm"
    if not told:
        yield _same(attribute, verifier.score(pictures, rows, photographs), kind == "vlm")
        yield from _others(bench, attribute, verifier, val, (pictures, rows, photographs))
    plain = [np.full_like(p, 127) for p in pictures]
    bench.show("verifier", "grey: must fail", plain[0])
    share = float(verifier.score(plain, rows, photographs)["accepted"].mean())
    yield judged(
        "verifier",
        f"{attribute}, a grey picture",
        share <= PLAIN,
        f"{share:.0%} accepted",
        f"at most {PLAIN:.0%}",
        "the verifier says yes to anything"
        + ("; verify.rule faithful tells it the answers: set strict" if told else _other(bench)),
    )


def _other(bench: Workspace) -> str:
    return (
        f": name another model at models.{'verifier' if bench.config.models.verifier else 'clip'}"
    )


def _row(bench: Workspace, attribute: str, row: dict) -> dict:
    """An edit that was not made: it asks for an infeasible phrase."""
    lists = phrase_bank.lists(bench.sample().bank, attribute, row["class_name"])
    options = lists["infeasible"]
    return {
        "attribute": attribute,
        "phrase": options[len(row["image_id"]) % len(options)],
        "class_name": row["class_name"],
        "image_id": row["image_id"],
        "k": 0,
        "feasibility": "infeasible",
    }


def _same(attribute: str, answers: pd.DataFrame, vlm: bool) -> Finding:
    """Unedited photographs are still the same object; a warning where a vision-language model
    cannot name some, whose edits are exempt (editing/exemption.py)."""
    share, least = float(answers["identity_passed"].mean()), NAMED if vlm else KEPT
    found = judged(
        "verifier",
        f"{attribute}, the photograph itself",
        share >= least,
        f"{share:.0%} are still the same object",
        f"at least {exemption.LEAST if vlm else least:.0%}",
        "the verifier says no to unedited photographs: it cannot tell these classes apart, or "
        "always says no; name another one, or lower verify.p_yes, verify.margin",
    )
    if found.status == "fail" or not vlm or share >= exemption.LEAST:
        return found
    words = "edits of the others are exempt from identity, and counted; another model names more"
    return replace(found, status="warn", remedy=words)


def _others(
    bench: Workspace, attribute: str, verifier: Verifier, val: pd.DataFrame, asked: tuple
) -> Iterator[Finding]:
    """Another object must not pass as this one, an unedited photograph not as edited."""
    pictures, rows, photographs = asked
    verify, labels = bench.config.verify, val["label"].to_numpy()
    other = [
        int(np.flatnonzero(labels != label)[i % (labels != label).sum()])
        if (labels != label).any()
        else -1
        for i, label in enumerate(labels)
    ]
    unedited = verifier.score(pictures, rows, photographs)
    share, most = float(unedited["attribute_passed"].mean()), min(verify.false_accept + ROOM, 0.9)
    yield judged(
        "verifier",
        f"{attribute}, an unedited photograph",
        share <= most,
        f"{share:.0%} pass for an infeasible phrase",
        f"at most {most:.0%}",
        "the verifier sees what is not there: it may say yes to anything; name another model, or "
        "lower verify.false_accept",
    )
    if min(other) < 0:
        return
    strange = [pictures[i] for i in other]
    bench.show("verifier", f"{rows[0]['class_name']}?", strange[0])
    answers = verifier.score(strange, rows, photographs)
    share, most = float(answers["identity_passed"].mean()), min(verify.false_identity + ROOM, 0.9)
    yield judged(
        "verifier",
        f"{attribute}, another object",
        share <= most,
        f"{share:.0%} pass as the same object",
        f"at most {most:.0%}",
        "the verifier does not see the object: it may say yes to anything; name another model, or "
        "lower verify.false_identity",
    )


def roles(config: StudyConfig) -> tuple[str, ...]:
    """What verifies."""
    return tuple(r for r in config.models.verifier_roles() if config.models.get(r))


CHECK = Check(
    "verifier",
    "Does the verifier tell right from wrong?",
    run,
    "see models.verifier; out of memory: quantization, a smaller verify.max_size, or kind: clip",
    roles,
)
