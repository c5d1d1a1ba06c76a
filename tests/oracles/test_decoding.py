"""Words against `generate` of transformers: the same tokens and scores, greedy and by beams."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from networks import randomized
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from diptych.decoding.choices import Decoding, filtered, narrowed
from diptych.models.decoder import Decoder
from diptych.models.decoder_config import DecoderConfig
from diptych.pipelines.answering import Answering
from diptych.pipelines.decoder_reading import DecoderReading
from diptych.pipelines.reading import Answer, Ask, Prompt
from diptych.pipelines.texts import Text

ENDS = (2, 5)
MOST = 14


@cache
def both(seed: int) -> tuple[DecoderReading, nn.Module]:
    config = DecoderConfig.tiny(vocabulary=24, head_dim=6)
    theirs = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=24,
            hidden_size=config.width,
            intermediate_size=config.hidden,
            num_hidden_layers=config.depth,
            num_attention_heads=config.heads,
            num_key_value_heads=config.groups,
            rms_norm_eps=config.norm_epsilon,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=list(ENDS),
        )
    )
    randomized(theirs, seed).float()
    ours = Decoder(config).eval()
    ours.load_state_dict({k.removeprefix("model."): v for k, v in theirs.state_dict().items()})
    ours.requires_grad_(False).pack()
    return DecoderReading(ours, ENDS, lambda tokens: " ".join(map(str, tokens))), theirs


PROMPTS = [[1, 7, 9, 4], [1, 3], [1, 20, 21, 22, 6, 7, 8]]


def ours_of(seed: int, prompt: list[int], **decoding: Any) -> Answer:
    one, _ = both(seed)
    before, rest = prompt[:-1], prompt[-1:]
    ask = Ask(
        Prompt(b"", lambda: one.words(before), one.words(rest, len(before))),
        Decoding(most=MOST, **decoding),
    )
    answering, text = Answering(one, 2), Text(ask)
    answering.join(text)
    answering.run()
    return text.answer()


def theirs_of(seed: int, prompt: list[int], **options: Any) -> Any:
    """Given as embeddings, so that filters see the answer alone, as ours do."""
    _, theirs = both(seed)
    rows = theirs.model.embed_tokens(torch.tensor([prompt]))
    return theirs.generate(
        inputs_embeds=rows, attention_mask=torch.ones(1, len(prompt)), max_new_tokens=MOST,
        do_sample=False, return_dict_in_generate=True, output_scores=True, **options,
    )  # fmt: skip


def said(sequence: torch.Tensor) -> tuple[list[int], str]:
    """Tokens up to the first end, and how they finish."""
    tokens = sequence.tolist()
    end = next((i for i, token in enumerate(tokens) if token in ENDS), None)
    return (tokens[:MOST], "length") if end is None else (tokens[:end], "end")


@pytest.mark.filterwarnings("ignore:Passing .* with `inputs_embeds`")
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("mine", "them"),
    [
        ({}, {}),
        ({"repetition": 1.7}, {"repetition_penalty": 1.7}),
        ({"no_repeat": 2}, {"no_repeat_ngram_size": 2}),
        ({"least": 9}, {"min_new_tokens": 9}),
    ],
)
def test_greedy(seed: int, mine: dict[str, Any], them: dict[str, Any]) -> None:
    for prompt in PROMPTS:
        found = ours_of(seed, prompt, **mine)
        wanted = said(theirs_of(seed, prompt, **them).sequences[0])
        assert (list(found.tokens), found.finish) == wanted


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("beams", [2, 5])
@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.0])
def test_beams(seed: int, beams: int, penalty: float) -> None:
    for prompt in PROMPTS:
        found = ours_of(seed, prompt, beams=beams, length_penalty=penalty)
        wanted = theirs_of(seed, prompt, num_beams=beams, length_penalty=penalty)
        assert (list(found.tokens), found.finish) == said(wanted.sequences[0])
        score = sum(found.logprobs) / len(found.logprobs) ** penalty
        assert score == pytest.approx(float(wanted.sequences_scores[0]), abs=1e-4)


@pytest.mark.parametrize(
    ("mine", "them"),
    [
        ({"top_k": 4}, ["TopKLogitsWarper", 4]),
        ({"top_p": 0.6}, ["TopPLogitsWarper", 0.6]),
        ({"min_p": 0.3}, ["MinPLogitsWarper", 0.3]),
    ],
)
def test_which_tokens_may_be_drawn(mine: dict[str, Any], them: list[Any]) -> None:
    import transformers

    warp = getattr(transformers, str(them[0]))(them[1])
    for seed in range(20):
        logits = torch.randn(50, generator=torch.Generator().manual_seed(seed)) * 2
        decoding = Decoding(temperature=0.7, **mine)
        wanted = warp(torch.zeros(1, 0, dtype=torch.int64), logits[None] / 0.7)[0]
        assert torch.equal(narrowed(logits, decoding), wanted)
        assert float(filtered(logits, decoding, []).softmax(0).sum()) == pytest.approx(1)
