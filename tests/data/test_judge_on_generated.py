"""The judge against a person: 200 pictures painted by `scenes-t2i` at three stages of its training,
for prompts of the `tune` split, labelled by eye as right or wrong.

The person saw each picture beside the three sizes of what was asked for, and not the judge's
verdict; sizes near a border were looked at again beside the same, larger.
"""

from __future__ import annotations

from benchmarks.judge_on_generated import verdicts

# What the judge lets pass and a person does not: ragged hearts, and sizes at the border.
FALSE_ACCEPTS = {57, 68, 91, 180, 181}


def test_the_judge_agrees_with_a_person():
    found = verdicts()
    accepted = {i for i, (_, person, judge) in enumerate(found) if judge and not person}
    assert accepted <= FALSE_ACCEPTS
    assert sum(person == judge for _, person, judge in found) >= 0.95 * len(found)
    assert 0.3 < sum(person for _, person, _ in found) / len(found) < 0.9
