"""Every door through which a file or a value comes in from outside, and odd things through it.

Each door may take what comes or refuse it with its own error, which names the file; nothing else
may happen: no other error, no file outside the folder that it was given. VARIREAL_INPUTS says how
many inputs each door gets (`make test-faults`: 1,000). `tried` says with which kinds of input; the
table of docs/faults.md is compared with it. tests/faults/test_odd_machines.py runs all of this on
odd machines.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import os
import re
import struct
import tempfile
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from tests import odd_machine, study_folder
from tests.conftest import ROOT, tiny_params
from varireal_utils.analysis import claim_file
from varireal_utils.core import checkpoints, config, storage
from varireal_utils.core.attributes import ATTRIBUTES
from varireal_utils.data import datasets, images, registry
from varireal_utils.models import clip_lora, lora_io
from varireal_utils.prompts import chat, human_votes, llm_phrases, phrase_bank, phrase_checks
from varireal_utils.prompts.openai_client import LanguageError, Reply
from varireal_utils.workflow import archive, overview, verify

INPUTS = int(os.environ.get("VARIREAL_INPUTS", "30"))
SEEN: Counter = Counter()
ODD = [
    "../../x",
    "/etc/passwd",
    "CON",
    "a" * 300,
    "new\nline",
    "nul\0byte",
    "",
    " ",
    ".",
    "..",
    "<script>alert(1)</script>",
    "{{ 7*7 }}",
    "$(touch x)",
    "; rm -rf .",
    "שלום",
    "\u202egnp",
    "🐶",
    "e\u0301",
    "-1",
    "1e999",
    "nan",
    "null",
    "yes",
    "0x10",
    "%00",
    "a/b",
    "a\\b",
    "C:\\x",
    "\ud800",
    "=1+1",
    "~",
    "*",
    "?",
]
HOSTILE = (
    st.sampled_from(ODD)
    | st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=12)
    | st.builds(list)
    | st.builds(dict)
    | st.lists(st.text(max_size=3), max_size=3)
    | st.dictionaries(st.text(max_size=3), st.integers(), max_size=2)
)
many = settings(
    max_examples=INPUTS, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)


@pytest.fixture(scope="module", autouse=True)
def told(request: pytest.FixtureRequest) -> Any:
    """Print, at the end, what each door got and what it said."""
    yield
    doors = sorted({door for door, _ in SEEN})
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print(
            "\n"
            + "\n".join(
                f"{d}: {SEEN[d, 'taken'] + SEEN[d, 'refused']:,} inputs, "
                f"{SEEN[d, 'refused']:,} refused by name"
                for d in doors
            )
        )


@pytest.fixture(scope="module", autouse=True)
def at_root() -> Any:
    before = Path.cwd()
    os.chdir(ROOT)
    yield
    os.chdir(before)


def through(door: str, call: Callable[[], Any], refusal: type | tuple[type, ...], name: str) -> Any:
    """Call a door; its own error must name `name`. Returns what it gave, None where it refused."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            got = call()
        except refusal as error:
            SEEN[door, "refused"] += 1
            assert name in str(error), f"{door}: does not name {name}: {error}"
            assert "Traceback" not in str(error)
            return None
    SEEN[door, "taken"] += 1
    return got


