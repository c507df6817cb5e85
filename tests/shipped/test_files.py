"""Every shipped parameter file goes through its whole graph, from 01_data to the figures.

Its models are random ones of the real classes, found under their real ids in a hub's cache
(hub.py); its data sets are a few pictures in their real layouts (data_layouts.py); its numbers are
small (small.py); all else is the file's own. A new file under params/ is taken by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests import wordserver
from tests.conftest import ROOT
from tests.shipped import hub, small
from tests.shipped.whole_graph import Server
from varireal_utils.core import storage
from varireal_utils.core.config import StudyConfig, load_config, merged
from varireal_utils.data.shots import few_shot
from varireal_utils.workflow import stages

FILES = sorted(ROOT.glob("params/*.yaml"))
STUDIES = [file for file in FILES if merged(file)["datasets"]]
OTHER_CARDS = [file for file in STUDIES if file.stem.startswith("weekend16_")]
TEXTURE = ["zero_shot", "real", "edit(texture,feasible)", "edit(texture,infeasible)"]


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    """A process that runs files; it sees the tiny checkpoints and no network."""
    home = tmp_path_factory.mktemp("hub")
    hub.fill(home / "hub")
    with Server(hub.environment(home)) as started:
        yield started


@pytest.fixture(autouse=True)
def at_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def through(server: Server, file: Path) -> StudyConfig:
    """Run a file whole; its configuration. Prints the seconds of each job."""
    log = file.with_suffix(".log")
    code = server.run(file, log)
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    assert not code, "\n".join(lines[-100:])
    print(*[line for line in lines if line.startswith(("-- ", file.name))], sep="\n")
    return load_config(file)


def check(config: StudyConfig) -> None:
    """What must be true of a whole study whatever its numbers are."""
    names = {job.stage.name for job in stages.jobs(config)}
    edits = {"02_attributes", "03_guidance", "04_edit"}
    assert edits <= names if config.attributes else not edits & names
    for job in stages.jobs(config):
        record = storage.read_json(job.record)
        assert record["finished"] is True, job.name
        if job.stage.name == "04_edit" and not job.parts() and config.edit.compose:
            assert record["metrics"]["changed_outside"] == 0, job.name
    tables = config.paths.results
    accuracy = storage.read_table(tables / "main_table.csv")
    assert accuracy["mean"].between(0, 100).all() and len(accuracy)
    for path in tables.glob("*.csv"):
        storage.read_table(path)  # every table can be read again, an empty one too
    assert (config.paths.figures / "accuracy_by_arm.png").is_file()
    if config.classify.real == "shots" and config.datadream:
        shots_on_both_sides(config)


def shots_on_both_sides(config: StudyConfig) -> None:
    """The photographs of `real` are the list that the adapters saw."""
    for name in config.datasets:
        images = storage.read_table(config.paths.images_table(name))
        few = few_shot(images, config.datadream.shots, config.seed)["image_id"].tolist()
        for variant in ("cls", "dset"):
            folder = config.paths.datadream(name, variant)
            assert storage.read_table(folder / "few_shot.csv")["image_id"].tolist() == few
        metrics = storage.read_json(config.paths.metrics(name, "real", config.classify.seeds[0]))
        assert metrics["n_train_images"] == len(few) < (images["split"] == "train").sum()


def test_a_file_without_a_data_set_says_that_it_is_no_study() -> None:
    for file in set(FILES) - set(STUDIES):
        assert "Not a study by itself" in file.read_text(), file.name


def test_every_hub_id_of_a_shipped_file_has_a_tiny_checkpoint() -> None:
    known = {*hub.MAKE, *hub.REFINER, hub.VAE, hub.FEW_STEPS}
    for file in STUDIES:
        given = {r: s for r, s in merged(file)["models"].items() if s}  # null takes a role away
        for role, spec in given.items():
            ids = {spec.get(key) for key in ("path", "vae", "lora")} - {None, ""}
            ids = {i for i in ids if not Path(i).is_dir()}
            assert ids <= known, f"{file.name}: models.{role}: tests/shipped/hub.py lacks {ids}"


@pytest.mark.parametrize("file", OTHER_CARDS, ids=lambda file: file.stem)
def test_a_file_for_another_card_is_the_same_study_at_this_size(file: Path) -> None:
    """So that it goes through where the other does."""
    assert small.same_study(file, file.with_name(file.name.replace("weekend16", "weekend")))
    assert not small.same_study(file, ROOT / "params/paper_oxford_pets.yaml")


@pytest.mark.slow
def test_datadream_goes_through_its_whole_graph_without_an_edit(server, tmp_path: Path) -> None:
    check(through(server, small.small(ROOT / "params/datadream_dtd.yaml", tmp_path)))


@pytest.mark.slow
def test_the_papers_models_edit_one_attribute(server, tmp_path: Path) -> None:
    """Texture uses them all: prior, inpainting, ControlNet, IP-Adapter, detector, verifier. Two
    shards an arm: elsewhere one."""
    texture = small.small(ROOT / "params/paper_oxford_pets.yaml", tmp_path)
    values = yaml.safe_load(texture.read_text()) | {"attributes": ["texture"]}
    values["edit"]["shards"] = 2
    values["classify"] |= {"recipes": TEXTURE, "job": "dataset"}
    texture.write_text(yaml.safe_dump(values, sort_keys=False))
    check(through(server, texture))


@pytest.mark.slow
@pytest.mark.parametrize(
    "file", [f for f in STUDIES if f not in OTHER_CARDS], ids=lambda file: file.stem
)
def test_every_file_goes_through_its_whole_graph(server, tmp_path: Path, file: Path) -> None:
    with wordserver.serve() as words:
        prompts = merged(file)["prompts"]
        own = {} if isinstance(prompts, str) else {"prompts": asked_of(prompts, words.url)}
        check(through(server, small.small(file, tmp_path, **own)))


def asked_of(prompts: dict, url: str) -> dict:
    """The section with a local server's address, and few phrases, as the server knows them."""
    models = {role: prompts[role] | {"url": url} for role in ("model", "judge")}
    return prompts | models | {"counts": dict.fromkeys(prompts["counts"], 2)}
