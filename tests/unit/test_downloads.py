"""Downloads from a server that cuts off, lacks, limits and corrupts; mirrors on the hub."""

import hashlib
import http.server
import io
import json
import re
import socket
import tarfile
import threading
import time
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path

import huggingface_hub
import numpy as np
import pandas as pd
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from varireal_utils.core import storage
from varireal_utils.data import datasets, downloads, hub, registry, transfer
from varireal_utils.data.image_record import DatasetError, DownloadError
from varireal_utils.data.official import Archive, Layout

FILE, FOLDER = "birds.tar.gz", "waterbird_complete95_forest2water2"


class Server(http.server.ThreadingHTTPServer):
    """Serves `files` by path, with ranges; does each fault of `faults[path]` once, in turn.

    A fault is ("cut", n): only n bytes of the body; ("stall", n): n bytes, then silence;
    ("status", code, headers); or ("whole",): the whole file, whatever range was asked for.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, list[tuple]] = {}
        self.asked: list[tuple[str, str]] = []  # path, range
        self.sent, self.over = 0, threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args) -> None:
        pass

    def do_GET(self) -> None:
        server, span = self.server, self.headers.get("Range", "")
        server.asked.append((self.path, span))
        faults = server.faults.get(self.path, [])
        fault = faults.pop(0) if faults else ("none",)
        data = server.files.get(self.path)
        if data is None and fault[0] != "status":
            fault = ("status", 404, {})
        start = int(re.fullmatch(r"bytes=(\d+)-", span)[1]) if span and fault[0] != "whole" else 0
        if fault[0] != "status" and start and start >= len(data):
            fault = ("status", 416, {"Content-Range": f"bytes */{len(data)}"})
        if fault[0] == "status":
            self.send_response(fault[1])
            for key, value in {"Content-Length": "0", **fault[2]}.items():
                self.send_header(key, value)
            self.end_headers()
            return
        body = data[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        body = body[: fault[1]] if fault[0] in ("cut", "stall") else body
        server.sent += len(body)
        self.wfile.write(body)
        self.wfile.flush()
        if fault[0] == "stall":
            server.over.wait(20)
        self.close_connection = True


@pytest.fixture
def server(monkeypatch):
    """A server of one archive of Waterbirds, and the table of archives that points at it."""
    server = Server()
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    server.files[f"/{FILE}"] = data = packed()
    archive = Archive(f"{server.url}/{FILE}", md5(data), len(data), FOLDER, inner=False)
    set_archives(monkeypatch, "waterbirds", (archive,))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield server
    server.over.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def waits(monkeypatch) -> list[float]:
    """The seconds that a download would have waited."""
    waited: list[float] = []
    monkeypatch.setattr(transfer, "_pause", waited.append)
    return waited


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def tar(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as file:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def png(seed: int, height: int = 12) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, 16, 3), dtype=np.uint8)
    return storage.png_bytes(pixels)


def packed() -> bytes:
    """Waterbirds as its owners pack it: six pictures, 20,000 bytes that do not compress."""
    rows, members = ["img_id,img_filename,y,split,place,place_filename"], {}
    for i in range(6):
        rows.append(f"{i},a/{i}.png,{i % 2},{i // 2},{i % 2},x")
        members[f"{FOLDER}/a/{i}.png"] = png(i)
    noise = np.random.default_rng(0).bytes(20_000)
    return tar(
        {f"{FOLDER}/metadata.csv": "\n".join(rows).encode(), f"{FOLDER}/n": noise, **members}
    )


def layout(source: str) -> Layout:
    return registry.DATA_SETS[source].layout


def set_archives(monkeypatch, source: str, archives: tuple[Archive, ...]) -> None:
    known = registry.DATA_SETS[source]
    changed = replace(known, layout=replace(known.layout, archives=archives))
    monkeypatch.setitem(registry.DATA_SETS, source, changed)


def archive() -> Archive:
    return layout("waterbirds").archives[0]


def told_by_hand(text: str, root: Path) -> bool:
    """Whether a message says which file to put where, how to know it, and where else it lies."""
    known = f"{FILE} (md5 {archive().md5}, {archive().size:,} bytes)"
    return (
        f"  {known} into {root / 'archives'}/, or what it holds into {root / FOLDER}" in text
        and "hf://grodino/waterbirds" in text
    )


def test_it_fetches_checks_keeps_and_unpacks_once(server, waits, tmp_path):
    assert downloads.fetch(layout("waterbirds"), tmp_path) == tmp_path
    assert (tmp_path / FOLDER / "a/5.png").read_bytes() == png(5)
    assert (tmp_path / "archives" / FILE).read_bytes() == server.files[f"/{FILE}"]
    assert server.sent == archive().size and server.asked == [(f"/{FILE}", "")]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["archives", FOLDER]
    server.files.clear()  # from here on the link is dead
    downloads.fetch(layout("waterbirds"), tmp_path)
    (tmp_path / FOLDER / "metadata.csv").unlink()
    (tmp_path / FOLDER).rename(tmp_path / "elsewhere")
    downloads.fetch(layout("waterbirds"), tmp_path)
    assert (tmp_path / FOLDER / "metadata.csv").is_file()
    assert len(server.asked) == 1 and not waits


def test_it_goes_on_where_the_connection_broke(server, waits, tmp_path):
    server.faults[f"/{FILE}"] = [("cut", 7000), ("cut", 1), ("cut", 9000)]
    downloads.fetch(layout("waterbirds"), tmp_path, tries=2)  # progress counts anew: no two in vain
    assert [span for _, span in server.asked] == ["", "bytes=7000-", "bytes=7001-", "bytes=16001-"]
    assert server.sent == archive().size  # not a byte twice
    assert waits == [1.0, 1.0, 1.0]
    assert (tmp_path / "archives" / FILE).read_bytes() == server.files[f"/{FILE}"]
    assert not (tmp_path / "archives" / f"{FILE}.part").exists()


def test_a_later_run_goes_on_behind_the_part(server, waits, tmp_path):
    server.faults[f"/{FILE}"] = [("cut", 5000), *[("status", 503, {})] * 3]
    part = tmp_path / "archives" / f"{FILE}.part"
    with pytest.raises(
        DownloadError,
        match=r"503 Service Unavailable; the next run goes on behind "
        rf"{re.escape(str(part))}",
    ) as error:
        downloads.fetch(layout("waterbirds"), tmp_path, tries=4)
    assert told_by_hand(str(error.value), tmp_path) and not (tmp_path / FOLDER).exists()
    assert part.stat().st_size == server.sent == 5000 and waits == [1.0, 2.0, 4.0]
    downloads.fetch(layout("waterbirds"), tmp_path)
    assert server.asked[-1][1] == "bytes=5000-" and server.sent == archive().size
    assert (tmp_path / FOLDER / "metadata.csv").is_file()


def test_a_part_that_is_whole_needs_no_server(server, waits, tmp_path):
    (tmp_path / "archives").mkdir()
    (tmp_path / "archives" / f"{FILE}.part").write_bytes(server.files[f"/{FILE}"])
    downloads.fetch(layout("waterbirds"), tmp_path)
    assert not server.asked and (tmp_path / FOLDER / "metadata.csv").is_file()


@pytest.mark.parametrize(
    "part, spans",
    [
        (b"x" * 100, ["bytes=100-", ""]),  # the beginning of another file: seen by its md5
        (b"x" * 99_999, ["bytes=99999-", ""]),  # longer than the file: the server says 416
    ],
)
def test_a_part_of_another_file_is_begun_anew(server, waits, tmp_path, part, spans):
    (tmp_path / "archives").mkdir()
    (tmp_path / "archives" / f"{FILE}.part").write_bytes(part)
    downloads.fetch(layout("waterbirds"), tmp_path)
    assert [span for _, span in server.asked] == spans
    assert (tmp_path / "archives" / FILE).read_bytes() == server.files[f"/{FILE}"]


def test_a_server_without_ranges_begins_anew(server, waits, tmp_path):
    server.faults[f"/{FILE}"] = [("cut", 6000), ("whole",)]
    downloads.fetch(layout("waterbirds"), tmp_path)
    assert server.sent == 6000 + archive().size
    assert (tmp_path / "archives" / FILE).read_bytes() == server.files[f"/{FILE}"]


def test_a_dead_link_is_asked_once(server, waits, tmp_path):
    server.files.clear()
    with pytest.raises(DownloadError, match="404 Not Found, the link is dead") as error:
        downloads.fetch(layout("waterbirds"), tmp_path)
    assert told_by_hand(str(error.value), tmp_path)
    assert len(server.asked) == 1 and not waits


def test_it_waits_as_long_as_the_server_asks(server, waits, tmp_path):
    date = formatdate(time.time() + 90, usegmt=True)
    server.faults[f"/{FILE}"] = [
        ("status", 429, {"Retry-After": "7"}),
        ("status", 429, {"Retry-After": date}),
        ("status", 503, {"Retry-After": "soon"}),
    ]
    downloads.fetch(layout("waterbirds"), tmp_path)
    assert waits[0] == 7 and 80 < waits[1] <= 90 and waits[2] == 4
    assert server.sent == archive().size


def test_it_does_not_wait_for_hours(server, waits, tmp_path):
    server.faults[f"/{FILE}"] = [("status", 429, {"Retry-After": "7200"})]
    with pytest.raises(DownloadError, match=r"429 Too Many.*asks to wait 7,200 seconds") as error:
        downloads.fetch(layout("waterbirds"), tmp_path)
    assert told_by_hand(str(error.value), tmp_path) and not waits and len(server.asked) == 1


def test_a_silent_server_times_out(server, waits, tmp_path):
    server.faults[f"/{FILE}"] = [("stall", 3000), ("stall", 0), ("stall", 0)]
    with pytest.raises(DownloadError, match="timed out") as error:
        downloads.fetch(layout("waterbirds"), tmp_path, timeout=0.5, tries=3)
    assert told_by_hand(str(error.value), tmp_path) and len(waits) == 2
    downloads.fetch(layout("waterbirds"), tmp_path)
    assert server.asked[-1][1] == "bytes=3000-" and server.sent == archive().size


def test_no_server_at_all(server, waits, tmp_path, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        gone = f"http://127.0.0.1:{free.getsockname()[1]}/{FILE}"
    set_archives(monkeypatch, "waterbirds", (replace(archive(), url=gone),))
    with pytest.raises(DownloadError, match="Connection refused") as error:
        downloads.fetch(layout("waterbirds"), tmp_path, tries=2)
    assert told_by_hand(str(error.value), tmp_path) and waits == [1.0]


@pytest.mark.parametrize("cut, words", [(0, "has md5 "), (1, "has 2[0-9],[0-9]{3} bytes")])
def test_what_the_server_damages_is_refused(server, waits, tmp_path, cut, words):
    data = server.files[f"/{FILE}"]
    server.files[f"/{FILE}"] = data[:5000] + b"!" + data[5001 : len(data) - cut]
    with pytest.raises(DownloadError, match=rf"{FILE}: {words}.*; wanted {FILE}.*another") as error:
        downloads.fetch(layout("waterbirds"), tmp_path)
    assert told_by_hand(str(error.value), tmp_path) and len(server.asked) == 1
    assert not list((tmp_path / "archives").glob("bird*")) and not (tmp_path / FOLDER).exists()


def test_a_wrong_local_archive_is_named_and_kept(server, waits, tmp_path):
    (tmp_path / "archives").mkdir()
    (tmp_path / "archives" / FILE).write_bytes(b"mine")
    with pytest.raises(
        DownloadError,
        match=r"archives/birds\.tar\.gz: has 4 bytes; wanted .* "
        r"Remove this file and run again",
    ) as error:
        downloads.fetch(layout("waterbirds"), tmp_path)
    assert told_by_hand(str(error.value), tmp_path) and not server.asked
    assert (tmp_path / "archives" / FILE).read_bytes() == b"mine"


def test_without_a_checksum_the_archive_must_unpack_to_its_end(
    server, waits, tmp_path, monkeypatch
):
    set_archives(monkeypatch, "waterbirds", (replace(archive(), md5="", size=0),))
    (tmp_path / "archives").mkdir()
    (tmp_path / "archives" / FILE).write_bytes(server.files[f"/{FILE}"][:-9])
    with pytest.raises(DownloadError, match=r"is no whole gzip archive.*no checksum is known"):
        downloads.fetch(layout("waterbirds"), tmp_path)
    (tmp_path / "archives" / FILE).rename(tmp_path / "archives" / f"{FILE}.part")
    downloads.fetch(layout("waterbirds"), tmp_path)
    assert server.sent == 9 and (tmp_path / FOLDER / "metadata.csv").is_file()
    server.files[f"/{FILE}"] = b"<html>moved</html>"
    with pytest.raises(DownloadError, match="is no whole gzip archive"):
        downloads.fetch(layout("waterbirds"), tmp_path / "other")


@pytest.mark.parametrize(
    "members, words",
    [
        ({f"{FOLDER}/metadata.csv": b"x", "../evil": b"x"}, "cannot be unpacked: .*evil"),
        ({"birds/metadata.csv": b"x"}, rf"holds \['birds'\], wanted {FOLDER}"),
        ({f"{FOLDER}/readme": b"x"}, r"is there, but without \['metadata\.csv'\]"),
    ],
)
def test_an_archive_of_something_else(server, waits, tmp_path, monkeypatch, members, words):
    server.files[f"/{FILE}"] = data = tar(members)
    set_archives(monkeypatch, "waterbirds", (replace(archive(), md5=md5(data), size=len(data)),))
    with pytest.raises(DownloadError, match=words):
        downloads.fetch(layout("waterbirds"), tmp_path / "in")
    assert [p.name for p in tmp_path.iterdir()] == ["in"]  # nothing beside it
    assert not list((tmp_path / "in").glob(".unpack-*"))
    assert (tmp_path / "in" / FOLDER).exists() == ("without" in words)


def test_what_a_killed_run_left_is_cleared(server, waits, tmp_path):
    (tmp_path / ".unpack-dead" / FOLDER).mkdir(parents=True)
    downloads.fetch(layout("waterbirds"), tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["archives", FOLDER]


def test_two_at_once_fetch_once(server, waits, tmp_path):
    both = [
        threading.Thread(target=downloads.fetch, args=(layout("waterbirds"), tmp_path))
        for _ in range(2)
    ]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join(60)
    assert server.sent == archive().size and (tmp_path / FOLDER / "metadata.csv").is_file()


def test_the_dead_links_of_cars_name_every_file_and_take_them_by_hand(
    server, waits, tmp_path, monkeypatch
):
    def away(address: str):
        raise DownloadError(f"{address}: not fetched from the hub: no network")

    monkeypatch.setattr(hub, "snapshot", away)
    real = layout("stanford_cars").archives
    set_archives(
        monkeypatch,
        "stanford_cars",
        tuple(replace(a, url=f"{server.url}/{a.file}") for a in real),
    )
    with pytest.raises(DownloadError, match="not fetched from the hub.*404") as error:
        downloads.fetch(layout("stanford_cars"), tmp_path)
    for a in real:
        assert (
            f"  {a.file} (md5 {a.md5}, {a.size:,} bytes) into {tmp_path / 'archives'}/, or what"
            f" it holds into {tmp_path / 'stanford_cars' / a.makes}"
        ) in str(error.value)
    assert "kaggle.com/datasets/rickyyyyyyy/torchvision-stanford-cars" in str(error.value)
    assert "hf://tanganke/stanford_cars" in str(error.value)
    members = {"devkit/cars_train_annos.mat": b"1", "devkit/cars_meta.mat": b"2"}
    files = {
        "car_devkit.tgz": tar(members),
        "cars_train.tgz": tar({"cars_train/1.jpg": b"3"}),
        "cars_test.tgz": tar({"cars_test/1.jpg": b"4"}),
        "cars_test_annos_withlabels.mat": b"5",
    }
    set_archives(
        monkeypatch,
        "stanford_cars",
        tuple(replace(a, md5=md5(files[a.file]), size=len(files[a.file])) for a in real),
    )
    for file, data in files.items():
        (tmp_path / "archives" / file).write_bytes(data)
    asked = len(server.asked)
    downloads.fetch(layout("stanford_cars"), tmp_path)
    home = tmp_path / "stanford_cars"
    assert len(server.asked) == asked and (home / "cars_test/1.jpg").read_bytes() == b"4"
    assert (home / "cars_test_annos_withlabels.mat").read_bytes() == b"5"
    assert (home / "devkit/cars_meta.mat").read_bytes() == b"2"


def test_cars_come_from_the_hub_before_a_dead_address(server, mirror, monkeypatch, tmp_path):
    """One root, no look at the owners' address; read as the official lists are, once."""
    known = layout("stanford_cars")
    assert known.hub.startswith("hf://") and known.hub in known.mirrors
    dead = tuple(replace(a, url=f"{server.url}/{a.file}") for a in known.archives)
    monkeypatch.setitem(
        registry.DATA_SETS,
        "stanford_cars",
        replace(
            registry.DATA_SETS["stanford_cars"],
            layout=replace(known, archives=dead, hub="hf://who/birds"),
        ),
    )
    names = {"label": ["Audi TTS Coupe 2012", "Ram C/V Cargo Van Minivan 2012"]}
    for split, start in (("train", 0), ("test", 50)):
        rows = [
            {"image": {"bytes": png(start + i), "path": None}, "label": i % 2} for i in range(10)
        ]
        write_parquet(mirror / "data" / f"{split}-00000-of-00001.parquet", rows, names)
    spec = {"source": "stanford_cars", "root": str(tmp_path / "cars"), "download": True}
    table, skipped = datasets.load("cars", spec, tmp_path / "s")
    assert skipped.empty and set(table["class_name"]) == set(names["label"])
    assert table["split"].value_counts().to_dict() == {"test": 10, "train": 8, "val": 2}
    assert (tmp_path / "cars/stanford_cars/mirror.csv").is_file() and not server.asked
    again, _ = datasets.load("cars", spec | {"download": False}, tmp_path / "t")
    pd.testing.assert_frame_equal(table, again)


