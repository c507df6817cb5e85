"""SUN397 in CoOp\'s layout.

root[/sun397]/SUN397/<letter>/<scene>/<file>
listed in split_zhou_SUN397.json
"""

from __future__ import annotations

from ..coop import CoopLayout
from ..data_set import DataSet, FolderSpec

LAYOUT = CoopLayout(folder="sun397", pictures="SUN397", listed="split_zhou_SUN397.json")
DATA_SET = DataSet(
    name="sun397",
    about="397 scenes, in CoOp's layout",
    spec=FolderSpec,
    read=LAYOUT.read,
    lists=LAYOUT.files,
    owner="SUN397",
    terms="not stated; pictures of the web",
    noun="scene",
)
