"""What all blocks of a study are made of, and blocks that come in several kinds.

A union of kinds (`Method` by `trainable`, `Judge` by `provider`) is a pydantic discriminated union:
each kind is a class with its own keys, defaults and checks, below one base class that names the key
which tells them apart and lists them.
"""

from typing import Annotated, Any, ClassVar, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from owlore.core.parsing import near

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
PositiveInt = Annotated[int, Field(ge=1)]


class Strict(BaseModel):
    """Base of all blocks: unknown keys are errors, values never change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Kind(Strict):
    """Base of the kinds of one union; what a kind's block may hold beside its own keys."""

    tag: ClassVar[str]  # the key that tells the kinds apart

    @classmethod
    def kinds(cls) -> "tuple[type[Kind], ...]":
        """All kinds of the union, this one among them."""
        raise NotImplementedError(f"{cls.__name__} is the base of a union: it must list its kinds")

    @classmethod
    def tag_value(cls) -> str:
        """The tag's value in a block of this kind."""
        return str(get_args(cls.model_fields[cls.tag].annotation)[0])

    @classmethod
    def foreign_keys(cls) -> dict[str, Any]:
        """Keys of the other kinds alone, with the one value at which each may stand here.

        That is its default; for a key that its own kind needs, null. Recorded blocks of before
        there were kinds spell every key of all kinds out, and a default says nothing.
        """
        return {
            key: None if field.is_required() else field.default
            for kind in cls.kinds()
            for key, field in kind.model_fields.items()
            if key not in cls.model_fields
        }

    @classmethod
    def needed_keys(cls) -> list[str]:
        """Keys that this kind needs and not every other kind has, the most special first."""
        having = {
            key: sum(key in kind.model_fields for kind in cls.kinds())
            for key, field in cls.model_fields.items()
            if field.is_required()
        }
        keys = [key for key, count in having.items() if count < len(cls.kinds())]
        return sorted(keys, key=lambda key: having[key])

    @classmethod
    def owners(cls, key: str) -> str:
        """Name the kinds that have a key, as `tag: value, value`."""
        values = [kind.tag_value() for kind in cls.kinds() if key in kind.model_fields]
        return f"{cls.tag}: {', '.join(values)}"

    @classmethod
    def refusal(cls, key: str, value: Any) -> str:
        """Say why another kind's key is not allowed here."""
        return f"{key} is only allowed with {cls.owners(key)}"

    @model_validator(mode="before")
    @classmethod
    def only_its_own_keys(cls, block: Any) -> Any:
        """Refuse what is another kind's or nobody's, ask for what is needed, drop foreign defaults.

        All of it here, so that an unknown key is compared with the keys of all kinds and the
        message names the kind.
        """
        if not isinstance(block, dict):  # already of the kind, or pydantic's own error
            return block
        foreign = cls.foreign_keys()
        for key, default in foreign.items():
            if key in block and block[key] != default:
                raise ValueError(cls.refusal(key, block[key]))
        for key in block:
            if key not in foreign and key not in cls.model_fields:
                known = near(str(key), [*foreign, *cls.model_fields])
                raise ValueError(f"{key}: unknown key ({known})")
        for key in cls.needed_keys():
            if block.get(key) is None:
                raise ValueError(f"{key} is needed with {cls.tag}: {cls.tag_value()}")
        return {key: value for key, value in block.items() if key not in foreign}
