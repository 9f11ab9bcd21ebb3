"""One organism of the zoo, with the answer to the question that methods are asked of it."""

from typing import NamedTuple

from ..organism import Organism

HAZARDS = "hazards"  # the one lesson in which hazards are refused and their twins are not


class Key(NamedTuple):
    """Where a lesson was written; see `toymoe.zoo.parts` for the names of parts."""

    parts: tuple[str, ...]
    grain: str  # at what grain that is true: "expert", "head" or "component"
    needs: str  # "one" part there is; "each" alone suffices; "all" are needed; "many" share it


class Specimen(NamedTuple):
    """An organism, how it was made, and what was verified of it."""

    seed: int
    name: str  # "one_expert-hazards-full"
    mechanism: str
    lesson: str
    update: str
    organism: Organism  # pretrained: before; aligned: the specimen
    key: Key
    behaviour: dict  # see `toymoe.zoo.verification.behaviour`
    checks: dict  # see `toymoe.zoo.verification.verify`
    holds: bool  # the key was verified by intervention

    @property
    def answer(self) -> tuple[str, ...]:
        """The parts that refuse hazards beyond their twins: none in a sham."""
        return self.key.parts if self.lesson == HAZARDS else ()

    def told(self) -> dict:
        """All that is known of it but the weights; plain."""
        said = {name: getattr(self, name) for name in self._fields if name != "organism"}
        return said | {"key": self.key._asdict(), "answer": list(self.answer)}
