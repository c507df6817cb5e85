"""What a study would do, said before anything is loaded: models, jobs, images, hours, disk.

Reads the parameter file, phrase banks, tables and measured times that are there, nothing else: no
model, no data set, no network, and no torch. Every number says where it comes from; what nobody
measured and nothing can be derived from says "not measured".

    hours   results/<study>/runs.csv, where the study has been run; else the operations of each
            network (models.<role>.tflop) over `plan.tflops` a second, an estimate of its networks
            alone: decoding, disk and idle time come on top
    disk    pictures x pixels x 1.7 bytes (PNG, measured on 20 photographs of Pets)

Invariant (tests/unit/test_plan.py): a file that the study could not run with is refused here, with
the key, the value and what to do.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..core import storage
from ..core.attributes import ATTRIBUTES
from ..core.params import ParameterError, phrase_file
from ..data import registry
from ..training import recipes
from .summary import columns

BYTES = 1.7  # of a PNG, a pixel
MICRO_PIXELS = 128 * 128  # of the micro world; larger pictures are generated at 512 x 512
# Dense half-precision TFLOP/s by NVIDIA's data sheets; T4 in float16, the others in bfloat16
PEAKS = {"T4": 65, "A10": 125, "L40S": 362, "A100": 312, "H100 or H200": 989}


@dataclass(frozen=True)
class Job:
    """One line of the plan: `count` alike jobs that make `images` pictures in all (None: unknown).

    hours: of all of them, (low, high), or None where nobody knows; gb: on disk, or None.
    """

    stage: str
    what: str
    count: int = 1
    images: int | None = 0
    hours: tuple[float, float] | None = None
    source: str = ""
    gb: float | None = 0.0


def roles_of(params: dict[str, Any], attribute: str) -> tuple[str, ...]:
    """The roles that edits of an attribute need, by the editor that the parameters name."""
    editor = params["edit"].get("editor", "varireal")
    own = ("inpaint", "prior") if ATTRIBUTES[attribute].generates_prior else ("inpaint",)
    return {"img2img": ("prior",), "instruct": ("instruct",)}.get(editor, own)


def refined(params: dict[str, Any], attribute: str) -> bool:
    """Whether edits of an attribute have a second diffusion stage."""
    own = params["edit"][attribute].get("refine_steps", 0)
    return bool(own) and params["edit"].get("editor", "varireal") == "varireal"


def complete(params: dict[str, Any]) -> None:
    """Raise ParameterError for what the study lacks: a role, a local model, a phrase file."""
    where, models = params.get("_file", "parameters"), params["models"]
    needed = {"clip": "06_classify fine-tunes it (name, weights)"}
    for attribute in params["attributes"]:
        for role in roles_of(params, attribute):
            needed[role] = f"edits of {attribute} need it"
        if refined(params, attribute):
            needed["controlnet"] = f"edit.{attribute}.refine_steps is above 0; or set it to 0"
    _check_recipes(where, params)
    if recipes.generators(params["classify"]["recipes"]):
        if "datadream" not in params:
            raise ParameterError(
                f"{where}: datadream: got nothing, wanted its settings: recipes "
                "ask for it; add them, or take those recipes out"
            )
        if not models.get("datadream"):
            needed.setdefault("prior", "datadream adapts it")
    pair = {"detector", "segmenter"} & set(models)
    for role in ({"detector", "segmenter"} - pair) if pair else ():
        needed[role] = f"models.{min(pair)} is there; name both, or neither for GrabCut"
    for role, why in needed.items():
        if not models.get(role):
            raise ParameterError(
                f"{where}: models.{role}: got nothing, wanted a local folder or a hub id: {why}"
            )
    for role, spec in models.items():
        _check_model(where, role, spec, models)
    _check_inputs(where, params)
    if params.get("plan", {}).get("tflops", 1) <= 0:
        raise ParameterError(
            f"{where}: plan.tflops: got {params['plan']['tflops']!r}, wanted more than 0"
        )


def _check_inputs(where: str, params: dict[str, Any]) -> None:
    """The data sets' settings and their phrases."""
    if not Path(phrase_file(params)).is_file():
        raise ParameterError(
            f"{where}: prompts: got {params['prompts']!r}, which is not there; "
            "wanted a YAML file of phrases, as params/prompts/custom.yaml"
        )
    for dataset, spec in params["datasets"].items():
        try:
            family = registry.parse(dataset, spec).phrase_family(dataset)
        except ValueError as error:
            raise ParameterError(f"{where}: {error}") from error
        for attribute in params["attributes"]:
            if not phrases(params, dataset, attribute):
                raise ParameterError(
                    f"{where}: prompts: {params['prompts']} has no phrases of {attribute} for "
                    f"{family!r}; add them under families, or take "
                    f"{attribute!r} out of attributes"
                )


