"""Decoded pictures in shared maps: their bytes, who makes them, what becomes of damaged ones."""

import multiprocessing
import pickle
import shutil
import warnings

import numpy as np
import pytest
import torch

from varireal_utils.core import storage
from varireal_utils.training import image_cache, pixel_maps
from varireal_utils.training.image_cache import Images

SHORTEST = {"size": 16, "resize_mode": "shortest"}
COUNT = 9


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of photographs of several sizes; nothing is small enough for memory."""
    rng = np.random.default_rng(0)
    for n in range(COUNT):
        height, width = (int(rng.integers(20, 90)) for _ in "hw")
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        storage.write_image(tmp_path / f"{n}.png", pixels)
    monkeypatch.setattr(pixel_maps, "KEPT", 0.0)
    monkeypatch.setattr(pixel_maps.PixelMaps, "_whole", set())
    return tmp_path


def images(folder, maps="maps", names=range(COUNT), **more):
    chosen = None if maps is None else folder / maps
    return Images([f"{n}.png" for n in names], folder, 16, maps=chosen, **more)


def maps_of(folder, kind="shorter32"):
    return sorted((folder / "maps").glob(f"{kind}-*.map"))


def reads(monkeypatch):
    """The files that are decoded from now on."""
    found, own = [], Images._read
    monkeypatch.setattr(Images, "_read", lambda self, p: found.append(str(p)) or own(self, p))
    return found


def test_an_image_is_the_same_wherever_it_is_held(folder):
    plain, mapped = images(folder, None), images(folder)
    files = images(folder, None, memory=0)
    assert plain.kept is not None and mapped.kept is None and files.kept is None
    for i in range(COUNT):
        assert torch.equal(plain[i], mapped[i]) and torch.equal(plain[i], files[i])
        height, width = plain.size(i)
        assert mapped.size(i) == files.size(i) == (height, width) == plain[i].shape[1:]
        wanted = plain[i].permute(1, 2, 0)[height // 3 :, width // 4 :].numpy()
        for one in (plain, mapped, files):
            part = np.empty_like(wanted)
            one.cut(i, height // 3, width // 4, part)
            assert np.array_equal(part, wanted)
    for rows in (range(4), range(4, COUNT)):
        wanted = plain.inputs(rows, SHORTEST)
        assert torch.equal(wanted, mapped.inputs(rows, SHORTEST))
        assert torch.equal(wanted, files.inputs(rows, SHORTEST))


def test_each_is_decoded_once_for_all_sets_and_trainings(folder, monkeypatch):
    images(folder)[0]
    found = reads(monkeypatch)
    again, part = images(folder), images(folder, names=[3, 1])
    again[0], part[0]
    assert len(found) == image_cache.SOME + 2  # whose sizes are asked for
    storage.write_image(folder / "new.png", np.full((40, 30, 3), 7, np.uint8))
    more = images(folder, names=[0, "new"])
    assert np.array_equal(more[1][:, 0, 0], [7, 7, 7]) and len(maps_of(folder)) == 2
    assert torch.equal(more[0], part.__class__.__getitem__(again, 0))


def test_a_changed_photograph_is_decoded_anew(folder):
    before = images(folder)[0]
    shutil.copy(folder / "1.png", folder / "0.png")
    after = images(folder)
    assert torch.equal(after[0], after[1])
    assert after[0].shape != before.shape or not torch.equal(after[0], before)


@pytest.mark.parametrize("harm", ["cut", "pixel", "index", "empty"])
def test_a_damaged_map_is_made_again(folder, harm):
    wanted = [images(folder)[i] for i in range(COUNT)]
    (path,) = maps_of(folder)
    data = bytearray(path.read_bytes())
    if harm == "pixel":
        data[11] ^= 1
    if harm == "index":
        data[-40] ^= 0x80
    path.write_bytes(b"" if harm == "empty" else data[:-1] if harm == "cut" else data)
    pixel_maps.PixelMaps._whole.clear()  # another process
    again = images(folder)
    with pytest.warns(UserWarning, match="made again"):
        assert torch.equal(again[0], wanted[0])
    assert all(torch.equal(again[i], w) for i, w in enumerate(wanted))
    pixel_maps.PixelMaps._whole.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        images(folder)[0]


def test_a_map_that_is_cut_while_it_is_read_is_named(folder):
    held = images(folder)
    held[0]
    maps_of(folder)[0].write_bytes(b"")
    with pytest.raises(pixel_maps.DamagedMap, match="cut short"):
        held[COUNT - 1]


def test_a_killed_maker_leaves_no_map(folder, monkeypatch):
    own = Images._read
    turns = iter(range(100))

    def dies(self, path):
        if next(turns) > image_cache.SOME + 3:
            raise KeyboardInterrupt
        return own(self, path)

    monkeypatch.setattr(Images, "_read", dies)
    with pytest.raises(KeyboardInterrupt):
        images(folder)[0]
    assert not maps_of(folder) and not list((folder / "maps").glob(".draft*"))


def test_without_room_images_are_kept_in_memory_and_it_is_said(folder, monkeypatch):
    monkeypatch.setattr(pixel_maps.PixelMaps, "_room", lambda self, need: False)
    full = images(folder)
    with pytest.warns(UserWarning, match="cannot be kept"):
        assert full.kept is not None
    monkeypatch.setattr(pixel_maps, "free_memory", lambda: 0.0)
    none = images(folder)
    with pytest.warns(UserWarning, match="decoded at every use"):
        assert none.kept is None
    assert torch.equal(full[2], none[2])


def test_unused_maps_make_room(folder, monkeypatch):
    import os

    images(folder, names=[0])[0]
    (old,) = maps_of(folder)
    fresh = images(folder, names=[1])
    fresh[0]
    os.utime(old, (1, 1))
    free = [old]
    monkeypatch.setattr(pixel_maps, "enough", lambda place, need: not any(p.exists() for p in free))
    assert pixel_maps.PixelMaps(folder / "maps", "shorter32")._room(1e6)
    assert len(maps_of(folder)) == 1 and not old.exists()


@pytest.mark.parametrize(
    ("need", "maps", "room", "memory", "wanted"),
    [
        (1e6, True, True, 1e12, "memory"),
        (1e10, True, True, 1e12, "disk"),
        (1e10, True, False, 1e12, "memory"),
        (1e10, True, False, 1e10, "files"),
        (1e9, False, True, 1e12, "memory"),
        (1e10, False, True, 1e12, "files"),
    ],
)
def test_the_place_follows_what_is_free(tmp_path, monkeypatch, need, maps, room, memory, wanted):
    monkeypatch.setattr(pixel_maps, "enough", lambda folder, need: room)
    monkeypatch.setattr(pixel_maps, "free_memory", lambda: memory)
    assert pixel_maps.place(need, tmp_path if maps else None) == wanted


def _open(folder, queue):
    found = reads_in_process()
    image = images(folder)[4]
    queue.put((len(found), image.sum().item()))


def reads_in_process():
    found, own = [], Images._read

    def read(self, path):
        found.append(path)
        return own(self, path)

    Images._read = read
    return found


def test_of_several_processes_one_decodes(folder):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    work = [context.Process(target=_open, args=(folder, queue)) for _ in range(3)]
    for process in work:
        process.start()
    got = [queue.get(timeout=60) for _ in work]
    for process in work:
        process.join()
    assert len({total for _, total in got}) == 1 and len(maps_of(folder)) == 1
    assert sorted(count for count, _ in got) == [8, 8, 8 + COUNT]


def test_a_loading_process_opens_maps_itself(folder):
    held = images(folder)
    first = held[3]
    other = pickle.loads(pickle.dumps(held))
    assert torch.equal(other[3], first)
