"""Describable Textures in CoOp\'s layout.

root[/dtd]/images/<class>/<file>
listed in split_zhou_DescribableTextures.json
"""

from __future__ import annotations

from ..coop import CoopLayout
from ..data_set import DataSet, FolderSpec

LAYOUT = CoopLayout(folder="dtd", pictures="images", listed="split_zhou_DescribableTextures.json")
DATA_SET = DataSet(
    name="dtd",
    about="47 classes of textures, in CoOp's layout",
    spec=FolderSpec,
    read=LAYOUT.read,
    lists=LAYOUT.files,
    owner="Describable Textures",
    terms="research only",
    noun="texture",
)
