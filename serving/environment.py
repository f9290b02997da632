"""Settings from the environment; what cannot be read stops the start with one line that names the variable."""

import math
import os

from bentoml.exceptions import BentoMLConfigException


def read_number(name: str, default: int) -> int:
    """Return a whole number above 0; raises BentoMLConfigException for anything else."""
    text = os.environ.get(name) or str(default)
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise BentoMLConfigException(f"{name}: a whole number above 0 is needed")
    return int(text)


def read_duration(name: str) -> float | None:
    """Return a number above 0, None without the variable; raises BentoMLConfigException for anything else."""
    text = os.environ.get(name)
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise BentoMLConfigException(f"{name}: a number above 0 is needed")
    return number


def read_list(name: str) -> list[str]:
    """Return the parts of a comma-separated list, without spaces around them; none without the variable."""
    return [part.strip() for part in os.environ.get(name, "").split(",") if part.strip()]


def read_switch(name: str) -> bool:
    """Return whether a switch is on; raises BentoMLConfigException for what is neither true nor false."""
    text = os.environ.get(name, "").strip().lower()
    if text not in ("", "0", "1", "true", "false"):
        raise BentoMLConfigException(f"{name}: true or false is needed")
    return text in ("1", "true")
