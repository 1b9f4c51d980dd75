"""A method as a record, and how its variants are named."""

from __future__ import annotations

import inspect
import itertools
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from imbalance_bench.categories import CategoryTable
from imbalance_bench.classifiers import Classifier, LinearClassifier, SigmoidClassifier, SoftmaxClassifier
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.schedule import Schedule

Scope = Literal["all", "all but stem", "head", "classifier", "nothing"]
"""What a method trains: ``all but stem`` leaves out conv1 and conv2 (the first stage), ``head`` is the box head."""

Family = Literal["plain", "sampling", "softmax loss", "sigmoid loss", "group softmax", "nearest mean", "post hoc"]
"""What a method is at its core."""


@dataclass(frozen=True)
class Method:
    """One row of the study.

    Attributes:
        name: on the command line.
        title: as the paper's tables call it.
        paper_row: of Table 1; None for what that table does not have.
        trains: the ``classifier`` alone on cached proposals, ``nothing``, or more, end to end.
        starts_from: ``scratch`` (the detector's initialisation), or a method and its variant whose trained detector
            this one goes on from, e.g. ``baseline`` or ``bags:beta=1``.
        build: ``build(categories, dims, base, **options)`` -> Classifier, where ``dims`` gives the width of each
            tap and ``base`` is the classifier it starts from (None when starting from scratch).
        variants: options that differ from the defaults of ``build`` and ``protocol``, by name; the first is the
            default.
        protocol: further options and their defaults: ``centres`` (of NCM: ``proposals`` or ``ground-truth``),
            ``repeat`` (of RFS: ``stochastic`` or ``ceil``), ``threshold`` (of RFS: t).
        sampling: ``uniform``; ``repeat-factor``: images by their rarest class; ``tail-only``: only annotations of
            tail classes (``CategoryTable.tail_labels``) and only images that keep one; ``class-balanced``, of cached
            images: a class at random, then an image that holds it; ``bi-level``, of the cache: of that image the
            class's own RoIs and as many of background.
        schedule: from the detector's schedule to this method's.
        family: what it is at its core.
        year: of its publication.
        source: where it was published, an arXiv number.
        statistics: arguments of ``build`` beyond the counts, by name: from the training annotations and categories.
        on_validation: what of it was set after results on the validation set, and why; tables say it.
        tune: options worth choosing on held-out training images, and the values to try; the default is one of them.
        notes: what the captions of tables say of a variant.
        corrected: variants that were something else once, and the day (ISO) since which they are what they say.
    """

    name: str
    title: str
    paper_row: int | None
    trains: Scope
    starts_from: str
    build: Callable[..., Classifier]
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: {"paper": {}})
    protocol: Mapping[str, Any] = field(default_factory=dict)
    sampling: Literal["uniform", "repeat-factor", "tail-only", "class-balanced", "bi-level"] = "uniform"
    schedule: Callable[[Schedule], Schedule] = lambda schedule: schedule
    family: Family = "plain"
    year: int = 2020
    source: str = "2006.10408"
    statistics: Mapping[str, Callable[[Path, CategoryTable], Any]] = field(default_factory=dict)
    on_validation: str = ""
    tune: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    corrected: Mapping[str, str] = field(default_factory=dict)

    @property
    def needs(self) -> tuple[str, ...]:
        """Runs that are finished before one of this method begins: what it starts from, and whose proposals it has."""
        runs = [] if self.starts_from == "scratch" else [self.starts_from]
        # Everything that is not trained on its own images has the baseline's proposals.
        if self.trains in ("classifier", "nothing"):
            runs.append("baseline")
        return tuple(dict.fromkeys(runs))

    @property
    def conduct(self) -> dict[str, Any]:
        """Options that say how it is trained, not what is built, with their defaults.

        ``trains``, of a method that trains the classifier alone: ``all`` or ``head`` train that end to end with its
        loss, from the baseline, by the detector's own schedule, as x2 does. What draws RoIs calibrates a finished
        detector, and has no such option.
        """
        scoped = self.trains == "classifier" and self.sampling != "bi-level"
        return dict(self.protocol) | ({"trains": "classifier"} if scoped else {})

    @property
    def default_variant(self) -> str:
        """The variant taken when none is named."""
        return next(iter(self.variants))

    @property
    def parameters(self) -> dict[str, Any]:
        """Every option a variant may set, with its default."""
        arguments = list(inspect.signature(self.build).parameters.values())[3:]
        options = {a.name: a.default for a in arguments if a.name not in self.statistics}
        return options | self.conduct

    def measured(self, annotations: Path, categories: CategoryTable) -> dict[str, Any]:
        """Those arguments of ``build`` that are read from the training annotations."""
        return {name: measure(annotations, categories) for name, measure in self.statistics.items()}

    @property
    def _wordy(self) -> set[str]:
        """Numbers of ``build`` that may be a word too, such as ``beta`` of BAGS."""
        arguments = inspect.signature(self.build).parameters.values()
        return {a.name for a in arguments if a.annotation == "float | str"}

    def options(self, variant: str | None) -> dict[str, Any]:
        """All options of a variant."""
        return self.parameters | dict(self.resolve(variant)[1])

    @property
    def settings_to_try(self) -> list[str]:
        """Variants, one for each combination of the values worth trying; the default variant is among them."""
        if not self.tune:
            return []
        settings = itertools.product(*([f"{name}={value:g}" for value in values] for name, values in self.tune.items()))
        return list(dict.fromkeys(self.resolve(",".join(setting))[0] for setting in settings))

    @property
    def under_a_cosine(self) -> str | None:
        """The variant whose classifier is a cosine one (s = 20); None where that is no option."""
        return self.resolve("cosine=20")[0] if self.parameters.get("cosine") == 0 else None

    def arguments(self, variant: str | None) -> dict[str, Any]:
        """Those options of a variant that ``build`` takes."""
        return {name: value for name, value in self.options(variant).items() if name not in self.conduct}

    def at(self, variant: str | None) -> Method:
        """This method with the scope and the schedule that the variant's setting ``trains`` gives it.

        Raises:
            InputError: a scope that there is not.
        """
        scope = self.options(variant).get("trains", self.trains)
        if scope == self.trains:
            return self
        if scope not in get_args(Scope) or scope == "nothing":
            known = ", ".join(name for name in get_args(Scope) if name != "nothing")
            raise InputError(f"option 'trains' of '{self.name}': '{scope}', expected one of {known}")
        return replace(self, trains=scope, schedule=lambda schedule: schedule, protocol=self.conduct)

    def is_outdated(self, variant: str, date: str) -> bool:
        """Whether a run of that day (ISO) is of what the variant was before it was corrected.

        Settings that are no variant of a name differ from the default, and share its day.
        """
        named = variant if variant in self.variants else self.default_variant
        return date < self.corrected.get(named, "")

    def folder(self, variant: str | None) -> str:
        """Name of a variant's run folder; the default variant's has no suffix."""
        name, _ = self.resolve(variant)
        return self.name if name == self.default_variant else f"{self.name}-{name}"

    def resolve(self, variant: str | None) -> tuple[str, Mapping[str, Any]]:
        """Name of a variant and the options it sets.

        Args:
            variant: a name of ``variants``; settings such as ``beta=2,others=false``; None for the default.

        Raises:
            InputError: neither a variant of this method nor settings of its options.
        """
        if variant is None:
            variant = self.default_variant
        if variant in self.variants:
            return variant, self.variants[variant]
        if "=" not in variant:
            known = " or ".join(self.variants)
            settings = ", ".join(f"{name}=..." for name in self.parameters) or "none"
            raise InputError(f"'{self.name}' has no variant '{variant}', expected {known}, or settings of: {settings}")
        options: dict[str, Any] = {}
        for setting in variant.split(","):
            name, _, text = setting.partition("=")
            if name in options:
                raise InputError(f"variant '{variant}' of '{self.name}': option '{name}' is set twice, expected once")
            if name not in self.parameters:
                known = ", ".join(self.parameters) or "none"
                raise InputError(
                    f"variant '{variant}' of '{self.name}': unknown option '{name}', expected one of {known}"
                )
            source = f"variant '{variant}' of '{self.name}'"
            options[name] = _value(text, self.parameters[name], source, takes_words=name in self._wordy)
        options = {name: value for name, value in sorted(options.items()) if value != self.parameters[name]}
        for name, named in self.variants.items():
            if dict(named) == options:
                return name, named
        return ",".join(f"{name}={_text(value)}" for name, value in options.items()), options


