"""What an id says of its time, and what is none."""

import pytest

from gcount.core.state.ids import canonical, key_of, split, time_of, well_formed


@pytest.mark.parametrize(
    ("id_", "time"),
    [
        ("1700000000-a", 1_700_000_000),
        ("0-~", 0),
        ("12345678-abc", 12_345_678),  # as long as the first group of a UUID
        ("999999999999-1", 999_999_999_999),
        ("1234567890123-a", None),
        ("1700000000-", None),
        ("1700000000", None),
        ("-1", None),
        ("a-1", None),
        ("017f22e2-79b0-7cc3-98c4-dc0c0c07398f", 1_645_557_742),  # RFC 9562, A.6
        ("017F22E2-79B0-7CC3-98C4-DC0C0C07398F", 1_645_557_742),
        ("12345678-79b0-7cc3-98c4-dc0c0c07398f", 0x1234567879B0 // 1000),
        ("12345678-79b0-4cc3-98c4-dc0c0c07398f", None),  # of version 4: it says no time
        ("12345678-79b0-7cc3-18c4-dc0c0c07398f", None),  # of another variant
        ("12345678-79b0-7cc3-98c4-dc0c0c07398f0", 12_345_678),
        ("01ARZ3NDEKTSV4RRFFQ69G5FAV", 1_469_922_850),
        ("01arz3ndektsv4rrffq69g5fav", 1_469_922_850),
        ("81ARZ3NDEKTSV4RRFFQ69G5FAV", None),  # beyond 128 bits
        ("01ARZ3NDEKTSV4RRFFQ69G5FAU", None),  # no letter of ULIDs
        ("hello", None),
    ],
)
def test_an_id_says_when_it_was_made(id_: str, time: int | None) -> None:
    assert well_formed(id_)
    assert time_of(id_) == time


@pytest.mark.parametrize(
    ("id_", "kept"),
    [
        ("017F22E2-79B0-7CC3-98C4-DC0C0C07398F", "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"),
        ("017f22e2-79B0-7cc3-98c4-dc0c0c07398f", "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"),
        ("01arz3ndektsv4rrffq69g5fav", "01ARZ3NDEKTSV4RRFFQ69G5FAV"),
        ("1700000000-aB", "1700000000-aB"),
        ("1700000000-A1B2-C3D4-E5F6-A7B8C9D0E1", "1700000000-A1B2-C3D4-E5F6-A7B8C9D0E1"),  # as long as a UUID
        ("1700000000-aBcDeFgHjKmNpQr", "1700000000-aBcDeFgHjKmNpQr"),  # as long as a ULID
    ],
)
def test_a_uuid_and_a_ulid_are_the_same_in_small_letters_and_in_capitals(id_: str, kept: str) -> None:
    assert canonical(id_) == kept
    assert canonical(kept) == kept
    assert time_of(id_) == time_of(kept)


@pytest.mark.parametrize("id_", ["", "a" * 65, "a b", "a\n", "\N{LATIN SMALL LETTER E WITH ACUTE}", "a/b", "a+b"])
def test_other_characters_and_lengths_are_no_id(id_: str) -> None:
    assert not well_formed(id_)


def test_a_key_is_split_at_its_first_space() -> None:
    assert key_of("a b", "1-x") == "1-x a b"
    assert split("1-x a b") == ("1-x", "a b")
    assert split("1-x") == ("1-x", "")
