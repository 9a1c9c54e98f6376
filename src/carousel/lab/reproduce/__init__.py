"""Published tables, reproduced: one file each, with the `CLAIMS` of a paper and a `figure`.

`experiment=reproduce/NAME` runs one, and its report ends in the table of the claims beside what was found.
"""

from types import ModuleType

from . import (
    adding_1997,
    bai_2018,
    capacity,
    chrono,
    continual_reber,
    copying,
    counting,
    hochreiter_1997,
    japanese_vowels,
    jozefowicz_2015,
    mackey_glass,
    mnist1d,
    parity,
    reber,
    rusch_2022,
    s3,
    spoken_digits,
    temporal_order_1997,
    timing,
    warping,
    xml,
)

REPRODUCED: dict[str, ModuleType] = {
    f"reproduce/{module.__name__.rpartition('.')[2]}": module
    for module in (
        reber,
        hochreiter_1997,
        adding_1997,
        temporal_order_1997,
        continual_reber,
        counting,
        timing,
        warping,
        japanese_vowels,
        spoken_digits,
        mnist1d,
        mackey_glass,
        jozefowicz_2015,
        xml,
        parity,
        s3,
        chrono,
        capacity,
        rusch_2022,
        bai_2018,
        copying,
    )
}