def _value(text: str, default: Any, source: str, takes_words: bool = False) -> Any:
    """A setting's value, of its default's kind: a finite number, true or false, or a word that may name a folder."""
    words = {"true": True, "false": False}
    try:
        if isinstance(default, bool):
            return words[text.lower()]
        if isinstance(default, str) or (takes_words and text in ("n", "all")):
            return _matching(r"[A-Za-z0-9_. -]*", text)
        # Python takes blanks, underscores, digits of all scripts, NaN and infinity besides.
        value = type(default)(_matching(r"[-+.0-9eE]+", text))
        if not math.isfinite(value):
            raise ValueError(text)
        return value + 0  # no negative zero, which is a name of its own
    except (KeyError, ValueError, OverflowError) as error:
        raise InputError(f"{source}: '{text}' is not a value like {_text(default) or 'a word'}") from error


def _matching(pattern: str, text: str) -> str:
    if re.fullmatch(pattern, text) is None:
        raise ValueError(text)
    return text


def _text(value: Any) -> str:
    """A value as ``_value`` reads it: two values never have one text, as it is a run folder's name."""
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def continued(classifier: LinearClassifier, base: LinearClassifier | None) -> LinearClassifier:
    """A classifier with the parameters of one of its shape, where there is one."""
    if base is not None:
        classifier.load_state_dict(base.state_dict())
    return classifier