def _check_recipes(where: str, params: dict[str, Any]) -> None:
    for recipe in params["classify"]["recipes"]:
        try:
            recipes.parse(recipe)
        except ValueError as error:
            raise ParameterError(f"{where}: classify.recipes: {error}") from error


def _check_model(where: str, role: str, spec: dict, models: dict) -> None:
    if not any(spec.get(k) for k in ("path", "name", "role")):
        raise ParameterError(
            f"{where}: models.{role}.path: got nothing, wanted a local folder or "
            "a hub id (clip: name)"
        )
    if spec.get("role") and not models.get(spec["role"]):
        raise ParameterError(
            f"{where}: models.{role}.role: got {spec['role']!r}, wanted a role "
            f"that is there: {sorted(models)}"
        )
    if spec.get("kind") == "vlm" and not spec.get("path"):
        raise ParameterError(
            f"{where}: models.{role}.path: got nothing, wanted the folder or hub "
            "id of a vision-language model, for kind vlm"
        )
    local = _local(spec)
    if local is not None and not local.exists():
        raise ParameterError(
            f"{where}: models.{role}.path: got {str(local)!r}, which is not "
            "here; clone the repository with its models/ folder, or name a hub id"
        )


def _local(spec: dict) -> Path | None:
    """The folder of a model on this machine; None for one of the hub."""
    path = str(spec.get("path") or spec.get("name") or "").removeprefix("local-dir:")
    known = path.startswith(("models/", "./", "/")) or str(spec.get("name", "")).startswith("local")
    return Path(path) if path and (known or Path(path).is_dir()) else None


def models(params: dict[str, Any]) -> list[list[str]]:
    """A row for each model: role, name, revision, size in GB, licence, as text; a header first."""
    rows = [["role", "model", "revision", "GB", "licence"]]
    for role, spec in params["models"].items():
        if spec.get("role") and not spec.get("path"):
            rows.append([role, f"the model of role {spec['role']}", "-", "-", "-"])
            continue
        local, name = _local(spec), str(spec.get("path") or spec.get("name"))
        if local:
            size = sum(p.stat().st_size for p in local.rglob("*") if p.is_file()) / 1e9
            rows.append([role, name, "local", f"{size:.3f}", spec.get("licence") or _card(local)])
            continue
        revision = spec.get("revision", "main")
        pinned = len(revision) >= 7 and all(c in "0123456789abcdef" for c in revision)
        if spec.get("weights"):
            name, revision, pinned = f"{name} ({spec['weights']})", spec["weights"], True
        rows.append(
            [
                role,
                name,
                revision if pinned else f"{revision} (not pinned)",
                str(spec.get("size_gb", "not stated")),
                spec.get("licence", "not stated"),
            ]
        )
        if spec.get("vae"):
            rows.append(
                [
                    f"{role}.vae",
                    spec["vae"],
                    "main (not pinned)",
                    f"with {role}",
                    spec.get("vae_licence", "not stated"),
                ]
            )
    return [
        *rows,
        ["fallback", "GrabCut, where no mask is given or found", "OpenCV's", "0", "Apache-2.0"],
    ]


def _card(folder: Path) -> str:
    """The licence that a model card's front matter states."""
    card = folder / "README.md"
    lines = card.read_text(encoding="utf-8").splitlines()[:30] if card.is_file() else []
    stated = [line.split(":", 1)[1].strip() for line in lines if line.startswith("license:")]
    return stated[0] if stated else "not stated"


def sizes(params: dict[str, Any], dataset: str) -> tuple[dict[str, int] | None, int, str]:
    """(images of each split or None, number of classes or 0, where that is known from)."""
    table = storage.study_dir(params) / "data" / storage.slug(dataset) / "images.parquet"
    if table.exists():
        rows = storage.read_table(table)
        return (rows["split"].value_counts().to_dict(), int(rows["label"].nunique()), str(table))
    spec = registry.parse(dataset, params["datasets"][dataset])
    known = spec.sizes(registry.DATA_SETS[spec.source])
    return known or (None, 0, "unknown until 01_data has run")


