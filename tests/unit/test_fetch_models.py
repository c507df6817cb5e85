"""fetch-models: what is listed, fetched, pinned; how a gate, a mirror and no network are met."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys

import huggingface_hub
import pytest
import torch
from huggingface_hub import constants

from tests import checkpoints, hubserver
from tests.conftest import ROOT
from varireal_utils import __main__ as command_line
from varireal_utils.core import model_lock
from varireal_utils.core.config import ParameterError, digest, load_config
from varireal_utils.core.config_prompts import LlmPrompts
from varireal_utils.core.config_sections import ModelRoles, ModelSpec
from varireal_utils.models import fetch, hub_cache, hub_parts, loaders
from varireal_utils.preflight.checks import weights
from varireal_utils.preflight.workspace import Workspace

A, B = "a" * 40, "b" * 40
BASES = ("paper.yaml", "datadream.yaml", "weekend.yaml")  # included by others, no studies
NAMES = sorted({p.name for p in (ROOT / "params").glob("*.yaml")} - set(BASES))


def named(folder) -> dict[str, bytes]:
    """The files of a folder by name."""
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """Repository -> its files: those that are loaded, and others that are not."""
    folder = tmp_path_factory.mktemp("weights")
    checkpoints.sdxl_inpaint(folder / "inpaint")
    checkpoints.autoencoder().save_pretrained(folder / "vae", safe_serialization=True)
    checkpoints.lora(folder / "inpaint", folder / "lora")
    pipeline = named(folder / "inpaint")
    loaded = {n for n in pipeline if not n.startswith("vae/") and not n.startswith(".")}
    half = "unet/diffusion_pytorch_model.fp16.safetensors"
    others = ["safety_checker/model.safetensors", "all.safetensors", half, "unet/model.onnx"]
    pipeline |= dict.fromkeys([*others, "README.md", "unet/diffusion_pytorch_model.bin"], b"x")
    repositories = {"acme/inpaint": pipeline}
    repositories |= {f"acme/{n}": named(folder / n) for n in ("vae", "lora")}
    return repositories, loaded


@pytest.fixture
def hub(content, tmp_path, monkeypatch):
    """A hub with the repositories; its cache is empty."""
    monkeypatch.chdir(ROOT)
    with hubserver.serve() as server:
        for name, files in content[0].items():
            server.repositories[name] = hubserver.Repository({"main": A}, {A: files})
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "home/hub"))
        yield server


def settings(tmp_path) -> dict:
    inpaint = {"path": "acme/inpaint", "vae": "acme/vae", "lora": "acme/lora", "licence": "mine"}
    return {"runs_dir": str(tmp_path / "runs"), "models.inpaint": inpaint}


def configured(tmp_path, locked=True):
    return load_config("params/micro.yaml", settings(tmp_path), locked=locked)


def command(tmp_path, *words: str) -> list[str]:
    sets = [w for k, v in settings(tmp_path).items() for w in ("--set", f"{k}={json.dumps(v)}")]
    return ["fetch-models", "--params", "params/micro.yaml", *sets, *words]


@pytest.mark.parametrize("name", NAMES)
def test_every_weight_of_every_shipped_file_is_listed_without_a_network(name, monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", None)
    config = load_config(f"params/{name}", locked=False)
    found = {p.part: p for p in hub_parts.parts(config)}
    for role, spec in config.models.present().items():
        from_hub = spec.local() is None and (spec.path or spec.name)
        assert (role in found) == bool(from_hub), role
        assert (f"{role}.vae" in found) == bool(spec.vae)
        assert (f"{role}.lora" in found) == bool(spec.lora)
    assert all(p.repository.count("/") == 1 for p in found.values())
    assert not name.startswith("micro") or not found


def test_a_language_model_of_the_hub_is_listed_and_pinned():
    model = {"kind": "local", "path": "acme/llm"}
    base = {"source": "llm", "base": "params/prompts/micro.yaml", "subject": "car", "counts": {}}
    prompts = LlmPrompts.model_validate(base | {"model": model, "judge": model | {"revision": "v"}})
    config = load_config("params/micro.yaml").model_copy(update={"prompts": prompts})
    found = [(p.part, p.repository, p.revision) for p in hub_parts.parts(config)]
    assert found == [("prompts.model", "acme/llm", "main"), ("prompts.judge", "acme/llm", "v")]
    pinned = model_lock.pinned_prompts(prompts, {"acme/llm": locked("main", A)})
    assert (pinned.model.revision, pinned.judge.revision) == (A, "v")


def locked(asked: str, commit: str, named=()) -> model_lock.Locked:
    return model_lock.Locked(
        revision_asked=asked, commit=commit, licence="", bytes=1, files=[], named=list(named)
    )


def test_only_files_that_are_loaded_are_chosen():
    names = [
        "config.json", "model.safetensors.index.json", "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors", "pytorch_model.bin", "consolidated.safetensors",
        "tokenizer.model", "chat_template.jinja", "original/model.safetensors", "README.md",
    ]  # fmt: skip
    assert hub_parts.network_files()(names) == set(names[:4]) | set(names[6:8])
    half = ["config.json", "diffusion_pytorch_model.safetensors"]
    half += ["diffusion_pytorch_model.fp16.safetensors", "diffusion_pytorch_model.bin"]
    assert hub_parts.network_files("fp16")(half) == {half[0], half[2]}
    assert hub_parts.network_files()(half) == set(half[:2])
    with pytest.raises(ValueError, match="no safetensors"):
        hub_parts.network_files()(["config.json", "pytorch_model.bin"])
    with pytest.raises(ValueError, match="variant=fp16"):
        hub_parts.network_files("fp16")(half[:2])
    paper = {p.part: p for p in hub_parts.parts(load_config("params/paper_oxford_pets.yaml"))}
    weights_of = "sdxl_models/ip-adapter-plus_sdxl_vit-h.safetensors"
    encoder = [f"models/image_encoder/{n}" for n in ("config.json", "model.safetensors")]
    chosen = paper["ip_adapter"].files([weights_of, *encoder, "models/ip-adapter_sd15.safetensors"])
    assert chosen == {weights_of, *encoder}
    with pytest.raises(ValueError, match=f"has no {encoder[0]}"):
        paper["ip_adapter"].files([weights_of, encoder[1]])
    assert paper["clip"].repository == "timm/vit_base_patch16_clip_224.openai"


def test_without_yes_the_table_is_printed_and_nothing_is_downloaded(hub, tmp_path, capsys):
    hub.repositories["acme/vae"].gated = True
    assert command_line.main(command(tmp_path)) == 0
    out = capsys.readouterr().out
    rows = {line.split("  ")[0]: line for line in out.splitlines()}
    assert "inpaint.vae" in rows["acme/vae"] and " yes " in rows["acme/vae"]
    assert f"main = {A[:12]}" in rows["acme/lora"] and " no " in rows["acme/lora"]
    assert "mit" in rows["acme/inpaint"] and "GB free" in out and "with --yes" in out
    assert hub.gets == [] and not (tmp_path / "home").exists()
    assert not configured(tmp_path).whole.models_lock.exists()


def test_files_are_fetched_once_and_pinned(hub, content, tmp_path, capsys):
    before = configured(tmp_path)
    assert digest(before) == digest(configured(tmp_path, locked=False))
    assert command_line.main(command(tmp_path, "--yes")) == 0
    lock = json.loads(before.whole.models_lock.read_text())
    files, loaded = content
    entry = lock["acme/inpaint"]
    assert set(entry["files"]) == loaded == set(named(hub_cache.cached("acme/inpaint", A)))
    assert entry["bytes"] == sum(len(files["acme/inpaint"][n]) for n in loaded)
    assert {k: (e["revision_asked"], e["commit"], e["licence"]) for k, e in lock.items()} == {
        k: ("main", A, "mit") for k in files
    }
    spec = configured(tmp_path).models.inpaint
    assert (spec.revision, spec.vae_revision, spec.lora_revision) == (A, A, A)
    assert digest(configured(tmp_path)) != digest(before)
    for name, found in hub.repositories.items():  # main goes on; the lock stays
        found.commits[B], found.refs["main"] = dict(files[name]), B
    hub.gets.clear()
    assert command_line.main(command(tmp_path, "--yes")) == 0
    assert hub.gets == [] and json.loads(before.whole.models_lock.read_text()) == lock
    other = load_config("params/micro.yaml", settings(tmp_path) | {"models.inpaint.revision": B})
    assert other.models.inpaint.revision == B  # asked for otherwise than the lock's


def test_a_gate_or_a_missing_repository_loses_no_other(hub, tmp_path, capsys):
    hub.repositories["acme/vae"].gated = True
    del hub.repositories["acme/lora"]
    assert command_line.main(command(tmp_path, "--yes")) == 1
    error = capsys.readouterr().err
    assert f"acme/vae: gated (403): accept its terms on {hub.url}/acme/vae" in error
    assert "hf auth login" in error and "acme/lora: not found, or private (404)" in error
    lock = model_lock.read(configured(tmp_path).whole.models_lock)
    assert list(lock) == ["acme/inpaint"]
    spec = configured(tmp_path).models.inpaint
    assert (spec.revision, spec.vae_revision) == (A, "")
    hub.repositories["acme/inpaint"].refs.clear()
    configured(tmp_path).whole.models_lock.unlink()
    assert command_line.main(command(tmp_path, "--yes")) == 1
    assert "acme/inpaint: has no revision 'main'" in capsys.readouterr().err


def test_what_was_cut_off_goes_on(hub, content, tmp_path, monkeypatch, capsys):
    large = "unet/diffusion_pytorch_model.safetensors"
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    hub.repositories["acme/inpaint"].cut.add(large)
    assert command_line.main(command(tmp_path, "--yes")) == 1
    assert "acme/inpaint: cut off" in capsys.readouterr().err
    assert "acme/inpaint" not in model_lock.read(configured(tmp_path).whole.models_lock)
    hub.repositories["acme/inpaint"].cut.clear()
    done = {n for r, n, _ in hub.gets if r == "acme/inpaint"} - {large}
    hub.gets.clear()
    assert command_line.main(command(tmp_path, "--yes")) == 0
    again = {n for _, n, _ in hub.gets}
    assert large in again and done and not done & again
    folder = hub_cache.cached("acme/inpaint", A)
    assert (folder / large).read_bytes() == content[0]["acme/inpaint"][large]


def test_a_full_disk_is_named(hub, tmp_path, monkeypatch, capsys):
    def full(repository, **more):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", full)
    assert command_line.main(command(tmp_path, "--yes")) == 1
    error = capsys.readouterr().err
    assert "acme/lora: the disk is full: " in error and "HF_HOME" in error


def test_what_was_fetched_is_enough_without_a_network(hub, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert command_line.main(command(tmp_path, "--yes")) == 1
    assert "acme/inpaint: not in the cache" in capsys.readouterr().err
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert command_line.main(command(tmp_path, "--yes")) == 0
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert command_line.main(command(tmp_path, "--yes")) == 0
    hub.gets.clear()
    models = configured(tmp_path).models
    pipe = loaders.load_pipeline(models, "inpaint", torch.device("cpu"))
    assert type(pipe).__name__ == "StableDiffusionXLInpaintPipeline" and hub.gets == []
    (hub_cache.cached("acme/inpaint", A) / "unet/config.json").unlink()
    assert command_line.main(command(tmp_path, "--yes")) == 1
    assert "incomplete in the cache: unet/config.json" in capsys.readouterr().err


def test_a_mirror_and_a_place_are_taken_from_the_environment(hub, tmp_path):
    env = os.environ | {"HF_HOME": str(tmp_path / "other"), "HF_ENDPOINT": hub.url}
    call = [sys.executable, "-m", "varireal_utils", *command(tmp_path, "--yes")]
    env["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(call, capture_output=True, text=True, cwd=ROOT, env=env)
    assert done.returncode == 0, done.stderr
    assert {r for r, _, _ in hub.gets} == set(hub.repositories)
    folder = tmp_path / "other/hub/models--acme--inpaint/snapshots" / A
    assert (folder / "model_index.json").is_file()
    assert len(model_lock.read(configured(tmp_path).whole.models_lock)) == 3


def test_preflight_names_weights_at_another_commit(hub, content, tmp_path):
    fetch.fetch(configured(tmp_path, locked=False), True, print)
    config = configured(tmp_path)
    found = {f.what: f for f in weights.run(Workspace(config, tmp_path / "preflight"))}
    own = {p: found[p] for p in ("inpaint", "inpaint.vae", "inpaint.lora")}
    assert {f.status for f in own.values()} == {"pass"}, own
    folder = hub_cache.cached("acme/inpaint", A)
    (folder / "scheduler/scheduler_config.json").unlink()
    lock = json.loads(config.whole.models_lock.read_text())
    lock["acme/vae"]["commit"] = B
    config.whole.models_lock.write_text(json.dumps(lock))
    found = {
        f.what: f for f in weights.run(Workspace(configured(tmp_path), tmp_path / "preflight"))
    }
    assert found["inpaint"].status == found["inpaint.vae"].status == "fail"
    assert "scheduler/scheduler_config.json of the study's lock" in found["inpaint"].value
    assert f"acme/vae is here at commit {A[:12]}, wanted {B}" in found["inpaint.vae"].value


def test_a_model_of_a_librarys_table_is_pinned_by_its_name():
    spec = ModelSpec(name="ViT-B-16-quickgelu", weights="openai")
    lock = {"timm/x": locked("main", A, ["ViT-B-16-quickgelu openai"])}
    models = model_lock.pinned_roles(ModelRoles(clip=spec), lock)
    assert models.clip.revision == A
    tag = spec.model_copy(update={"weights": "laion400m_e32"})
    assert model_lock.pinned_roles(ModelRoles(clip=tag), lock).clip.revision == ""


@pytest.mark.parametrize("text", ["[]", "{", '{"a/b": {"commit": "main"}}'])
def test_a_damaged_lock_is_refused_by_name(tmp_path, monkeypatch, text):
    monkeypatch.chdir(ROOT)
    path = configured(tmp_path).whole.models_lock
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(ParameterError, match="models.lock.json: not a lock of models"):
        configured(tmp_path)