def test_what_was_brought_by_hand_is_not_replaced_by_the_hub(server, monkeypatch, tmp_path):
    """A folder of pictures without the devkit: the devkit is asked for, the pictures stay."""
    known = layout("stanford_cars")
    asked: list[str] = []
    monkeypatch.setattr(hub, "snapshot", lambda address: asked.append(address))
    set_archives(
        monkeypatch,
        "stanford_cars",
        tuple(replace(a, url=f"{server.url}/{a.file}") for a in known.archives),
    )
    mine = tmp_path / "stanford_cars" / "cars_train" / "1.jpg"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    with pytest.raises(DownloadError, match="404"):
        downloads.fetch(layout("stanford_cars"), tmp_path)
    assert mine.read_bytes() == b"mine" and not asked


def test_addresses_and_checksums_are_torchvisions():
    from torchvision.datasets import FGVCAircraft, OxfordIIITPet

    ours = {(a.url, a.md5) for a in layout("oxford_pets").archives}
    assert ours == set(OxfordIIITPet._RESOURCES)
    assert [a.url for a in layout("fgvc_aircraft").archives] == [FGVCAircraft._URL]
    for a in (a for d in registry.DATA_SETS.values() if d.layout for a in d.layout.archives):
        assert re.fullmatch(r"[0-9a-f]{32}|", a.md5) and a.file