def softmax_start(classifier: Classifier) -> Classifier:
    """What methods start from: of C sigmoids the softmax whose background has logit 0, else the classifier itself.

    In both, ``exp(z_c)`` is how much likelier class c is than background.
    """
    if not isinstance(classifier, SigmoidClassifier) or classifier.has_background_row or classifier.cosine is not None:
        return classifier
    start = SoftmaxClassifier(classifier.num_classes, classifier.feature_dim)
    with torch.no_grad():
        start.weight.copy_(torch.cat([classifier.weight, torch.zeros_like(classifier.weight[:1])]))
        start.bias.copy_(torch.cat([classifier.bias, torch.zeros_like(classifier.bias[:1])]))
    return start


def sigmoid_start(classifier: SigmoidClassifier, base: LinearClassifier) -> Classifier:
    """From a softmax classifier: each class against background, and background against the mean of the classes.

    This is a choice of ours, for losses whose authors train a whole detector with them, from sigmoids at a prior.
    A cosine classifier starts anew: the norms that it takes away are what the softmax classifier had learnt.
    """
    if classifier.cosine is None:
        with torch.no_grad():
            for own, trained in ((classifier.weight, base.weight), (classifier.bias, base.bias)):
                own[: base.num_classes] = trained[:-1] - trained[-1]
                if classifier.has_background_row:
                    own[-1] = trained[-1] - trained[:-1].mean(dim=0)
    return classifier


def classifier_schedule(schedule: Schedule) -> Schedule:
    """12 epochs, steps at 8 and 11, whatever the detector's own schedule (section 5.1)."""
    return replace(schedule, epochs=12, milestones=(8, 11), policy="step")


def tune_schedule(schedule: Schedule) -> Schedule:
    """10 epochs at a hundredth of the rate, step at 7 (Table 5, *tune*; row 3)."""
    return replace(schedule, epochs=10, milestones=(7,), policy="step", lr=schedule.lr / 100)
