"""People of people-mot who were given a new number when they came back; decided once, by looking at the pictures.

Camera c4 (PETS09-S2L1), same hair, clothes and shoes, never in one frame:
    81 89 92 98  man in a black leather jacket with a grey hood, black trousers, a sheet of paper in his hand
    83 94        man in a blue and red quilted jacket, white shoes
    84 93        woman with fair curly hair, black coat, jeans
    90 96        woman with long dark hair, red jacket, jeans
    85 91        bald man in a dark jacket, light jeans
    80 95        man in a brown jacket, light jeans, pale shoes
    82 88        man with glasses in a long black coat
Camera c1 (MOT16-11): 32 might be 20 (men in black), but 20 is only seen from behind and the coats seem to differ in
length, so they stay two.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from personsearch.core.records import ImageTruth

SECOND_NUMBERS = {89: 81, 92: 81, 98: 81, 94: 83, 93: 84, 96: 90, 91: 85, 95: 80, 82: 88}


def one_number_each(truth: ImageTruth) -> ImageTruth:
    identities = np.array([SECOND_NUMBERS.get(int(i), int(i)) for i in truth.identities], np.int64)
    return replace(truth, identities=identities)