# --- through the data sets' door


def test_a_data_set_is_fetched_where_the_spec_says_so(server, waits, tmp_path):
    spec = {"source": "waterbirds", "root": str(tmp_path / "in")}
    for off in ({}, {"download": False}):
        with pytest.raises(DatasetError, match=r"metadata\.csv is not there; .*download: true"):
            datasets.load("birds", spec | off, tmp_path / "s")
    assert not server.asked
    table, skipped = datasets.load("birds", spec | {"download": True}, tmp_path / "s")
    assert skipped.empty and table.groupby("split").size().to_dict() == {
        "train": 2,
        "val": 2,
        "test": 2,
    }
    again, _ = datasets.load("birds", spec | {"download": True}, tmp_path / "t")
    pd.testing.assert_frame_equal(table, again)
    assert len(server.asked) == 1
    with pytest.raises(DatasetError, match=r"birds\.download: got 'yes', wanted true or false"):
        datasets.load("birds", spec | {"download": "yes"}, tmp_path / "s")
    with pytest.raises(DatasetError, match=r"birds\.download: source imagefolder knows no such"):
        datasets.load("birds", {"source": "imagefolder", "root": ".", "download": True}, tmp_path)


# --- the hub


def write_parquet(path: Path, rows: list[dict], names: dict[str, list[str]] | None = None) -> None:
    """A parquet file as `datasets` writes it: image bytes, and class names in its metadata."""
    table = pyarrow.Table.from_pylist(rows)
    features = {c: {"names": n, "_type": "ClassLabel"} for c, n in (names or {}).items()}
    table = table.replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, path)


