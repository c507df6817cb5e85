# The graph of a study. Its only commands are the runner's: python -m varireal_utils run STAGE ...
# A notebook counts by the digest of its cells (`params`), not as a file (`input`): saving it in
# JupyterLab reruns nothing. Each stage's output is its run.json, which it writes last.
import json
import shlex
import sys
from pathlib import Path

from varireal_utils.workflow import study as graph
from varireal_utils.core.params import load_params
from varireal_utils.workflow.runner import split_settings
from varireal_utils.core.storage import slug, study_dir, unslug

FILE = config.get("params", "params/micro.yaml")
_, OVERRIDES = split_settings(config.get("settings", []), {}, load_params(FILE), FILE)
NOTEBOOKS = config.get("notebooks", "notebooks")
P = load_params(FILE, OVERRIDES)
S = study_dir(P).as_posix()
DATASETS = [slug(name) for name in P["datasets"]]
SEEDS, JOB = P["classify"]["seeds"], P["classify"]["job"]
PARTS = {"dataset": [""], "seed": [f"/seed{k}" for k in SEEDS],
         "recipe": [f"/{slug(r)}/seed{k}" for r in P["classify"]["recipes"]
                    for k in (SEEDS[:1] if r == "zero_shot" else SEEDS)]}[JOB]
CLASSIFIED = [f"{S}/classify/{d}{part}/run.json" for d in DATASETS for part in PARTS]
EDITED = [f"{S}/edits/{d}/{attribute}/{arm}/run.json" for d in DATASETS
          for attribute in P["attributes"] for arm in ("feasible", "infeasible")]
QUALITY = [f"{S}/quality/{d}/run.json" for d in DATASETS]
DREAMED = [f"{S}/datadream/{d}/{v}/run.json" for d in DATASETS for v in graph.dreamed(P)]
THREADS = P.get("job_threads") or workflow.cores or 8


def command(stage):
    words = [sys.executable, "-m", "varireal_utils", "run", stage, "--notebooks", NOTEBOOKS,
             "--params", FILE]
    if OVERRIDES:
        words += ["--set", f"overrides={json.dumps(OVERRIDES)}"]
    return f"OMP_NUM_THREADS={THREADS} {shlex.join(words)}"


def needs(stage):
    """What makes a stage run again: the notebook's cells and the parameters that it reads."""
    return lambda wildcards: graph.needs(
        stage, P, Path(NOTEBOOKS), dataset=unslug(getattr(wildcards, "dataset", "")),
        attribute=getattr(wildcards, "attribute", ""))


def setting(key):
    return lambda wildcards: shlex.quote(f"{key}={unslug(wildcards[key])}")


def made(wildcards):
    """The edited and generated images that a recipe, or the whole study, is trained on."""
    recipe = unslug(wildcards.get("recipe", ""))
    return [f"{S}/datadream/{wildcards.dataset}/{variant}/run.json"
            for variant in graph.dreamed(P, recipe)] + [
            f"{S}/edits/{wildcards.dataset}/{attribute}/{arm}/run.json"
            for attribute in graph.edited(P, recipe)
            for arm in ("feasible", "infeasible")]


def made_for_all(wildcards):
    """Every edited and generated image of a data set."""
    return [p for p in EDITED + DREAMED if p.split("/")[-4 if p in EDITED else -3]
            == wildcards.dataset]


def shards(wildcards):
    """The parts that an arm is collected from; none where one job makes it."""
    count = P["edit"].get("shards", 1)
    return [f"{S}/edits/{wildcards.dataset}/{wildcards.attribute}/{wildcards.feasibility}/shards/"
            f"{number}of{count}/run.json" for number in range(1, count + 1) if count > 1]


wildcard_constraints:
    dataset="[^/]+", attribute="[^/]+", feasibility="feasible|infeasible", recipe="[^/]+",
    seed="[0-9]+", part="[0-9]+", parts="[0-9]+", variant="cls|dset|untuned|img2img"

localrules: all

# Every record is asked for by name: a figure that is there must not hide a stage that is not.
rule all:
    input:
        [f"{S}/{stage}/{d}/run.json" for stage in ("data", "attributes", "guidance")
         for d in DATASETS],
        [f"{S}/edits/{d}/{a}/{arm}/run.json" for d in DATASETS for a in P["attributes"]
         for arm in ("feasible", "infeasible")],
        DREAMED, CLASSIFIED, QUALITY, f"{S}/results/run.json", f"{S}/figures/run.json"

