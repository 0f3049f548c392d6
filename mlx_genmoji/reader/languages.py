"""stub"""


def translate(text: str) -> tuple[str, str] | None:
    return None
