"""The area under the curve of hits against false alarms."""

from __future__ import annotations

from collections.abc import Sequence


def auc(right: Sequence[float], wrong: Sequence[float]) -> float:
    """How often what is right scores higher than what is wrong, ties half, 0..1 (Mann and Whitney,
    1947). Raises ValueError where one of them is empty."""
    if not right or not wrong:
        raise ValueError("an area needs scores of both kinds")
    ranked = sorted([(score, True) for score in right] + [(score, False) for score in wrong])
    total, place = 0.0, 0
    while place < len(ranked):
        end = place
        while end < len(ranked) and ranked[end][0] == ranked[place][0]:
            end += 1
        middle = (place + end + 1) / 2  # ranks count from 1
        total += middle * sum(is_right for _, is_right in ranked[place:end])
        place = end
    least = len(right) * (len(right) + 1) / 2
    return (total - least) / (len(right) * len(wrong))
