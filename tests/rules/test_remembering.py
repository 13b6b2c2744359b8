"""A question with the very same objects is answered once."""

from __future__ import annotations

from lightning_neurohealth.rules.remembering import remembers_the_last


def test_asks_again_only_for_other_objects() -> None:
    asked: list[tuple[object, ...]] = []

    @remembers_the_last
    def count(*of: object) -> int:
        asked.append(of)
        return len(asked)

    one, equal = [1], [1]
    assert [count(one), count(one), count(equal), count(equal), count(one), count(one, one)] == [1, 1, 2, 2, 3, 4]
