"""The recipes by name. A new recipe is a file beside this one and a line here."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from diptych.foundation.errors import unknown

if TYPE_CHECKING:
    from diptych.training.plan import Plan, Settings


class Recipe(Protocol):
    """What every recipe offers."""

    @property
    def training(self) -> Settings: ...

    def build(self) -> Plan:
        """Model, objective and data; loads files, draws the first weights."""
        ...

    def finish(self, plan: Plan, run: Path) -> None:
        """Write the finished model into the run folder, ready to be loaded."""
        ...


class RecipeEntry(NamedTuple):
    """Where a recipe is, and what `diptych train --list` says about it."""

    module: str
    class_name: str
    line: str


RECIPES: dict[str, RecipeEntry] = {
    "scenes-t2i": RecipeEntry(
        "diptych.recipes.scenes_t2i",
        "ScenesT2I",
        "prompts of the scenes world to pictures, by rectified flow in the latents of scenes-vae",
    ),
    "scenes-i2t": RecipeEntry(
        "diptych.recipes.scenes_i2t",
        "ScenesI2T",
        "captions, answers and reading of scenes by one model",
    ),
    "scenes-clip": RecipeEntry(
        "diptych.recipes.scenes_clip",
        "ScenesClip",
        "pictures and captions of scenes in one space, for search",
    ),
    "scenes-vae": RecipeEntry(
        "diptych.recipes.scenes_vae",
        "ScenesVAE",
        "pictures of the scenes world to latents and back; the first stage of scenes-t2i",
    ),
    "scenes-text": RecipeEntry(
        "diptych.recipes.scenes_text",
        "ScenesText",
        "captions of the scenes world to what they say; the second stage of scenes-t2i",
    ),
    "emoji-i2t": RecipeEntry(
        "diptych.recipes.emoji_i2t",
        "EmojiI2T",
        "names of drawings in seven styles; reads the set of `diptych data emoji`",
    ),
    "curve-flow": RecipeEntry(
        "diptych.recipes.moons_flow",
        "MoonsFlow",
        "points on two moons, by rectified flow; 20 seconds on one core",
    ),
    "captioner-eyes": RecipeEntry(
        "diptych.recipes.captioners.eyes",
        "CaptionerEyes",
        "a detector for scenes, whose features all captioners see",
    ),
    "captioner-words": RecipeEntry(
        "diptych.recipes.captioners.words",
        "CaptionerWords",
        "a small language model of captions, which some captioners begin with",
    ),
    "captioner-show-and-tell": RecipeEntry(
        "diptych.recipes.captioners.networks",
        "ShowAndTellRecipe",
        "the picture as an LSTM's first word",
    ),
    "captioner-show-attend-tell": RecipeEntry(
        "diptych.recipes.captioners.networks",
        "ShowAttendTellRecipe",
        "an LSTM that looks anew before each word",
    ),
    "captioner-bottom-up-top-down": RecipeEntry(
        "diptych.recipes.captioners.networks",
        "BottomUpTopDownRecipe",
        "attention over the boxes of a detector",
    ),
    "captioner-vit-gpt2": RecipeEntry(
        "diptych.recipes.captioners.networks",
        "ViTGPT2Recipe",
        "a language model that looks at a transformer's patches",
    ),
    "captioner-clip-cap": RecipeEntry(
        "diptych.recipes.captioners.networks",
        "ClipCapRecipe",
        "one CLIP vector as ten words never spoken",
    ),
    "captioner-flamingo": RecipeEntry(
        "diptych.recipes.captioners.networks",
        "FlamingoRecipe",
        "a frozen language model that sees through gates",
    ),
    "captioner-self-critical": RecipeEntry(
        "diptych.recipes.captioners.self_critical",
        "SelfCriticalRecipe",
        "the captioner of boxes goes on, rewarded by CIDEr-D",
    ),
    "captioner-sim-vlm": RecipeEntry(
        "diptych.recipes.captioners.networks",
        "SimVLMRecipe",
        "picture and prefix read, the rest said: one loss",
    ),
    "captioner-ofa": RecipeEntry(
        "diptych.recipes.captioners.pointing",
        "OFARecipe",
        "captions and boxes as one sequence to another",
    ),
    "captioner-linear-bridge": RecipeEntry(
        "diptych.recipes.captioners.networks",
        "LinearBridgeRecipe",
        "one matrix between frozen eyes and frozen words",
    ),
    "captioner-uniter": RecipeEntry(
        "diptych.recipes.captioners.matching",
        "UNITERRecipe",
        "words and boxes in one stream: do they belong together?",
    ),
    "captioner-vilbert": RecipeEntry(
        "diptych.recipes.captioners.matching",
        "ViLBERTRecipe",
        "words and boxes in two streams that look at each other",
    ),
}


def recipe_class(name: str) -> type[Recipe]:
    """The class of a recipe, its module imported now. Raises NotFound for an unknown name."""
    if name not in RECIPES:
        raise unknown("recipe", name, RECIPES, see="See `diptych train --list`.")
    entry = RECIPES[name]
    return getattr(import_module(entry.module), entry.class_name)