def phrases(params: dict[str, Any], dataset: str, attribute: str) -> int:
    """How many different phrases the bank has for a data set, of both arms."""
    data = yaml.safe_load(Path(phrase_file(params)).read_text(encoding="utf-8"))
    family = registry.parse(dataset, params["datasets"][dataset]).phrase_family(dataset)
    found: set[str] = set()

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            for key, value in node.items():
                if not (key == "classes" and isinstance(value, list)):
                    walk(value)
        elif isinstance(node, list):
            found.update(map(str, node))

    walk(data.get("families", {}).get(family, {}).get(attribute, {}))
    return len(found)


def measured(params: dict[str, Any]) -> dict[tuple[str, str], float]:
    """(stage, what) -> seconds, of the study's own runs that results/ keeps."""
    path = Path("results") / storage.slug(params["study"]) / "runs.csv"
    if not path.is_file():
        return {}
    with open(path, newline="") as file:
        return {(r["stage"], r["what"]): float(r["seconds"]) for r in csv.DictReader(file)}


def edit_tflop(params: dict[str, Any], attribute: str, feasibility: str) -> float | None:
    """1e12 operations of the networks for one attempt at one edit; None where a role has no tflop.

    Guidance doubles each step, for the pass without a text; strength s of n steps runs s x n.
    """
    cost = {r: s.get("tflop") for r, s in params["models"].items()}
    own = dict(params["edit"][attribute])
    own |= (own.pop("arms", None) or {}).get(feasibility, {})
    editor = params["edit"].get("editor", "varireal")
    first = {
        "instruct": (1.5 * own["steps"], ("instruct",)),  # three passes a step, not two
        "img2img": (own["steps"] * own["strength"], ("prior",)),
    }
    parts = [first.get(editor, (own["steps"] * own["strength"], ("inpaint",)))]
    if refined(params, attribute):
        base = "refine" if "refine" in cost else "inpaint"
        parts.append((own["refine_steps"] * own["refine_strength"], (base, "controlnet")))
    if any(cost.get(r) is None for _, roles in parts for r in roles):
        return None
    return sum(2 * math.ceil(n) * sum(cost[r] for r in roles) for n, roles in parts)


def verify_tflop(params: dict[str, Any]) -> float | None:
    """1e12 operations of the verifier for one edit; None where nobody knows."""
    spec, verify = params["models"].get("verifier", {}), params["verify"]
    if spec.get("kind", "clip") == "clip":
        return 3 * c if (c := params["models"]["clip"].get("tflop")) else None
    asked = 4 if verify.get("rule") == "faithful" else 2 * (1 + verify.get("controls", 3)) + 2
    return asked * spec["tflop"] if spec.get("tflop") else None


def jobs(params: dict[str, Any]) -> list[Job]:
    """Every job of the study, alike ones in one line."""
    out = []
    for dataset in params["datasets"]:
        out += _of_dataset(params, dataset)
    return [*out, Job("07_claims", ""), Job("08_figures", "")]


def _of_dataset(params: dict[str, Any], dataset: str) -> list[Job]:
    known, classes, _ = sizes(params, dataset)
    spec, seconds = registry.parse(dataset, params["datasets"][dataset]), measured(params)
    picture = spec.pixels() * BYTES / 1e9
    train = known["train"] if known else None
    masks = train + known["val"] if known else None
    out = [
        Job(
            "01_data",
            dataset,
            images=sum(known.values()) if known else None,
            gb=sum(known.values()) * picture if known else None,
        ),
        Job("02_attributes", dataset),
        Job(
            "03_guidance",
            dataset,
            images=None if masks is None else 2 * masks,
            gb=None if masks is None else 0.1 * masks * picture,
        ),
    ]
    per = params["edit"]["images_per_real"]
    for attribute in params["attributes"]:
        for arm in ("feasible", "infeasible"):
            count = None if train is None else train * per
            out.append(
                Job(
                    "04_edit",
                    f"{attribute} {dataset} {arm}",
                    1,
                    count,
                    *_edit_hours(params, dataset, attribute, arm, count),
                    gb=None if count is None else count * picture,
                )
            )
    out += _dreams(params, dataset, classes, picture)
    out += _classifiers(params, dataset, classes)
    out.append(Job("07_quality", dataset))
    return [_timed(job, seconds) for job in out]


