"""Names in little memory, and how repeated ones are found."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.base import names
from shards.base.names import Names, find_repeated, hashes


def test_names_are_a_list_of_strings() -> None:
    texts = ["", "Ärger/é.jpg", "b", "x" * 300, "\udcff.jpg"]
    stored = Names(iter(texts))
    assert list(stored) == texts and len(stored) == 5 and stored[-1] == texts[-1]
    assert stored == Names(texts) and stored != Names(texts[:-1]) and list(stored[1:3]) == texts[1:3]
    assert "b" in stored and "c" not in stored and list(reversed(stored)) == texts[::-1]
    assert b"".join(text.encode("utf-8", "surrogateescape") for text in texts) == stored.text
    with pytest.raises(IndexError):
        stored[5]


@given(st.lists(st.sampled_from("abcdefgh")))
def test_repeated_names(values: list[str]) -> None:
    assert find_repeated(lambda: values) == {value for value in values if values.count(value) > 1}


def test_names_that_only_share_a_hash_are_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "hashes", lambda values, salt="": np.array([len(value) % 2 for value in values]))
    assert find_repeated(lambda: ["a", "bbb", "cc", "bbb"]) == {"bbb"}


def test_hashes_depend_on_name_and_salt_only() -> None:
    assert hashes(["a", "b"]).tolist() == hashes(["b", "a"]).tolist()[::-1]
    assert hashes(["a"], "1") != hashes(["a"], "2") and len(set(hashes(map(str, range(1000))).tolist())) == 1000