@st.composite
def damaged(draw: st.DrawFn, bases: list[bytes]) -> bytes:
    """Bytes of one of the bases, cut, flipped, doubled, filled, or of nothing at all."""
    data = bytearray(draw(st.sampled_from(bases)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        what = draw(st.sampled_from(["flip", "cut", "drop", "insert", "double", "zero"]))
        if what == "flip" and data:
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif what == "cut":
            del data[at:]
        elif what == "drop":
            del data[at : at + draw(st.integers(1, 40))]
        elif what == "insert":
            data[at:at] = draw(
                st.binary(max_size=12)
                | st.sampled_from([o.encode("utf-8", "surrogatepass") for o in ODD])
            )
        elif what == "double":
            data[at:at] = data[at : at + 60]
        else:
            data[at : at + 8] = b"\0" * 8
    return bytes(data)


@st.composite
def changed(draw: st.DrawFn, base: Any) -> Any:
    """A tree of mappings and lists with some values or keys replaced, lost or added."""
    tree = copy.deepcopy(base)
    for _ in range(draw(st.integers(1, 3))):
        node = tree
        for _ in range(draw(st.integers(0, 5))):
            inner = [
                v
                for v in (node.values() if isinstance(node, dict) else node)
                if isinstance(v, dict | list) and v
            ]
            if not inner:
                break
            node = draw(st.sampled_from(inner))
        what, value = draw(st.sampled_from(["set", "drop", "add"])), draw(HOSTILE)
        if isinstance(node, dict) and node:
            key = draw(st.sampled_from(sorted(node, key=str)))
            if what == "drop":
                del node[key]
            else:
                node[key if what == "set" else draw(st.sampled_from(ODD))] = value
        elif isinstance(node, list) and node:
            at = draw(st.integers(0, len(node) - 1))
            if what == "drop":
                del node[at]
            elif what == "set":
                node[at] = value
            else:
                node.append(copy.deepcopy(node[at]))
    return tree


KINDS = (
    "damaged bytes",
    "odd values",
    "hostile names",
    "EXIF and profiles",
    "links",
)
DOORS: dict[str, set[str]] = {}


def tried(door: str, *kinds: str) -> Callable[[Callable], Callable]:
    """Say what a door is tried with; for the table of docs/faults.md."""
    assert set(kinds) <= set(KINDS), kinds
    DOORS[door] = set(kinds)
    return lambda test: test


def inside(folder: Path, allowed: set[str]) -> None:
    assert {p.name for p in folder.iterdir()} <= allowed, sorted(folder.rglob("*"))[:20]


def picture(kind: str, mode: str = "RGB", size: tuple[int, int] = (13, 9)) -> bytes:
    out = io.BytesIO()
    noise = np.random.default_rng(3).integers(0, 255, (size[1], size[0], 4), np.uint8)
    Image.fromarray(noise).convert(mode).save(out, kind)
    return out.getvalue()


PICTURES = [
    picture("PNG"),
    picture("JPEG"),
    picture("WEBP"),
    picture("GIF", "P"),
    picture("BMP"),
    picture("TIFF"),
    picture("PNG", "RGBA"),
    picture("JPEG", "CMYK"),
    picture("PNG", "1"),
    b"<svg/>",
    b"",
]


@st.composite
def described(draw: st.DrawFn) -> bytes:
    """A picture with EXIF tags of any type and count, a colour profile, or much text."""
    tags = draw(
        st.lists(
            st.tuples(
                st.sampled_from([0x0112, 0x011A, 0x9003, 0x8769, 0x8825, 0x0201]),
                st.integers(0, 13),
                st.integers(0, 2**32 - 1) | st.integers(0, 9),
                st.binary(min_size=4, max_size=4) | st.integers(0, 9).map(lambda n: bytes([n] * 4)),
            ),
            max_size=4,
        )
    )
    block = b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags))
    block += b"".join(struct.pack("<HHI4s", *tag) for tag in tags) + draw(st.binary(max_size=9))
    out, kind = io.BytesIO(), draw(st.sampled_from(["JPEG", "PNG", "WEBP"]))
    more: dict[str, Any] = {
        "exif": b"Exif\0\0" + block,
        "icc_profile": draw(st.binary(max_size=40)),
    }
    if kind == "PNG":
        more["pnginfo"] = PngImagePlugin.PngInfo()
        more["pnginfo"].add_text("Comment", draw(st.text(max_size=9)) * 3000, zip=True)
    Image.new("RGB", (13, 9), (9, 99, 199)).save(out, kind, **more)
    return out.getvalue()


def linked(draw: Callable, folder: Path, name: str) -> None:
    """A link in a folder: to nothing, to itself, up, out, or to a file beside it."""
    places = ["nowhere", name, "..", ".", "/etc/hostname", "/proc/self/mem", "0.png", "a\nb"]
    with contextlib.suppress(OSError, UnicodeEncodeError):  # taken, or no name in this locale
        (folder / name).symlink_to(draw(st.sampled_from(places)))


