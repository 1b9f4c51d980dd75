"""A method as a record, and a run: a method with one variant of its settings."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from imbalance_bench.categories import CategoryTable
from imbalance_bench.methods.settings import WORDS, Option, keyword_options, text_of
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.schedule import Schedule

if TYPE_CHECKING:
    from imbalance_bench.classifiers import Classifier

Scope = Literal["all", "all but stem", "head", "classifier", "nothing"]
"""What a method trains: ``all but stem`` leaves out conv1 and conv2 (the first stage), ``head`` is the box head."""

Family = Literal["plain", "sampling", "softmax loss", "sigmoid loss", "group softmax", "nearest mean", "post hoc"]
"""What a method is at its core."""


@dataclass(frozen=True, eq=False)
class Method:
    """One row of the study.

    Attributes:
        name: on the command line.
        title: as the paper's tables call it.
        paper_row: of Table 1; None for what that table does not have.
        trains: the ``classifier`` alone on cached proposals, ``nothing``, or more, end to end.
        starts_from: ``scratch`` (the detector's initialisation), or a method and its variant whose trained detector
            this one goes on from, e.g. ``baseline`` or ``bags:beta=1``.
        build: ``build(categories, dims, base, *, option=default, ...)`` -> Classifier, where ``dims`` gives the width
            of each tap and ``base`` is the classifier it starts from (None when starting from scratch); its
            keyword-only arguments are the method's options.
        variants: options that differ from the defaults of ``build`` and ``protocol``, by name; the first is the
            default.
        protocol: further options and their defaults: ``centres`` (of NCM: ``proposals`` or ``ground-truth``),
            ``repeat`` (of RFS: ``stochastic`` or ``ceil``), ``threshold`` (of RFS: t, or ``lvis``).
        sampling: ``uniform``; ``repeat-factor``: images by their rarest class; ``instance-repeat-factor``: the same by
            images and instances; ``tail-only``: only annotations of
            tail classes (``CategoryTable.tail_labels``) and only images that keep one; ``class-balanced``, of cached
            images: a class at random, then an image that holds it; ``bi-level``, of the cache: of that image the
            class's own RoIs and as many of background.
        schedule: from the detector's schedule to this method's.
        family: what it is at its core.
        year: of its publication.
        source: where it was published: an arXiv number, or an address.
        statistics: arguments of ``build`` beyond the counts, by name: from the training annotations and categories.
        on_validation: what of it was set after results on the validation set, and why; tables say it.
        tune: options worth choosing on held-out training images, and the values to try; the default is one of them.
        mended: variant without an error that the default repeats from released code; it is the one to be tried on a
            finished detector and to be compared with other methods.
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
    sampling: Literal[
        "uniform", "repeat-factor", "instance-repeat-factor", "tail-only", "class-balanced", "bi-level"
    ] = "uniform"
    schedule: Callable[[Schedule], Schedule] = lambda schedule: schedule
    family: Family = "plain"
    year: int = 2020
    source: str = "2006.10408"
    statistics: Mapping[str, Callable[[Path, CategoryTable], Any]] = field(default_factory=dict)
    on_validation: str = ""
    tune: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    mended: str | None = None
    notes: Mapping[str, str] = field(default_factory=dict)
    corrected: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_on_arxiv(self) -> bool:
        """Whether its source is an arXiv number."""
        return not self.source.startswith("https://")

    @property
    def address(self) -> str:
        """Where its source is read."""
        return f"https://arxiv.org/abs/{self.source}" if self.is_on_arxiv else self.source

    @cached_property
    def training_options(self) -> dict[str, Option]:
        """Options that say how it is trained, not what is built.

        ``trains``, of a method that trains the classifier alone: ``all`` or ``head`` train that end to end with its
        loss, from the baseline, by the detector's own schedule, as x2 does. What draws RoIs calibrates a finished
        detector, and has no such option.
        """
        scoped = self.trains == "classifier" and self.sampling != "bi-level"
        defaults = dict(self.protocol) | ({"trains": "classifier"} if scoped else {})
        return {name: Option(name, default, takes_words=default in WORDS) for name, default in defaults.items()}

    @cached_property
    def options(self) -> dict[str, Option]:
        """Every option a variant may set, by name."""
        of_build = {name: o for name, o in keyword_options(self.build).items() if name not in self.statistics}
        return of_build | self.training_options

    @property
    def default(self) -> Run:
        """The run of the first variant, taken when none is named."""
        return self.run(None)

    @property
    def candidate(self) -> Run:
        """The run to be tried on a finished detector: the default, or the variant that mends its error."""
        return self.run(self.mended)

    @property
    def settings_to_try(self) -> list[Run]:
        """One run for each combination of the values worth trying; the default is among them."""
        if not self.tune:
            return []
        settings = itertools.product(*([f"{name}={value:g}" for value in values] for name, values in self.tune.items()))
        return list(dict.fromkeys(self.run(",".join(setting)) for setting in settings))

    @property
    def under_a_cosine(self) -> Run | None:
        """The run whose classifier is a cosine one (s = 20); None where that is no option."""
        cosine = self.options.get("cosine")
        return self.run("cosine=20") if cosine is not None and cosine.default == 0 else None

    def is_outdated(self, variant: str, date: str) -> bool:
        """Tell whether a run of that day (ISO) is of what the variant was before it was corrected.

        Settings that are no variant of a name differ from the default, and share its day.
        """
        named = variant if variant in self.variants else self.default.variant
        return date < self.corrected.get(named, "")

    def run(self, variant: str | None) -> Run:
        """Resolve a variant.

        Args:
            variant: a name of ``variants``; settings such as ``beta=2,others=false``; None for the default.

        Raises:
            InputError: neither a variant of this method nor settings of its options, or a scope that there is not.
        """
        if variant is None:
            variant = next(iter(self.variants))
        if variant in self.variants:
            return Run(self, variant, self.variants[variant])
        settings = self._read(variant)
        for name, named in self.variants.items():
            if dict(named) == settings:
                return Run(self, name, named)
        return Run(self, ",".join(f"{name}={text_of(value)}" for name, value in settings.items()), settings)

    def _read(self, variant: str) -> dict[str, Any]:
        """Read ``name=value,...``; return the settings that differ from the defaults, sorted by name."""
        if "=" not in variant:
            known = " or ".join(self.variants)
            settable = ", ".join(f"{name}=..." for name in self.options) or "none"
            raise InputError(f"'{self.name}' has no variant '{variant}', expected {known}, or settings of: {settable}")
        settings: dict[str, Any] = {}
        source = f"variant '{variant}' of '{self.name}'"
        for setting in variant.split(","):
            name, _, text = setting.partition("=")
            if name in settings:
                raise InputError(f"{source}: option '{name}' is set twice, expected once")
            if name not in self.options:
                known = ", ".join(self.options) or "none"
                raise InputError(f"{source}: unknown option '{name}', expected one of {known}")
            settings[name] = self.options[name].read(text, source)
        return {name: value for name, value in sorted(settings.items()) if value != self.options[name].default}


@dataclass(frozen=True)
class Run:
    """A method with one variant of its settings: what is trained and measured under one name.

    Attributes:
        method: its record.
        variant: name of the variant, or the settings as text.
        settings: options that differ from their defaults.
    """

    method: Method
    variant: str
    settings: Mapping[str, Any] = field(compare=False)

    def __post_init__(self) -> None:
        if self.trains not in get_args(Scope) or (self.trains == "nothing" != self.method.trains):
            known = ", ".join(name for name in get_args(Scope) if name != "nothing")
            raise InputError(f"option 'trains' of '{self.method.name}': '{self.trains}', expected one of {known}")

    def __str__(self) -> str:
        """Write it as ``bags``, or ``bags:beta=2`` if not the default variant; ``methods.parse`` reads it."""
        return self.method.name + (f":{self.variant}" if self._has_suffix else "")

    @property
    def folder(self) -> str:
        """Name of its run folder; the default variant's has no suffix."""
        return self.method.name + (f"-{self.variant}" if self._has_suffix else "")

    @property
    def title(self) -> str:
        """As tables and progress call it."""
        return self.method.title + (f" ({self.variant})" if self._has_suffix else "")

    @property
    def _has_suffix(self) -> bool:
        return self.variant != next(iter(self.method.variants))

    @property
    def options(self) -> dict[str, Any]:
        """The value of every option."""
        return {name: option.default for name, option in self.method.options.items()} | dict(self.settings)

    @property
    def arguments(self) -> dict[str, Any]:
        """The values of those options that the method's ``build`` takes."""
        return {name: value for name, value in self.options.items() if name not in self.method.training_options}

    @property
    def training_options(self) -> dict[str, Any]:
        """The values of those options that say how it is trained."""
        return {name: value for name, value in self.options.items() if name in self.method.training_options}

    @property
    def trains(self) -> Scope:
        """What is trained: the method's scope, or the one that the option ``trains`` sets."""
        scope: Scope = self.settings.get("trains", self.method.trains)
        return scope

    @property
    def trains_nothing(self) -> bool:
        """Whether the classifier is computed, not trained."""
        return self.trains == "nothing"

    @property
    def keeps_detector(self) -> bool:
        """Whether the detector stays as it is: at most the classifier changes, on the baseline's proposals."""
        return self.trains in ("classifier", "nothing")

    @property
    def starts_from_scratch(self) -> bool:
        """Whether it goes on from no other run."""
        return self.method.starts_from == "scratch"

    @property
    def sees_tail_alone(self) -> bool:
        """Whether only annotations of tail classes, and images that hold one, are trained on."""
        return self.method.sampling == "tail-only"

    @property
    def fits_ground_truth(self) -> bool:
        """Whether the classifier is computed from the added ground-truth boxes alone, not from all proposals."""
        return self.options.get("centres") == "ground-truth"

    def schedule(self, schedule: Schedule) -> Schedule:
        """Derive its schedule from the detector's; trained end to end by the option ``trains`` it is the detector's."""
        return self.method.schedule(schedule) if self.trains == self.method.trains else schedule

    def build(
        self, categories: CategoryTable, dims: Mapping[str, int], base: Any, annotations: Path | None = None
    ) -> Classifier:
        """Build its classifier.

        Args:
            categories: counts and bins.
            dims: width of each tap, e.g. ``{"fc": 1024}``.
            base: the trained classifier that it starts from; None where it starts from scratch.
            annotations: of the training images, which some methods read more of than the counts.

        Raises:
            InputError: options that do not fit, or annotations that are needed and not given.
        """
        if self.method.statistics and annotations is None:
            raise InputError(f"'{self.method.name}' reads the training annotations, which are not given")
        measured = {name: of(annotations, categories) for name, of in self.method.statistics.items()}  # type: ignore[arg-type]
        return self.method.build(categories, dims, base, **self.arguments, **measured)


def classifier_schedule(schedule: Schedule) -> Schedule:
    """Return 12 epochs, steps at 8 and 11, whatever the detector's own schedule (section 5.1)."""
    return replace(schedule, epochs=12, milestones=(8, 11), policy="step")


def tune_schedule(schedule: Schedule) -> Schedule:
    """Return 10 epochs at a hundredth of the rate, step at 7 (Table 5, *tune*; row 3)."""
    return replace(schedule, epochs=10, milestones=(7,), policy="step", lr=schedule.lr / 100)
