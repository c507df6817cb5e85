"""What a study would do, said before anything is loaded: models, jobs, images, hours, disk.

Reads the configuration, phrase files, tables and measured times that are there, nothing else: no
model, no data set, no network; torch is imported with open_clip alone, for its table of weights.

Invariant (tests/unit/test_plan.py): a file that the study could not run with is refused here, with
the key, the value and what to do; what nobody measured is not made up.
"""

from __future__ import annotations

from ..analysis import claim_file
from ..core import storage
from ..core.config import StudyConfig
from . import memory, model_table, pixels
from .completeness import complete
from .cost import BYTES, Hours, Job, jobs, sizes
from .rates import PEAKS, of_card, rates
from .summary import columns


def report(config: StudyConfig) -> str:
    """The plan as text. Raises ParameterError as `complete` does."""
    complete(config)
    lines = [
        f"study {config.study} ({config.file}), protocol {config.protocol}",
        "",
        "models (nothing is loaded):",
        *columns(model_table.rows(config.models), 64),
        "",
    ]
    for dataset in config.datasets:
        known, classes, source = sizes(config, dataset)
        splits = ", ".join(f"{n:,} {s}" for s, n in known.items()) if known else "images unknown"
        lines.append(f"{dataset}: {splits}; {classes or '?'} classes ({source})")
    todo = jobs(config)
    rows = [["stage", "what", "jobs", "images", "hours", "from", "GB"]]
    for j in todo:
        source = f"{j.source or 'not measured'}{' of ' if j.kinds else ''}{', '.join(j.kinds)}"
        cells = [str(j.count), _count(j.images), _hours(j.hours), source, _gb(j.gb)]
        rows.append([j.stage, j.what, *cells])
    lines += ["", "jobs:", *columns(rows, 56), ""]
    lines += [*pixels.lines(config, todo), *_claims(config)]
    lines += [*_memory(config), *_total(config, todo), *what_if(config, todo)]
    return "\n".join(lines)


def _claims(config: StudyConfig) -> list[str]:
    """The claims whose arms the study does not train, with those that each lacks."""
    listed = claim_file.chosen(claim_file.load(), config.claims.only)
    missing = claim_file.lacking(listed, config.classify.recipes)
    if not missing:
        return [f"claims: every arm of all {len(listed)} is trained", ""]
    lines = [f"claims: {len(listed) - len(missing)} of {len(listed)} have all of their arms; not"]
    return [*lines, *(f"  {claim}: {', '.join(names)}" for claim, names in missing.items()), ""]


def _memory(config: StudyConfig) -> list[str]:
    """Peak memory of each phase, and whether it fits on the card that the file names."""
    rows = [["stage", "phase", "holds", "weights GB", "at work GB", "peak GB"]]
    for p in memory.peaks(config):
        numbers = [_known(p.weights), _known(p.working), _known(p.gb)]
        rows.append([p.stage, p.phase, p.roles, *numbers])
    most, own = memory.peak_gb(config), config.plan
    lines = ["GPU memory (computed on fake tensors at the true sizes; nothing is loaded):"]
    lines += columns(rows, 56)
    if most is None:
        lines.append("  a peak is not known: an architecture is none of architectures.yaml")
    elif own and own.card_gb:
        word = "fits" if memory.fits(most, own.card_gb) else "DOES NOT FIT"
        lines.append(
            f"  peak {most:.1f} GB: {word} on {own.card or 'a card'} of {own.card_gb:g} GB"
        )
    return [*lines, ""]


def _known(gb: float | None) -> str:
    return "not known" if gb is None else f"{gb:.1f}"


def _count(images: int | None) -> str:
    return "?" if images is None else f"{images:,}" if images else "-"


def _hours(hours: Hours | None) -> str:
    if hours is None:
        return "?"
    low, high = (f"{h:,.0f}" if h >= 10 else f"{h:.2g}" for h in hours)
    return low if low == high else f"{low} to {high}"


def _gb(gb: float | None) -> str:
    return "?" if gb is None else "-" if not gb else f"{gb:.1f}" if gb >= 0.05 else "under 0.1"