@pytest.fixture
def mirror(monkeypatch, tmp_path) -> Path:
    """The snapshot of hf://who/birds: the hub answers with this folder."""
    folder = tmp_path / "hub" / "snapshots" / "abc123"
    folder.mkdir(parents=True)

    def snapshot_download(repo, repo_type, revision, allow_patterns):
        assert repo_type == "dataset"
        if repo != "who/birds":
            raise FileNotFoundError(f"404: no data set {repo} at {revision}")
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HOME", str(tmp_path / "cache"))
    return folder


NAMES = {"label": ["landbird", "waterbird"], "place": ["land", "water"]}


def bird(i: int, **more) -> dict:
    return {"image": {"bytes": png(i), "path": None}, "label": i % 2, "place": 1, **more}


def test_a_mirror_of_parquet_files(mirror, tmp_path):
    for s, split in enumerate(("train", "validation", "test")):
        for part in range(2):
            rows = [bird(100 * s + 10 * part + i) for i in range(2)]
            write_parquet(mirror / "data" / f"{split}-0000{part}-of-00002.parquet", rows, NAMES)
    write_parquet(mirror / "data" / "contrast-00000-of-00001.parquet", [bird(7)], NAMES)
    spec = {"source": "waterbirds", "root": "hf://who/birds"}
    with pytest.warns(UserWarning, match=r"\['contrast'\] are none of train, val, test"):
        table, skipped = datasets.load("birds", spec, tmp_path / "s")
    assert skipped.empty and set(table["place"]) == {"water"}
    assert table.groupby(["split", "class_name"]).size().to_dict() == {
        (s, c): 2 for s in ("train", "val", "test") for c in ("landbird", "waterbird")
    }
    assert table["image_id"].tolist()[:2] == ["train-00000", "train-00001"]
    assert table["source_path"].str.fullmatch(r"images/(train|val|test)-0000[0-3]\.img").all()
    seen = [storage.read_image(tmp_path / "s" / p) for p in table["path"]]
    want = [
        np.asarray(Image.open(io.BytesIO(png(i))))
        for i in (0, 1, 10, 11, 100, 101, 110, 111, 200, 201, 210, 211)
    ]
    assert all((a == b).all() for a, b in zip(seen, want))
    place = tmp_path / "cache" / "varireal" / storage.slug("who/birds") / "abc123"
    made = (place / "mirror.csv").stat().st_ino
    with pytest.warns(UserWarning, match="contrast"):
        assert downloads.fetch(layout("waterbirds"), "hf://who/birds") == place
    assert (place / "mirror.csv").stat().st_ino == made  # unpacked once


