"""Block of docs/results.md: the published figures, each with the question that it answers."""

from __future__ import annotations

from pathlib import Path

from ..core import shown

QUESTIONS = {
    "claim_forest": "which claims are decided, and how sure are their numbers?",
    "effect_forest": "how large is the effect for each data set and attribute?",
    "accuracy_by_arm": "how accurate is each arm?",
    "qualitative_grid": "what do the edits look like?",
    "pipeline_strip": "how is an edit made?",
    "decomposition": "how much is feasibility, how much familiarity, how much the editor?",
    "true_effects": "how are the true effects spread behind their noise?",
    "edited_test": "how do classifiers of photographs take edited test photographs?",
    "generated_grid": "what does DataDream draw before and after adaptation?",
    "effect_by_protocol": "do unequal arms, or filtering, change the effect?",
    "infeasible_share": "what if only a part of the edits is infeasible?",
    "accuracy_by_shots": "what if there are fewer photographs?",
    "effect_by_class": "does feasibility matter for some classes?",
    "quality_balance": "is one arm edited less well?",
    "acceptance": "does the verifier treat both arms alike?",
    "embedding_map": "how far are edits from photographs?",
    "learning_curves": "did the trainings converge?",
    "cost": "what did it cost?",
}


def listed(root: Path, up: str) -> str:
    """A row for each figure that figures/ or the folder of a further study there holds, with every
    study that has it; of the learning curves one data set's."""
    lines = ["| figure | answers | of further studies |", "|---|---|---|"]
    for name, question in QUESTIONS.items():
        homes = ["figures", *(f"figures/{study}" for study in shown.names(root)[1:])]
        found = [max(p) for h in homes if (p := sorted((root / h).glob(f"{name}*.png")))]
        if found:
            first, *others = found
            more = ", ".join(f"[{p.parent.name}]({_link(p, root, up)})" for p in others)
            title = f"[{name.replace('_', ' ')}]({_link(first, root, up)})"
            lines.append(f"| {title} | {question} | {more} |")
    return "\n".join(lines)


def _link(path: Path, root: Path, up: str) -> str:
    return f"{up}{path.relative_to(root).as_posix()}"
