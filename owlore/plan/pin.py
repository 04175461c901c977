"""Pin a study: write the hub's current commits where it says `revision: unpinned`.

Run as: `owlore pin STUDY.yaml`. Only these values are changed; comments and layout stay.
"""

from collections.abc import Iterator
from pathlib import Path

import yaml

from owlore.core.errors import BadInput
from owlore.core.files import write_text
from owlore.core.parsing import load_yaml
from owlore.study.config import Study

UNPINNED = "unpinned"


def pin(file: Path) -> list[tuple[str, str, str]]:
    """Replace every `unpinned` revision beside a `hub` or `path` key; write the file.

    Returns:
        (place in the study, repository, its newest commit), one an `unpinned`.

    Raises:
        BadInput: the file is not YAML, or the hub does not give a repository.
    """
    import huggingface_hub  # with ours, it takes seconds

    from owlore.sources import hub

    load_yaml(file)  # its errors are clear
    text = file.read_text(encoding="utf-8")
    found, done = list(_places(yaml.compose(text), "")), []
    for place, repository, kind, node in reversed(found):
        with hub.explained(place, repository, None):
            commit = huggingface_hub.HfApi().repo_info(repository, repo_type=kind).sha
        if commit is None:
            raise BadInput(f"{place}: {repository}: the hub names no commit")
        text = text[: node.start_mark.index] + commit + text[node.end_mark.index :]
        done.append((place, repository, commit))
    if done:
        write_text(file, text)
    return done[::-1]


def unpinned(study: Study) -> list[str]:
    """Return the places of a study that are not pinned yet."""
    models = [f"models.{n}" for n, model in study.models.items() if model.revision == UNPINNED]
    pools = study.questions.hub.items()
    return models + [f"questions.hub.{n}" for n, pool in pools if pool.revision == UNPINNED]


def require(study: Study, name: str = "STUDY.yaml") -> None:
    """Refuse a study that is not pinned.

    Raises:
        BadInput: some revision is `unpinned`; it names the command that fills it.
    """
    places = unpinned(study)
    if places:
        raise BadInput(
            f"{', '.join(places)}: revision: unpinned: run `owlore pin {name}`, which writes the "
            "hub's current commits into the study"
        )


def _places(node: yaml.Node | None, place: str) -> Iterator[tuple[str, str, str, yaml.ScalarNode]]:
    """Yield (place, repository, its kind, the node of its revision)."""
    if not isinstance(node, yaml.MappingNode):
        return
    values = {key.value: value for key, value in node.value if isinstance(key, yaml.ScalarNode)}
    for key, kind in (("hub", "model"), ("path", "dataset")):
        repository, revision = values.get(key), values.get("revision")
        if not isinstance(repository, yaml.ScalarNode) or not isinstance(revision, yaml.ScalarNode):
            continue
        if revision.value == UNPINNED:
            yield f"{place}.revision", repository.value, kind, revision
    for name, value in values.items():
        yield from _places(value, f"{place}.{name}" if place else name)
