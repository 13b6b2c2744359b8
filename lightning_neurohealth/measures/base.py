"""What all measures share."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal, get_type_hints

from torch import Tensor

from lightning_neurohealth.discovery import parameters_of, place_of, snake_case, unknown_name
from lightning_neurohealth.signals import Signal, Subject
from lightning_neurohealth.statistics import Statistic

Level = Literal["economy", "standard", "full"]
NEXT = "next_"


class Measure(ABC):
    """A formula over statistics: one number a neuron, one a layer, one a parameter or one for the run.

    The signature of ``compute`` is the list of what it needs: each parameter is named after a signal and annotated with
    a statistic, ``def compute(self, activation: SignCounts) -> Tensor``. With ``next_`` before the signal's name it is
    that of the next layer in the order of execution. A parameter named ``subject`` gets the layer (or the table of
    parameters, or the run) itself.

    Write it for one layer. Of many that are alike one call gives the numbers of all, by ``torch.func.vmap``, unless it
    chooses by a number (``if x > 0``) or asks the layer for more than its width, function and fans: then each has its
    own call, which takes longer and gives the same.

    Attributes:
        name: The class's name in snake case, as in reports and loggers.
        needs: Signal to statistic.
        of_next: Signals of the next layer among them.
        asks: The same as ``compute`` names them: parameter, signal, statistic.
        subject: Whom the numbers are of, as its signals say.
        level: The smallest set that has it.
        percent: True if the number is a share, shown in percent.
        over_run: What the run shows of a parameter's measure: ``"median"`` over its matrices.
        wants_subject: True if ``compute`` asks for the subject.
    """

    name: ClassVar[str]
    needs: ClassVar[dict[Signal, type[Statistic]]]
    of_next: ClassVar[frozenset[Signal]] = frozenset()
    asks: ClassVar[tuple[tuple[str, Signal, type[Statistic]], ...]] = ()
    subject: ClassVar[Subject]
    level: ClassVar[Level] = "standard"
    percent: ClassVar[bool] = False
    over_run: ClassVar[Literal["median"] | None] = None
    wants_subject: ClassVar[bool] = False

    @abstractmethod
    def compute(self, *args: Any, **kwargs: Any) -> Tensor:
        """The numbers, from the statistics of one window merged over all ranks."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.name = snake_case(cls.__name__)
        if inspect.isabstract(cls) or "compute" not in vars(cls):
            return
        where = f"{place_of(cls)}: {cls.__name__}.compute"
        hints = get_type_hints(cls.compute)
        cls.needs, cls.of_next, cls.asks, cls.wants_subject = {}, frozenset(), (), False
        for name in parameters_of(cls.compute):
            if name == "subject":
                cls.wants_subject = True
                continue
            signal = name.removeprefix(NEXT)
            if signal not in {signal.value for signal in Signal}:
                raise unknown_name(where, name, [signal.value for signal in Signal])
            statistic = hints.get(name)
            if not (isinstance(statistic, type) and issubclass(statistic, Statistic)):
                raise TypeError(f"{where}: {name!r} needs a statistic as its annotation, got {statistic!r}")
            cls.needs[Signal(signal)] = statistic
            cls.asks += ((name, Signal(signal), statistic),)
            if signal != name:
                cls.of_next |= {Signal(signal)}
        subjects = {signal.subject for signal in cls.needs}
        if len(subjects) != 1:
            raise TypeError(
                f"{where}: asks for signals of {sorted(subjects) or 'nothing'}; one kind of subject is needed"
            )
        (cls.subject,) = subjects
