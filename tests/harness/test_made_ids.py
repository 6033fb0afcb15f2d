"""The ids that tests make are ids, in each form, and say the time that they were made at."""

from __future__ import annotations

import random
import re

from gcount.core.state.ids import time_of, well_formed
from tests.harness.made_ids import made_id


def test_each_made_id_says_its_time_and_differs_from_the_others() -> None:
    rng, now = random.Random(1), 1_700_000_000.987
    ids = [made_id(rng, now) for _ in range(3000)]
    assert len(set(ids)) == len(ids)
    assert all(well_formed(each) and time_of(each) == 1_700_000_000 for each in ids)
    forms = [
        r"17\d{8}-[0-9a-f]{16}",
        r"[0-9A-Z]{26}",
        r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
    ]
    assert all(any(re.fullmatch(form, each) for each in ids) for form in forms)