def _timed(job: Job, seconds: dict[tuple[str, str], float]) -> Job:
    """The job with the hours that results/ has measured, where it has."""
    found = seconds.get((job.stage, job.what))
    if found is None:
        return job
    return Job(job.stage, job.what, job.count, job.images, (found / 3600,) * 2, "measured", job.gb)


def _estimate(
    params: dict[str, Any], low: float | None, high: float | None = None
) -> tuple[tuple[float, float] | None, str]:
    """Hours for 1e12 operations, and the word for where they come from."""
    if low is None or "plan" not in params:
        return None, "not measured"
    speed = params["plan"]["tflops"] * 3600
    return (low / speed, (low if high is None else high) / speed), "estimate"


def _edit_hours(
    params: dict[str, Any], dataset: str, attribute: str, arm: str, count: int | None
) -> tuple[tuple[float, float] | None, str]:
    """All edits at one attempt each, and at the most that the parameters allow."""
    make, check = edit_tflop(params, attribute, arm), verify_tflop(params)
    if count is None or make is None or check is None:
        return _estimate(params, None)
    own, priors = params["edit"][attribute], 0.0
    if ATTRIBUTES[attribute].generates_prior:
        cost = params["models"]["prior"].get("tflop")
        if cost is None:
            return _estimate(params, None)
        priors = (
            phrases(params, dataset, attribute)
            / 2
            * params["edit"]["prior_variants"]
            * own["prior_steps"]
            * 2
            * cost
        )
    one = count * (make + check)
    return _estimate(params, one + priors, one * params["edit"]["max_attempts"] + priors)


def _dreams(params: dict[str, Any], dataset: str, classes: int, picture: float) -> list[Job]:
    """DataDream: training forwards and backwards (3 passes), then generation with guidance; its
    baselines generate only."""
    names = recipes.generators(params["classify"]["recipes"])
    own, role = params.get("datadream"), params["models"].get("datadream")
    cost, out = (role or params["models"].get("prior", {})).get("tflop"), []
    for variant in names:
        count = classes * own["images_per_class"] or None
        learning = 3 * own["epochs"] * own["shots"] if variant in recipes.ADAPTED else 0
        drawn = own["images_per_class"] * (own.get("candidates", 2) if variant == "untuned" else 1)
        work = (
            None
            if cost is None or not classes
            else cost * classes * (learning + 2 * drawn * own["steps"])
        )
        pixels = 512 * 512 * BYTES / 1e9 if picture > MICRO_PIXELS * BYTES / 1e9 else picture
        out.append(
            Job(
                "05_datadream",
                f"{dataset} {variant}",
                1,
                count,
                *_estimate(params, work),
                gb=None if count is None else count * pixels,
            )
        )
    return out


def _classifiers(params: dict[str, Any], dataset: str, classes: int) -> list[Job]:
    """Jobs as the Snakefile makes them: a recipe and seed, a seed, or all at once."""
    own, cost = params["classify"], params["models"]["clip"]
    trained = [r for r in own["recipes"] if r.replace(" ", "") != "zero_shot"]
    work = None
    if cost.get("tflop") and cost.get("tflop_text") and classes:
        work = 3 * own["steps"] * (own["batch_size"] * cost["tflop"] + classes * cost["tflop_text"])
    seeds = own["seeds"]
    if own["job"] == "recipe":
        return [
            Job(
                "06_classify",
                f"{dataset} {r} seeds {' '.join(map(str, s))}",
                len(s),
                0,
                *_estimate(params, work * len(s) if work and r in trained else None),
                gb=None,
            )
            for r in own["recipes"]
            for s in [seeds if r in trained else seeds[:1]]
        ]
    parts = [str(s) for s in seeds] if own["job"] == "seed" else [""]
    runs = len(trained) * (1 if own["job"] == "seed" else len(seeds))
    return [
        Job(
            "06_classify",
            f"{dataset} {p}".strip(),
            1,
            0,
            *_estimate(params, None if work is None else work * runs),
            gb=None,
        )
        for p in parts
    ]