@many
@tried("images", "damaged bytes", "EXIF and profiles")
@given(damaged(PICTURES) | described())
def test_images(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as home:
        file = Path(home, "photo.jpg")
        file.write_bytes(data)
        got = through("images", lambda: images.open_image(file), images.ImageProblem, "photo.jpg")
        assert got is None or (got.mode == "RGB" and got.width > 0)


@many
@tried("masks", "damaged bytes", "EXIF and profiles")
@given(damaged(PICTURES) | described())
def test_masks(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as home:
        file = Path(home, "mask.png")
        file.write_bytes(data)
        got = through(
            "masks", lambda: images.open_mask(file, (13, 9)), images.ImageProblem, "mask.png"
        )
        assert got is None or (got.shape == (9, 13) and set(np.unique(got)) <= {0, 1, 255})


def names(limit: int = 60) -> st.SearchStrategy[str]:
    """Names that a file system takes."""

    def fits(name: str) -> bool:
        try:
            return 0 < len(os.fsencode(name)) < limit and not set("/\0") & set(name)
        except UnicodeEncodeError:
            return False

    return (st.sampled_from([o for o in ODD if fits(o)]) | st.text(max_size=8)).filter(
        lambda n: fits(n) and n not in (".", "..")
    )


def contents(folder: Path) -> dict[Path, bytes]:
    files = (p for p in folder.rglob("*") if p.is_file() and not p.is_symlink())
    return {p: p.read_bytes() for p in files}


def loaded(door: str, home: Path, spec: dict[str, Any]) -> None:
    """Load a data set into home/study; what was stored is what the table says, inside it."""
    before = contents(home / "src")
    got = through(
        door,
        lambda: datasets.load("mine", spec, home / "study"),
        (datasets.DatasetError, images.ImageProblem),
        "mine" if door != "CSV" else "",
    )
    inside(home, {"src", "study"})
    assert contents(home / "src") == before
    for row in [] if got is None else got[0].to_dict("records"):
        file = (home / "study" / row["path"]).resolve()
        assert file.is_relative_to((home / "study").resolve())
        assert storage.sha256_file(file) == row["sha256"]


@many
@tried("image folders", "damaged bytes", "hostile names", "EXIF and profiles", "links")
@given(
    st.dictionaries(
        names(),
        st.lists(st.tuples(names(), damaged(PICTURES) | described()), max_size=3),
        max_size=3,
    ),
    st.data(),
)
def test_imagefolders(tree: dict[str, list], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as home:
        (root := Path(home, "src")).mkdir()
        for label, files in tree.items():
            (root / label).mkdir(exist_ok=True)
            for name, content in files:
                (root / label / name).write_bytes(content)
        for _ in range(data.draw(st.integers(0, 3))):
            inner = (p for p in sorted(root.iterdir()) if p.is_dir() and not p.is_symlink())
            folders = [root, *inner]
            linked(data.draw, data.draw(st.sampled_from(folders)), data.draw(names()))
        loaded("image folders", Path(home), {"source": "imagefolder", "root": str(root)})


LINKS = {"gone.png": "nowhere", "loop.png": "loop.png", "up.png": "..", "out.png": "/etc/hostname"}
LINES = "path,label,split,mask\n" + "\n".join(
    f"{n}.png,{c},{s},{m}"
    for n, c, s, m in [
        (0, "a", "train", ""),
        (1, "b", "", "m.png"),
        (0, "b", "test", ""),
        (1, "a", "val", ""),
    ]
)


@many
@tried("CSV", "damaged bytes", "hostile names", "links")
@given(
    damaged(
        [
            LINES.encode(),
            LINES.replace(",split,mask", "").encode(),
            b"path,label\n",
            *(LINES.replace("0.png", o).encode() for o in LINKS),
            *(LINES.replace("0.png", o).encode("utf-8", "surrogatepass") for o in ODD),
            *(LINES.replace("a,", f"{o},").encode("utf-8", "surrogatepass") for o in ODD),
        ]
    )
)
def test_csv(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as home:
        (root := Path(home, "src")).mkdir()
        for n in range(2):
            (root / f"{n}.png").write_bytes(PICTURES[n])
        (root / "m.png").write_bytes(picture("PNG", "1"))
        for name, place in LINKS.items():
            (root / name).symlink_to(place)
        (root / "list.csv").write_bytes(data)
        loaded("CSV", Path(home), {"source": "csv", "path": str(root / "list.csv")})


SPEC = {
    "source": "imagefolder",
    "root": "nowhere",
    "max_size": 64,
    "val_fraction": 0.2,
    "train_per_class": 3,
    "side": "longest",
}


@many
@tried("data set settings", "odd values")
@given(changed(SPEC))
def test_specs_of_data_sets(spec: Any) -> None:
    through(
        "data set settings", lambda: registry.parse("mine", spec), datasets.DatasetError, "mine"
    )


BASE = tiny_params(Path("runs"))


@many
@tried("parameter values", "odd values")
@given(changed(BASE))
def test_parameter_trees(tree: Any) -> None:
    with tempfile.TemporaryDirectory() as home:
        file = Path(home, "p.yaml")
        try:
            text = yaml.dump(tree, allow_unicode=True)
            file.write_text(text, encoding="utf-8")
        except (yaml.YAMLError, UnicodeEncodeError):
            return
        got = through(
            "parameter values", lambda: config.load_config(file), config.ParameterError, "p.yaml"
        )
        if got is not None:
            folder = got.paths.root
            assert folder.parent == Path(got.runs_dir) and folder.name not in (".", "..")


@many
@tried("parameter files", "damaged bytes")
@given(damaged([yaml.safe_dump(BASE).encode(), (ROOT / "params/micro.yaml").read_bytes()]))
def test_parameter_files(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as home:
        file = Path(home, "p.yaml")
        file.write_bytes(data)
        through(
            "parameter files", lambda: config.load_config(file), config.ParameterError, "p.yaml"
        )


@many
@tried("overrides", "odd values", "hostile names")
@given(st.sampled_from(ODD) | st.text(max_size=8), HOSTILE)
def test_overrides(key: str, value: Any) -> None:
    for dotted in (key, f"edit.{key}", "edit.batch_size", "study", "datasets.micro_cars"):
        through(
            "overrides",
            partial(config.load_config, "params/micro.yaml", {dotted: value}),
            config.ParameterError,
            "params/micro.yaml",
        )


BANK = yaml.safe_load((ROOT / "params/prompts/micro.yaml").read_text(encoding="utf-8"))


@many
@tried("phrase banks", "odd values")
@given(changed({k: BANK[k] for k in BANK}))
def test_phrase_banks(tree: Any) -> None:
    with tempfile.TemporaryDirectory() as home:
        file = Path(home, "bank.yaml")
        try:
            file.write_text(yaml.dump(tree, allow_unicode=True), encoding="utf-8")
        except (yaml.YAMLError, UnicodeEncodeError):
            return

        def use() -> Any:
            bank = phrase_bank.load_bank(file, "cars", ["alvera", "x"])
            phrase_bank.check_bank(bank)
            return bank

        through("phrase banks", use, phrase_bank.PhraseError, "bank.yaml")


@many
@tried("phrase files", "damaged bytes")
@given(damaged([(ROOT / "params/prompts/micro.yaml").read_bytes()]))
def test_phrase_files(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as home:
        file = Path(home, "bank.yaml")
        file.write_bytes(data)
        through(
            "phrase files",
            lambda: phrase_bank.check_bank(phrase_bank.load_bank(file, "cars", ["alvera"])),
            phrase_bank.PhraseError,
            "bank.yaml",
        )


ANSWER = {
    "feasible": [
        {"phrase": "deep red", "rgb": [150, 0, 0]},
        {"phrase": "dark blue", "rgb": [0, 0, 120]},
    ],
    "infeasible": [
        {"phrase": "neon pink", "rgb": [255, 0, 200]},
        {"phrase": "acid green", "rgb": [120, 255, 0]},
    ],
}
ABOUT = {
    "subject": "dogs",
    "classes": '["beagle"]',
    "attribute": "color",
    "what": ATTRIBUTES["color"].what,
    "sentence": "a photo of a ____ beagle",
}


@many
@tried("language model's answers", "damaged bytes", "odd values")
@given(
    changed(ANSWER).map(lambda a: json.dumps(a, allow_nan=True))
    | st.text(max_size=40)
    | damaged([json.dumps(ANSWER).encode()]).map(lambda b: b.decode("utf-8", "replace"))
)
def test_answers_of_a_language_model(text: str) -> None:
    model = chat.Model(
        "m",
        {"kind": "fake"},
        lambda said, schema: Reply(text=text, prompt_tokens=1, completion_tokens=1),
    )
    with tempfile.TemporaryDirectory() as home:
        got = through(
            "language model's answers",
            lambda: llm_phrases.propose(model, ABOUT, 2, Path(home, "dialogue"), 2),
            LanguageError,
            "dialogue",
        )
        inside(Path(home), {"dialogue"})
        for phrase in [] if got is None else [p for arm in got[0].values() for p in arm]:
            assert not phrase_checks.fault(phrase) and not set("<>{}/\\\n\0") & set(phrase)


@many
@tried("run records", "damaged bytes", "odd values")
@given(st.data())
def test_run_records(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home, "study")
        storage.write_text(folder / "stage/x.txt", "x")
        path = study_folder.record(
            folder,
            "stage",
            ["stage/x.txt"],
            own={"dataset": "d"},
            seconds=1.0,
            peak_memory_mb=3,
            commit="c" * 40,
            dirty=False,
        ).with_name("run.json")
        whole = path.read_bytes()
        tree = data.draw(
            changed(json.loads(whole)).map(lambda t: json.dumps(t).encode()) | damaged([whole])
        )
        path.write_bytes(tree)
        check = verify.verify(folder)
        SEEN["run records", "refused" if check.wrong else "taken"] += 1
        assert tree == whole or check.wrong  # any change is found
        through(
            "run records in the overview", lambda: overview.runs(folder), ValueError, "run.json"
        )
        assert (folder / "stage/x.txt").read_text() == "x"
        inside(Path(home), {"study"})


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lora_io.save_lora(net(), tmp_path_factory.mktemp("adapter")).parent


def net() -> torch.nn.Module:
    """One attention block with adapters, called as in CLIP."""
    torch.manual_seed(0)
    model, block = torch.nn.Module(), torch.nn.Module()
    model.visual = torch.nn.Module()
    block.attn = torch.nn.MultiheadAttention(8, 2)
    model.transformer = torch.nn.Module()
    model.transformer.resblocks = torch.nn.ModuleList([block])
    clip_lora.add_lora(model, 2, 4, 0.1, ["text"])
    return model


@many
@tried("adapters", "damaged bytes", "odd values")
@given(st.data())
def test_adapters(adapter: Path, data: st.DataObject) -> None:
    model = net()
    before = lora_io.lora_state_dict(model)
    with tempfile.TemporaryDirectory() as home:
        for name in (lora_io.CONFIG, lora_io.WEIGHTS):
            raw = (adapter / name).read_bytes()
            odd = (
                changed(json.loads(raw)).map(lambda t: json.dumps(t).encode())
                if name == lora_io.CONFIG
                else damaged([raw])
            )
            Path(home, name).write_bytes(data.draw(st.just(raw) | odd))
        got = through("adapters", lambda: lora_io.load_lora(model, home) or True, ValueError, "")
        after = lora_io.lora_state_dict(model)
        assert all(t.isfinite().all() for t in after.values())
        if got is None:  # refused: nothing was touched
            assert all(torch.equal(before[k], after[k]) for k in before)


@many
@tried("votes", "damaged bytes", "odd values")
@given(st.data())
def test_votes(data: st.DataObject) -> None:
    bank = {
        "dataset": "d",
        "phrases": {"color": {"*": {"feasible": ["red"], "infeasible": ["pink"]}}},
    }
    table = human_votes.ballot(bank, ["color"], 1)
    good = {
        "format": human_votes.FORMAT,
        "ballot": human_votes.ballot_id(table),
        "voter": "ann",
        "votes": dict.fromkeys(table["item"], "feasible"),
    }
    lines = "ballot,voter,item,vote\n" + "\n".join(
        f"{good['ballot']},ann,{i},unsure" for i in table["item"]
    )
    with tempfile.TemporaryDirectory() as home:
        kind = data.draw(st.sampled_from([".json", ".csv"]))
        content = data.draw(
            damaged([json.dumps(good).encode() if kind == ".json" else lines.encode()])
            | changed(good).map(lambda t: json.dumps(t).encode())
        )
        file = Path(home, f"votes{kind}")
        file.write_bytes(content)

        def use() -> Any:
            found = human_votes.read([file], table)
            human_votes.tally(table, found)
            return found

        through("votes", use, human_votes.VoteError, f"votes{kind}")


CLAIMS = yaml.safe_load((ROOT / "claims.yaml").read_text(encoding="utf-8"))


@many
@tried("claims", "odd values")
@given(changed(CLAIMS))
def test_claims(tree: Any) -> None:
    with tempfile.TemporaryDirectory() as home:
        file = Path(home, "claims.yaml")
        try:
            file.write_text(yaml.dump(tree, allow_unicode=True), encoding="utf-8")
        except (yaml.YAMLError, UnicodeEncodeError):
            return
        through("claims", lambda: claim_file.load(file), config.ParameterError, "claims.yaml")


@many
@tried("checkpoints", "damaged bytes")
@given(st.data())
def test_checkpoints(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as home:
        file = Path(home, "c.safetensors")
        checkpoints.write(file, {"w": torch.ones(3), "losses": [1.0], "o": {0: None}})
        file.write_bytes(data.draw(damaged([file.read_bytes()])))
        through("checkpoints", lambda: checkpoints.read(file), ValueError, "c.safetensors")


@many
@tried("archives", "damaged bytes")
@given(st.data())
def test_archives(data: st.DataObject) -> None:
    out, content = io.BytesIO(), {"study/stage/x.txt": b"x", "DATA_CARD.md": b"card" * 30}
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for name, text in content.items():
            file.writestr(name, text)
        file.writestr(
            archive.SUMS, "".join(f"{storage.sha256_bytes(t)}  {n}\n" for n, t in content.items())
        )
    with tempfile.TemporaryDirectory() as home:
        path = Path(home, "a.zip")
        path.write_bytes(data.draw(damaged([out.getvalue()])))
        got = through(
            "archives",
            lambda: archive.unpack(path, Path(home, "out")),
            archive.ArchiveError,
            "a.zip",
        )
        inside(Path(home), {"a.zip", "out"} if got else {"a.zip"})
        if got:
            assert (got[0] / "study/stage/x.txt").read_bytes() == b"x"


def test_the_page_says_what_each_door_is_tried_with() -> None:
    """Doors by `tried` and by the names that they count under; machines by odd_machine."""
    page = (ROOT / "docs/faults.md").read_text(encoding="utf-8")
    section = page.split("## Odd inputs\n")[1].split("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.removeprefix("|").removesuffix("|").split("|")]
        for line in section.splitlines()
        if line.startswith("|") and not line.startswith("|---")
    ]
    assert rows[0] == ["entry point", *KINDS]
    said = {r[0]: {k for k, cell in zip(KINDS, r[1:], strict=True) if cell} for r in rows[1:]}
    assert said == DOORS
    names = r'(?:through\(|loaded\(|SEEN\[)\s*"([^"]+)"'
    counted = set(re.findall(names, Path(__file__).read_text(encoding="utf-8")))
    assert counted == {*DOORS, "run records in the overview"}
    machines = re.findall(r"^\* \*\*(.+?)\*\*", section, re.M)
    assert machines == list(odd_machine.MACHINES)
