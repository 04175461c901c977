"""Who grades the MT-Bench answers, as a block of a study; `provider` tells the kinds apart."""

from typing import Annotated, Any, ClassVar, Literal, TypeAlias
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from owlore.core.parsing import OneOf, parse
from owlore.study.blocks import Kind, PositiveInt

# Keys of a judge that say how it is asked, not what: they change no result.
TRANSPORT = ("concurrency", "timeout_s", "max_requests", "max_tokens")


class JudgeKind(Kind):
    """What every judge has."""

    tag: ClassVar[str] = "provider"
    comparable: ClassVar[bool]  # whether its scores are MT-Bench scores, not a plumbing check
    explains: ClassVar[bool]  # whether it writes a judgment, not just a grade
    costs: ClassVar[bool]  # whether a judgment that is lost costs something to make again

    model: str = Field(description="base (the cell's base model), a folder, or an API model name")

    @classmethod
    def kinds(cls) -> tuple[type[Kind], ...]:
        """All kinds of judges."""
        return JUDGES

    @property
    def address(self) -> str | None:
        """Where the model is asked; a part of a judgment's identity."""
        return None


class LocalJudge(JudgeKind):
    """A local checkpoint: it gives the rating that it expects, the same each time."""

    comparable: ClassVar[bool] = False
    explains: ClassVar[bool] = False
    costs: ClassVar[bool] = False

    provider: Literal["transformers"]

    @classmethod
    def refusal(cls, key: str, value: Any) -> str:
        """Say why an endpoint's key is not allowed here."""
        return f"{key} is for {cls.owners(key)}; a local judge is deterministic"

    @property
    def judgings(self) -> int:
        """How often each turn is judged."""
        return 1

    @property
    def answer_tokens(self) -> int:
        """Longest judgment; as an endpoint's default, so that its requests have the same form."""
        return int(EndpointJudge.model_fields["answer_tokens"].default)


class EndpointJudge(JudgeKind):
    """A model behind an OpenAI-compatible endpoint, as MT-Bench means it."""

    comparable: ClassVar[bool] = True
    explains: ClassVar[bool] = True
    costs: ClassVar[bool] = True

    provider: Literal["openai"]
    base_url: str
    api_key_env: str | None = Field(None, pattern=r"^[A-Z_][A-Z0-9_]*$")
    judgings: Annotated[int, Field(ge=1, le=99)] = Field(
        1, description="how often each turn is judged; its score is the median"
    )
    answer_tokens: PositiveInt = Field(2048, description="longest judgment; 2,048 is FastChat's")
    concurrency: Annotated[int, Field(ge=1, le=256)] = Field(4, description="requests at a time")
    timeout_s: float = Field(300.0, gt=0, description="seconds to wait for one reply")
    max_requests: PositiveInt | None = Field(
        None, description="most HTTP requests for one judged model, retries and reruns included"
    )
    max_tokens: PositiveInt | None = Field(
        None, description="most tokens for one judged model, prompts and judgments together"
    )

    @model_validator(mode="after")
    def no_key_in_the_address(self) -> "EndpointJudge":
        if "@" in urlsplit(self.base_url).netloc:  # it would be in every file that names it
            raise ValueError("base_url holds a name or key: name its variable in api_key_env")
        return self

    @property
    def address(self) -> str:
        """Where the model is asked; a part of a judgment's identity."""
        return self.base_url


JUDGES = (LocalJudge, EndpointJudge)
Judge: TypeAlias = Annotated[LocalJudge | EndpointJudge, Field(discriminator="provider")]
ANY_JUDGE: OneOf[Judge] = OneOf(Judge)


def parse_judge(block: Any, where: str = "judge") -> Judge:
    """Check a judge's block.

    Raises:
        BadInput: one line that names the key, the value and what is allowed.
    """
    return parse(ANY_JUDGE, block, where)