def _summed(found: list[Job]) -> Hours:
    """Hours of all jobs for which they are known."""
    known = [job.hours for job in found if job.hours]
    return sum(h[0] for h in known), sum(h[1] for h in known)


def total_hours(todo: list[Job]) -> str:
    """GPU hours of all jobs for which they are known, in words."""
    return _hours(_summed(todo))


def _total(config: StudyConfig, todo: list[Job]) -> list[str]:
    """Sums, with what they leave out."""
    edits = [j.images for j in todo if j.stage == "04_edit"]
    images = None if None in edits else sum(n or 0 for n in edits)
    lines = [f"{sum(j.count for j in todo)} jobs; edited images {_count(images)}"]
    words = {j.source for j in todo if j.hours}
    if words:
        missing = sum(j.count for j in todo if not j.hours)
        lines.append(
            f"GPU hours: {total_hours(todo)} ({', '.join(sorted(words))}; {missing} jobs not "
            "measured). Low: every edit passes at once; high: every attempt is used."
        )
    else:
        lines.append(
            "GPU hours: not measured; params have no `plan`, and results/ no runs of this study"
        )
    if "estimate" in words and config.plan:
        on = f" on one {config.plan.card}" if config.plan.card else ""
        lines.append(f"  estimate{on}: operations of the networks over the rate of their kind")
        classes = max((sizes(config, d)[1] for d in config.datasets), default=0)
        kinds = {kind for j in todo for kind in j.kinds}
        lines += [
            f"    {kind}: {rate.tflops:.0f} TFLOP/s, {rate.source}"
            for kind, rate in rates(config, classes).items()
            if kind in kinds
        ]
    if "measured" in words:
        lines.append(
            f"  measured: results/{storage.slug(config.study)}/runs.csv, on the "
            "machine that made it"
        )
    models = config.models.present().values()  # two roles of one repository: one download
    weights = sum({(s.path or s.name, s.variant): s.size_gb or 0 for s in models}.values())
    disk, unknown = sum(j.gb or 0 for j in todo), sum(j.gb is None for j in todo)
    lines.append(
        f"disk: at most {disk:,.1f} GB of pictures (estimate: {BYTES} bytes a pixel of "
        f"PNG), {weights:,.1f} GB of weights from the hub; not counted: {unknown} jobs"
    )
    return lines


def what_if(config: StudyConfig, todo: list[Job]) -> list[str]:
    """What other choices would cost: fewer edits, another GPU, many GPUs at once."""
    known = [(j, j.hours) for j in todo if j.hours]
    if not known:
        return []
    low, high = _summed(todo)
    edits = [j for j in todo if j.stage == "04_edit"]
    disk = sum(j.gb or 0 for j in todo)
    rows = [["what if", "GPU hours", "GB of pictures"]]
    if any(j.images for j in edits):
        of_edits, pictures = _summed(edits), sum(j.gb or 0 for j in edits if j.images)
        rows.append(
            [
                "half the edits (edit.images_per_real, or fewer photographs)",
                _hours((low - of_edits[0] / 2, high - of_edits[1] / 2)),
                _gb(disk - pictures / 2),
            ]
        )
    rows += [[card, _hours(h), _gb(disk)] for card, h in other_cards(config, todo).items()]
    longest = max(hours[1] / j.count for j, hours in known)
    for count in (4, 16):
        hours = _hours((low / count, max(high / count, longest / count)))
        what = f"{count} GPUs at once, edit.shards {count}"
        rows.append([what, f"{hours} on the clock at best", _gb(disk)])
    return ["", *columns(rows)]


def other_cards(config: StudyConfig, todo: list[Job]) -> dict[str, Hours]:
    """Card -> hours of the same study on it, measured jobs left out."""
    out: dict[str, Hours] = {}
    if config.plan is None or not config.plan.card:
        return out
    for names in PEAKS:
        if not of_card(names, config.edit.batch_size):
            continue
        own = config.plan.model_copy(update={"card": names, "tflops": None})
        there = jobs(config.model_copy(update={"plan": own}))
        if any(j.source == "estimate" for j in there):
            out[names] = _summed([j for j in there if j.source == "estimate"])
    return out