def test_a_mirror_of_aircraft_has_levels_and_the_banner(mirror, tmp_path):
    for split in ("train", "test"):
        rows = [
            {
                "image": {"bytes": png(i + 1, height=40), "path": "x.jpg"},
                "family": i,
                "variant": i,
                "bounds": {"xmin": 1},
            }
            for i in (0, 1, -1)
        ]
        write_parquet(
            mirror / split / "0000.parquet",
            rows,
            {"family": ["F-16", "Yak"], "variant": ["F-16A/B", "F/A-18"]},
        )
    spec = {"source": "fgvc_aircraft", "root": "hf://who/birds", "val_fraction": 0}
    table, skipped = datasets.load("planes", spec, tmp_path / "s")
    assert sorted(set(table["class_name"])) == ["F-16A/B", "F/A-18"]
    assert (table["height"] == 20).all()
    assert skipped["reason"].str.contains("no class name in variant").sum() == 2
    table, _ = datasets.load("planes", spec | {"annotation_level": "family"}, tmp_path / "t")
    assert sorted(set(table["class_name"])) == ["F-16", "Yak"]


def test_a_mirror_with_official_names_takes_a_split_file(mirror, tmp_path):
    names = {"label": ["abyssinian", "basset_hound"]}
    for split, start in (("train", 0), ("test", 4)):
        rows = [
            {
                "image": {"bytes": png(i), "path": None},
                "label": i % 2,
                "image_id": f"{('Abyssinian', 'basset_hound')[i % 2]}_{i}",
            }
            for i in range(start, start + 4)
        ]
        write_parquet(mirror / "data" / f"{split}-00000-of-00001.parquet", rows, names)
    split = tmp_path / "coop.csv"
    split.write_text(
        "split,filename\ntrain,Abyssinian_0.jpg\nval,Abyssinian_2.jpg\ntest,basset_hound_5.jpg\n"
    )
    table, skipped = datasets.load(
        "pets",
        {"source": "oxford_pets", "root": "hf://who/birds", "split": str(split)},
        tmp_path / "s",
    )
    assert dict(zip(table["image_id"], table["split"])) == {
        "Abyssinian_0": "train",
        "Abyssinian_2": "val",
        "basset_hound_5": "test",
    }
    assert set(table["class_name"]) == {"Abyssinian", "Basset Hound"}
    assert skipped["reason"].str.startswith("not in").sum() == 5


