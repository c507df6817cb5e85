"""Contact sheets: every picture whole, every caption in its square."""

import numpy as np
import pytest
from PIL import Image

from varireal_utils.reporting.contact_sheets import contact_sheet

HALF = np.zeros((30, 40), np.uint8)
HALF[:, 20:] = 255


def test_a_sheet_holds_every_picture_and_wraps_captions():
    blue = np.full((20, 40, 3), (0, 0, 255), np.uint8)
    tall = Image.new("RGB", (10, 90), (255, 0, 0))
    words = "a very long caption that cannot possibly stand in one line of this sheet " * 3
    sheet = contact_sheet([blue, tall, None, HALF], ["blue", words, "", "面 é"], 3, 64)
    pixels = np.asarray(sheet)
    assert sheet.mode == "RGB" and sheet.width == 4 + 3 * (64 + 4)
    assert (pixels == [0, 0, 255]).all(axis=2).sum() == 64 * 32
    assert (pixels == [255, 0, 0]).all(axis=2).sum() == 64 * 7
    one = contact_sheet([blue], [words], 3, 64)
    plain = contact_sheet([blue], (), 3, 64)
    assert 3 * 9 <= one.height - plain.height <= 3 * 16
    assert contact_sheet([], [], 8, 64).width > 64
    titled = contact_sheet([blue], [words], 3, 64, title="Cars")
    below = np.asarray(titled)[titled.height - one.height + 4 :]  # the same sheet, moved down
    assert titled.height > one.height and (below == np.asarray(one)[4:]).all()
    assert (np.asarray(titled)[: titled.height - one.height] < 128).any()
    with pytest.raises(ValueError, match="2 pictures but 1 labels"):
        contact_sheet([blue, blue], ["a"])
