"""The official client of OpenAI, as it is, in strict validation, on a real server."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from io import BytesIO

import numpy as np
import openai
import pytest
from PIL import Image

from diptych import TextToImage
from tests.system.server import served

PROMPT = "a large red circle"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[openai.OpenAI]:
    with served(tmp_path_factory.mktemp("data")) as (base, _), openai.OpenAI(
        base_url=f"{base}/v1", api_key="none", max_retries=0,
        _strict_response_validation=True,
    ) as made:  # fmt: skip
        yield made


def picture_of(client: openai.OpenAI) -> str:
    """A painted picture in base64."""
    made = client.images.generate(
        model="scenes-t2i", prompt=PROMPT, size="64x64", response_format="b64_json"
    )  # pyright: ignore
    assert made.data
    return str(made.data[0].b64_json)


def test_models(client: openai.OpenAI):
    assert {one.id for one in client.models.list()} == {"scenes-t2i", "scenes-i2t", "scenes-clip"}
    assert client.models.retrieve("scenes-t2i").object == "model"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nothing")


def test_pictures(client: openai.OpenAI):
    made = client.images.generate(
        model="scenes-t2i", prompt=PROMPT, n=2, size="64x64", response_format="b64_json"
    )  # pyright: ignore
    assert made.data and len(made.data) == 2
    shown = [Image.open(BytesIO(base64.b64decode(str(one.b64_json)))) for one in made.data]
    assert {picture.size for picture in shown} == {(64, 64)}


@pytest.mark.filterwarnings("ignore:deprecated")  # by the client: OpenAI gives variations up
def test_a_picture_is_changed_and_varied(client: openai.OpenAI):
    """The edit is what the same call in Python paints."""
    start = base64.b64decode(picture_of(client))
    words, more = "a large blue circle", {"strength": 0.7, "seed": 5}
    made = client.images.edit(
        image=start, prompt=words, response_format="b64_json", extra_body=more
    )  # pyright: ignore
    assert made.data
    edited = Image.open(BytesIO(base64.b64decode(str(made.data[0].b64_json))))
    painter = TextToImage.load("scenes-t2i")
    wanted = painter(words, init=Image.open(BytesIO(start)), strength=0.7, seed=5)
    assert np.array_equal(np.asarray(edited), np.asarray(wanted))
    varied = client.images.create_variation(image=start, n=2, response_format="b64_json")
    assert varied.data and len(varied.data) == 2


def test_a_picture_is_talked_about_whole_and_in_pieces(client: openai.OpenAI):
    url = f"data:image/png;base64,{picture_of(client)}"
    asked = [
        {"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": url}},
            {"type": "text", "text": "what color is the circle?"},
        ]}
    ]  # fmt: skip
    whole = client.chat.completions.create(model="scenes-i2t", messages=asked)  # pyright: ignore
    assert whole.choices[0].message.content == "red"
    pieces = client.chat.completions.create(model="scenes-i2t", messages=asked, stream=True)  # pyright: ignore
    said = [one.choices[0].delta.content or "" for one in pieces if one.choices]
    assert "".join(said) == "red"


def test_vectors(client: openai.OpenAI):
    made = client.embeddings.create(
        model="scenes-clip", input=[PROMPT, "a small blue star"], encoding_format="float"
    )
    first, second = (one.embedding for one in made.data)
    assert len(first) == len(second) and first != second
    assert sum(number * number for number in first) == pytest.approx(1, abs=1e-4)


def test_what_cannot_be_is_refused_with_what_to_do(client: openai.OpenAI):
    with pytest.raises(openai.NotFoundError):
        client.images.generate(model="nothing", prompt=PROMPT)
    with pytest.raises(openai.APIStatusError) as caught:
        client.images.generate(model="scenes-t2i", prompt=PROMPT, size="1024x1024")
    assert caught.value.status_code in (400, 422) and "64" in caught.value.response.text