def test_names_that_two_splits_share_are_no_official_names(mirror, tmp_path):
    for split in ("train", "test"):
        rows = [
            {"image": {"bytes": png(i), "path": f"0000{i}.jpg"}, "label": "Audi TTS Coupe 2012"}
            for i in (1, 2)
        ]
        write_parquet(mirror / "data" / f"{split}-00000-of-00001.parquet", rows)
    ids, _ = sources_of("stanford_cars")
    assert sorted(ids) == ["test-00000", "test-00001", "train-00000", "train-00001"]
    split = tmp_path / "coop.csv"  # of which a mirror's own numbers must not pass for the names
    split.write_text("split,filename\ntrain,cars_train/00001.jpg\ntest,cars_test/00001.jpg\n")
    ids, skipped = sources_of("stanford_cars", split=str(split))
    assert not ids and sum("in no official list" in r for r in skipped) == 2


def sources_of(source: str, **more) -> tuple[list[str], list[str]]:
    skipped: list[dict[str, str]] = []
    settings = registry.parse("it", {"source": source, "root": "hf://who/birds", **more})
    found = registry.entries("it", registry.local(settings), skipped)
    return [e.image_id for e in found], [s["reason"] for s in skipped]


@pytest.mark.parametrize(
    "files, words",
    [
        ({"train/0.parquet": [bird(0)]}, r"has the splits \['train'\]; without the official test"),
        ({"test/0.parquet": [bird(0)]}, "has numbers in label and no names to them"),
        (
            {"test/0.parquet": [{"image": {"bytes": png(1), "path": ""}, "kind": "x"}]},
            r"has the columns \['kind', 'path', 'split', 'name'\], wanted one of \['label'",
        ),
        (
            {"test/0.parquet": [{"image": "http://x/a.jpg", "label": 1}]},
            "none of them images with byt",
        ),
        (
            {"a/test/0.parquet": [bird(0)], "b/test/0.parquet": [bird(0)]},
            r"holds 2 tables, in \['a', 'b'\]; name one: hf://who/birds/b",
        ),
        ({"test/0.parquet": []}, "hold no image"),
        (
            {"notes.txt": []},
            r"holds neither parquet .* but \['notes\.txt'\]; name another mirror, e\.g"
            r"\. hf://grodino",
        ),
    ],
)
def test_a_mirror_that_is_none(mirror, tmp_path, files, words):
    for file, rows in files.items():
        if file.endswith(".txt"):
            (mirror / file).write_text("x")
        else:
            write_parquet(mirror / file, rows)
    with pytest.raises(DatasetError, match=words):
        sources_of("waterbirds")
    assert not list((tmp_path / "cache").rglob(".unpack-*"))


