"""Bad inputs 5, 6 and 15: fields unknown, of the wrong kind, and sources of a picture."""

from __future__ import annotations

import json

import pytest
from pydantic import Field, field_validator

from diptych.service.guards.fields import LARGEST_SEED, Seed, Strict, one_source, validated
from diptych.service.guards.json_gate import parsed
from diptych.service.guards.problem import Problem


class Asked(Strict):
    prompt: str
    seed: Seed = 0
    guidance: float = Field(default=3.0, ge=0, le=30)
    sizes: tuple[int, ...] = Field(default=(), strict=False)

    @field_validator("prompt")
    @classmethod
    def _not_that(cls, prompt: str) -> str:
        if "xsecretx" in prompt:
            raise ValueError(f"not {prompt}")
        return prompt


BAD = [
    ("5 unknown", '{"prompt":"a","prompts":"b"}', "/prompts"),
    ("5 missing", "{}", "/prompt"),
    ("5 text for a number", '{"prompt":"a","seed":"512"}', "/seed"),
    ("5 float for an integer", '{"prompt":"a","seed":512.0}', "/seed"),
    ("5 bool for an integer", '{"prompt":"a","seed":true}', "/seed"),
    ("5 null", '{"prompt":null}', "/prompt"),
    ("5 within", '{"prompt":"a","sizes":[1,"xsecretx"]}', "/sizes/1"),
    ("5 no object", "[]", ""),
    ("5 bool for a float", '{"prompt":"a","guidance":true}', "/guidance"),
    ("6 negative", '{"prompt":"a","seed":-1}', "/seed"),
    ("6 too large", f'{{"prompt":"a","seed":{2**63}}}', "/seed"),
    ("6 far too large", f'{{"prompt":"a","seed":{2**64}}}', "/seed"),
    ("a validator's words", '{"prompt":"xsecretx"}', "/prompt"),
    ("a name that is none", '{"prompt":"a","xsecretx ~/":1}', "/*"),
]


@pytest.mark.parametrize(("body", "field"), [c[1:] for c in BAD], ids=[c[0] for c in BAD])
def test_each_bad_field_is_named_and_its_value_is_not(body: str, field: str):
    with pytest.raises(Problem) as caught:
        validated(Asked, parsed(body.encode()))
    problem = caught.value
    assert (problem.status, problem.slug, problem.field) == (422, "bad-field", field)
    assert problem.__context__ is None and "xsecretx" not in json.dumps(problem.body("r"))


def test_a_good_request_is_read():
    body = f'{{"prompt":"a","seed":{LARGEST_SEED},"guidance":4}}'
    assert validated(Asked, parsed(body.encode())).seed == 2**63 - 1


def test_15_one_source_and_no_other_number():
    assert one_source({"image": None, "image_url": "x"}) == "image_url"
    for sources in ({"image": None, "image_url": None}, {"image": "", "image_url": "x"}):
        with pytest.raises(Problem) as caught:
            one_source(sources)
        assert (caught.value.status, caught.value.slug) == (422, "bad-source")
