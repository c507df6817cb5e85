"""Registers data sets: every source of photographs that a parameter file may name.

    DATA_SETS      source -> entry; a new data set is a module in data/sets and a line here
    parse          settings of a data set, typed and checked
    of_study       the same of a study's configuration
    entries        all entries of a source, each image once
    local          settings with a root on this machine, fetched where they say so
    source_files   what a data set's table depends on, for the key of 01_data

Invariant (tests/unit/test_registry.py): entries depend on the source's files alone; what is wrong
with one line or file is named in `skipped` and costs nothing else; what is wrong with a whole
source is a DatasetError that names data set, key, value and remedy.
"""

from __future__ import annotations

import contextlib
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..core import storage
from ..core.config import StudyConfig
from ..core.config_errors import ParameterError, nearest
from . import downloads
from .data_set import DataSet, DataSetSpec
from .image_record import DatasetError, Entry, Skipped

MODULES = (
    "world",
    "oxford_pets",
    "fgvc_aircraft",
    "stanford_cars",
    "waterbirds",
    "caltech101",
    "dtd",
    "eurosat",
    "sun397",
    "food101",
    "flowers102",
    "imagenet",
    "imagefolder",
    "csv_file",
)
_ENTRIES: list[DataSet] = [import_module(f".sets.{m}", __package__).DATA_SET for m in MODULES]
DATA_SETS: dict[str, DataSet] = {entry.name: entry for entry in _ENTRIES}


def parse(name: str, settings: Any) -> DataSetSpec:
    """Typed settings of data set `name`. Raises DatasetError.

    settings: the mapping of the parameter file, or settings that are typed already.
    """
    if name != storage.slug(name):
        raise DatasetError(
            f"datasets.{name}: the name is a folder's name: lower-case letters, "
            "digits, _ and - please"
        )
    if isinstance(settings, DataSetSpec):
        return settings
    if not isinstance(settings, dict):
        raise DatasetError(f"datasets.{name}: got {settings!r}, wanted keys and values")
    source = settings.get("source")
    if not isinstance(source, str) or source not in DATA_SETS:
        raise DatasetError(
            f"datasets.{name}.source: got {source!r}, wanted one of {sorted(DATA_SETS)}"
        )
    try:
        return DATA_SETS[source].spec.model_validate(settings)
    except ValidationError as error:
        raise _explained(name, source, error) from None


def _explained(name: str, source: str, error: ValidationError) -> DatasetError:
    """The first fault of a spec in words: data set, key, value, what was wanted."""
    faults = error.errors(include_url=False)
    for fault in faults:
        if fault["type"] == "unknown":
            key, near = fault["ctx"]["key"], fault["ctx"]["near"]
            return DatasetError(f"datasets.{name}.{key}: source {source} knows no such key{near}")
    missing = [str(f["loc"][-1]) for f in faults if f["type"] == "missing"]
    if missing:
        return DatasetError(f"datasets.{name}: source {source} needs {missing}")
    fault = faults[0]
    words = fault.get("ctx", {}).get("wanted", fault["msg"])
    key = fault["loc"][0] if fault["loc"] else "source"
    return DatasetError(f"datasets.{name}.{key}: got {fault['input']!r}, wanted {words}")


def of_study(config: StudyConfig, name: str) -> DataSetSpec:
    """Typed settings of a data set of a study, or of its replicate. Raises ParameterError for a
    name that is none, DatasetError for settings that are wrong."""
    if name not in config.datasets:
        raise ParameterError(
            f"{config.file}: datasets: no data set {name!r}{nearest(name, config.datasets)}"
        )
    spec = parse(name, config.datasets[name])
    return spec if config.replicate is None else spec.of_replicate(config.seed, config.replicate)


def entries(name: str, spec: DataSetSpec, skipped: Skipped) -> list[Entry]:
    """All entries of a source of photographs; adds to `skipped`. Raises DatasetError.

    An image_id that comes twice keeps its first entry, so that ids are unique.
    """
    read = DATA_SETS[spec.source].read
    if read is None:
        raise DatasetError(f"datasets.{name}: source {spec.source} draws its pictures itself")
    kept: dict[str, Entry] = {}
    for entry in read(name, spec, skipped):
        if not all(map(storage.is_text, (entry.image_id, entry.class_name, str(entry.file)))):
            skipped.append({"file": entry.image_id, "reason": "its name is not UTF-8; rename it"})
        elif kept.setdefault(entry.image_id, entry) is not entry:
            skipped.append(
                {"file": entry.image_id, "reason": "listed twice; its first line counts"}
            )
    return list(kept.values())


def local(spec: DataSetSpec) -> DataSetSpec:
    """The settings with a root on this machine, fetched where they say `download` or hf://.

    A root that holds everything is left alone, without a look at the network. Raises DatasetError
    (a DownloadError where it is the network's fault).
    """
    layout, root = DATA_SETS[spec.source].layout, getattr(spec, "root", "")
    if layout is None:
        return spec
    if root.startswith("hf://"):
        return spec.model_copy(update={"root": str(downloads.fetch(layout, root))})
    if getattr(spec, "download", False) and layout.lacking(root, spec):
        downloads.fetch(layout, root)
    return spec


def source_files(name: str, spec: DataSetSpec) -> list[Path]:
    """Photographs, masks and lists that a data set's table depends on, sorted; what is not there
    yet is left out. A mirror on the hub is named by its address alone."""
    data_set = DATA_SETS[spec.source]
    if data_set.read is None or getattr(spec, "root", "").startswith("hf://"):
        return []
    found = set(data_set.lists(spec))
    with contextlib.suppress(DatasetError):  # nothing to read yet; 01_data says what is wrong
        for entry in entries(name, spec, []):
            found |= {entry.file, entry.mask} if entry.mask else {entry.file}
    return sorted(p for p in found if p.is_file())


def draws(settings: dict[str, Any]) -> bool:
    """Whether the pictures of a data set, as a file gives it, are drawn and no photographs."""
    data_set = DATA_SETS.get(str(settings.get("source")))
    return data_set is not None and data_set.draw is not None


def titles() -> dict[str, str]:
    """Data set's name in a study -> its name in figures, of those that the repository ships."""
    return {name: title for d in DATA_SETS.values() for name, title in d.titles.items()}