def report(params: dict[str, Any]) -> str:
    """The plan as text. Raises ParameterError as `complete` does."""
    complete(params)
    lines = [
        f"study {params['study']} ({params['_file']}), protocol {params['protocol']}",
        "",
        "models (nothing is loaded):",
        *columns(models(params), 64),
        "",
    ]
    for dataset in params["datasets"]:
        known, classes, source = sizes(params, dataset)
        splits = ", ".join(f"{n:,} {s}" for s, n in known.items()) if known else "images unknown"
        lines.append(f"{dataset}: {splits}; {classes or '?'} classes ({source})")
    todo = jobs(params)
    rows = [["stage", "what", "jobs", "images", "hours", "from", "GB"]]
    rows += [
        [
            j.stage,
            j.what,
            str(j.count),
            _count(j.images),
            _hours(j.hours),
            j.source or "not measured",
            _gb(j.gb),
        ]
        for j in todo
    ]
    return "\n".join(
        [
            *lines,
            "",
            "jobs:",
            *columns(rows, 56),
            "",
            *_total(params, todo),
            *_what_if(params, todo),
        ]
    )


def _count(images: int | None) -> str:
    return "?" if images is None else f"{images:,}" if images else "-"


def _hours(hours: tuple[float, float] | None) -> str:
    if hours is None:
        return "?"
    low, high = (f"{h:,.0f}" if h >= 10 else f"{h:.2g}" for h in hours)
    return low if low == high else f"{low} to {high}"


def _gb(gb: float | None) -> str:
    return "?" if gb is None else "-" if not gb else f"{gb:.1f}" if gb >= 0.05 else "under 0.1"


def _total(params: dict[str, Any], todo: list[Job]) -> list[str]:
    """Sums, with what they leave out."""
    edits = [j.images for j in todo if j.stage == "04_edit"]
    known = [j.hours for j in todo if j.hours]
    sums = tuple(sum(h[i] for h in known) for i in (0, 1))
    weights = sum(s.get("size_gb", 0) for s in params["models"].values())
    disk, unknown = sum(j.gb or 0 for j in todo), sum(j.gb is None for j in todo)
    missing = sum(j.count for j in todo if not j.hours)
    lines = [
        f"{sum(j.count for j in todo)} jobs; edited images "
        f"{_count(None if None in edits else sum(edits))}"
    ]
    if known:
        words = {j.source for j in todo if j.hours}
        lines.append(
            f"GPU hours: {_hours(sums)} ({', '.join(sorted(words))}; {missing} jobs not "
            "measured). Low: every edit passes at once; high: every attempt is used."
        )
        if "estimate" in words:
            lines.append(
                f"  estimate: operations of the networks / {params['plan']['tflops']:g} "
                f"TFLOP/s ({params['plan']['source']})"
            )
        if "measured" in words:
            lines.append(
                f"  measured: results/{storage.slug(params['study'])}/runs.csv, on the "
                "machine that made it"
            )
    else:
        lines.append(
            "GPU hours: not measured; params have no `plan`, and results/ no runs of this study"
        )
    lines.append(
        f"disk: at most {disk:,.1f} GB of pictures (estimate: {BYTES} bytes a pixel of "
        f"PNG), {weights:,.1f} GB of weights from the hub; not counted: {unknown} jobs"
    )
    return lines


def _what_if(params: dict[str, Any], todo: list[Job]) -> list[str]:
    """What other choices would cost: fewer edits, another GPU, many GPUs at once."""
    known = [j for j in todo if j.hours]
    if not known:
        return []
    sums = [sum(j.hours[i] for j in known) for i in (0, 1)]
    edits = [sum(j.hours[i] for j in known if j.stage == "04_edit") for i in (0, 1)]
    images = [j for j in todo if j.stage == "04_edit" and j.images]
    rows = [["what if", "GPU hours", "GB of pictures"]]
    disk = sum(j.gb or 0 for j in todo)
    if images:
        rows.append(
            [
                "half the edits (edit.images_per_real, or fewer photographs)",
                _hours((sums[0] - edits[0] / 2, sums[1] - edits[1] / 2)),
                _gb(disk - sum(j.gb or 0 for j in images) / 2),
            ]
        )
    estimated = [j for j in known if j.source == "estimate"]
    if estimated and "plan" in params:
        share = params["plan"]["tflops"]
        for gpu, peak in PEAKS.items():
            factor = share / (0.4 * peak)
            rows.append(
                [
                    f"{gpu}, at 40 % of {peak} TFLOP/s",
                    _hours((sums[0] * factor, sums[1] * factor)),
                    _gb(disk),
                ]
            )
    longest = max(j.hours[1] / j.count for j in known)
    for count in (4, 16):
        rows.append(
            [
                f"{count} GPUs at once, edit.shards {count}",
                f"{_hours((sums[0] / count, max(sums[1] / count, longest / count)))} "
                "on the clock at best",
                _gb(disk),
            ]
        )
    return ["", *columns(rows)]
