"""What was probably meant where a word is none of those that are known. Pure."""

from collections.abc import Collection, Iterable

CHARS = 64


def suggestion(word: str, known: Iterable[str]) -> str:
    """`; did you mean X?`, to stand behind a mistake's description; empty where nothing is near."""
    from difflib import get_close_matches  # noqa: PLC0415 - only where something is wrong

    by_small = {each.lower().replace("-", "_"): each for each in known}
    near = get_close_matches(word[:CHARS].lower().replace("-", "_"), by_small, n=1, cutoff=0.6)
    return f"; did you mean {by_small[near[0]]}?" if near else ""


def among(says: str, word: str, known: Collection[str]) -> str:
    """What is wrong with a word, which one was probably meant, and all that there are."""
    return f"{says}{suggestion(word, known) or ';'} these may: {', '.join(known)}"