rule data:
    output: f"{S}/data/{{dataset}}/run.json"
    params: needs=needs("01_data"), run=command("01_data"), dataset=setting("dataset")
    shell: "{params.run} --set {params.dataset}"

rule attributes:
    input: rules.data.output
    output: f"{S}/attributes/{{dataset}}/run.json"
    params: needs=needs("02_attributes"), run=command("02_attributes"), dataset=setting("dataset")
    shell: "{params.run} --set {params.dataset}"

rule guidance:
    input: rules.data.output
    output: f"{S}/guidance/{{dataset}}/run.json"
    params: needs=needs("03_guidance"), run=command("03_guidance"), dataset=setting("dataset")
    shell: "{params.run} --set {params.dataset}"

rule edit_shard:  # a part of an arm, for a cluster: edit.shards
    input: rules.data.output, rules.attributes.output, rules.guidance.output
    output: f"{S}/edits/{{dataset}}/{{attribute}}/{{feasibility}}/shards/{{part}}of{{parts}}/run.json"
    params:
        needs=needs("04_edit"), run=command("04_edit"), dataset=setting("dataset"),
        attribute=setting("attribute"), feasibility=setting("feasibility")
    threads: THREADS
    shell:
        "{params.run} --set {params.dataset} --set {params.attribute} --set {params.feasibility} "
        "--set shard={wildcards.part}/{wildcards.parts}"

rule edit:
    input: rules.data.output, rules.attributes.output, rules.guidance.output, shards
    output: f"{S}/edits/{{dataset}}/{{attribute}}/{{feasibility}}/run.json"
    params:
        needs=needs("04_edit"), run=command("04_edit"), dataset=setting("dataset"),
        attribute=setting("attribute"), feasibility=setting("feasibility")
    threads: THREADS
    shell:
        "{params.run} --set {params.dataset} --set {params.attribute} --set {params.feasibility}"

rule datadream:
    input: rules.data.output
    output: f"{S}/datadream/{{dataset}}/{{variant}}/run.json"
    priority: 1  # the longest job: begun late, it would run on beside an idle core
    params:
        needs=needs("05_datadream"), run=command("05_datadream"), dataset=setting("dataset"),
        variant=setting("variant")
    threads: THREADS
    shell: "{params.run} --set {params.dataset} --set {params.variant}"

rule classify:  # every recipe and seed of a data set in one kernel: models load once
    input: rules.data.output, made
    output: f"{S}/classify/{{dataset}}/run.json"
    params: needs=needs("06_classify"), run=command("06_classify"), dataset=setting("dataset")
    threads: THREADS
    shell: "{params.run} --set {params.dataset}"

rule classify_seed:  # every recipe with one seed
    input: rules.data.output, made
    output: f"{S}/classify/{{dataset}}/seed{{seed}}/run.json"
    params:
        needs=needs("06_classify"), run=command("06_classify"), dataset=setting("dataset"),
        seed=setting("seed")
    threads: THREADS
    shell: "{params.run} --set {params.dataset} --set {params.seed}"

rule classify_one:  # one recipe and seed a job, for a cluster
    input: rules.data.output, made
    output: f"{S}/classify/{{dataset}}/{{recipe}}/seed{{seed}}/run.json"
    params:
        needs=needs("06_classify"), run=command("06_classify"), dataset=setting("dataset"),
        recipe=setting("recipe"), seed=setting("seed")
    threads: THREADS
    shell: "{params.run} --set {params.dataset} --set {params.recipe} --set {params.seed}"

rule quality:  # how well each arm of a data set was edited
    input: rules.data.output, rules.guidance.output, made_for_all
    output: f"{S}/quality/{{dataset}}/run.json"
    params: needs=needs("07_quality"), run=command("07_quality"), dataset=setting("dataset")
    threads: THREADS
    shell: "{params.run} --set {params.dataset}"

rule claims:
    input: CLASSIFIED, EDITED, QUALITY
    output: f"{S}/results/run.json"
    params: needs=needs("07_claims"), run=command("07_claims")
    shell: "{params.run}"

rule figures:
    input: rules.claims.output
    output: f"{S}/figures/run.json"
    params: needs=needs("08_figures"), run=command("08_figures")
    shell: "{params.run}"
