"""The site as one list for language models: ``llms.txt``, with the first sentence of every page."""

from __future__ import annotations

import re
from collections.abc import Iterable


def listed(name: str, description: str, sections: Iterable[tuple[str, list[tuple[str, str, str]]]]) -> str:
    """Write ``llms.txt``.

    Args:
        name: of the site.
        description: of the site, one sentence.
        sections: heading, and of each page its title, its address and its text (Markdown).
    """
    lines = [f"# {name}", "", f"> {description}"]
    for heading, pages in sections:
        lines += ["", f"## {heading}", ""]
        lines += [f"- [{title}]({address}): {first_sentence(text)}".rstrip(": ") for title, address, text in pages]
    return "\n".join(lines) + "\n"


def first_sentence(text: str) -> str:
    """Return the first sentence of a page that is no heading, code, list, table or mark-up.

    Example:
        >>> first_sentence("# Title\\n\\nA [page](x.md). It goes on.")
        'A page.'
    """
    for paragraph in re.split(r"\n\s*\n", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)):
        plain = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", " ".join(paragraph.split())).replace("`", "").replace("*", "")
        if plain and plain[0].isalpha():
            return re.split(r"(?<=[.!?]) ", plain)[0]
    return ""