def test_a_mirror_of_the_official_layout_or_of_its_archives(mirror, server, waits, tmp_path):
    data = server.files[f"/{FILE}"]
    (mirror / FILE).write_bytes(data)
    ids, skipped = sources_of("waterbirds")
    assert ids == [f"a/{i}.png" for i in range(6)] and not skipped and not server.asked
    with tarfile.open(fileobj=io.BytesIO(data)) as file:
        file.extractall(mirror, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    (mirror / FILE).unlink()
    assert downloads.fetch(layout("waterbirds"), "hf://who/birds") == mirror
    assert sources_of("waterbirds")[0] == ids


def test_one_folder_of_a_mirror_and_a_revision(mirror, monkeypatch):
    asked = []
    fake = huggingface_hub.snapshot_download
    monkeypatch.setattr(
        huggingface_hub,
        "snapshot_download",
        lambda repo, **keys: (asked.append((repo, keys)), fake(repo, **keys))[1],
    )
    folder, place = hub.snapshot("hf://who/birds/b/c@refs/convert/parquet")
    assert folder == mirror / "b/c" and place.parent.name == "abc123"
    assert asked == [
        (
            "who/birds",
            {
                "repo_type": "dataset",
                "revision": "refs/convert/parquet",
                "allow_patterns": ["b/c/**"],
            },
        )
    ]
    for address in ("hf://birds", "hf://", "hf://who/bi rds", "hf://who/birds@"):
        with pytest.raises(DownloadError, match=rf"{address}: wanted hf://owner/name of a data"):
            hub.snapshot(address)
    with pytest.raises(
        DownloadError,
        match=r"hf://who/cats: not fetched from the hub: FileNotFound"
        r".*404: no data set .*check the id and the network",
    ):
        hub.snapshot("hf://who/cats")


def test_the_hub_itself_says_what_is_missing(server, monkeypatch, tmp_path):
    """huggingface_hub's own code against a server that knows no data set, and against none."""
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.url)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    path = "/api/datasets/who/none/revision/main"
    lost = ("status", 404, {"X-Error-Code": "RepoNotFound"})
    server.faults = {f"{path}{end}": [lost] * 9 for end in ("", "?expand=sha")}
    with pytest.raises(DownloadError, match="hf://who/none: not fetched from the hub: Repository"):
        hub.snapshot("hf://who/none")
    assert server.asked
