"""The README on a package index, where relative links and pictures lead nowhere.

pyproject.toml names this file, and hatchling asks it for the text whenever it builds: relative
links then begin with the ``Repository`` of ``[project.urls]``. Without one, they stay as they are.
"""

import re
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"


def absolute(text: str, repository: str) -> str:
    """Markdown whose links and pictures do not depend on where it lies.

    Args:
      repository: its address on GitHub, or where paths are as there.
    """

    def lead(found):
        kind = "raw" if found["picture"] else "blob"
        return f"{found[1]}({repository.rstrip('/')}/{kind}/HEAD/{found['path']})"

    return re.sub(r"((?P<picture>!)?\[[^]]*\])\((?!https?:|#)(?P<path>[^)\s]+)\)", lead, text)


def readme(urls: dict[str, str]) -> str:
    """What a package index shows, by ``[project.urls]``."""
    text = README.read_text("utf-8")
    return absolute(text, urls["Repository"]) if "Repository" in urls else text


def get_metadata_hook():
    """What hatchling calls."""
    from hatchling.metadata.plugin.interface import MetadataHookInterface

    class Readme(MetadataHookInterface):
        def update(self, metadata):
            text = readme(metadata.get("urls", {}))
            metadata["readme"] = {"content-type": "text/markdown", "text": text}

    return Readme
