"""One endpoint of fal as we serve it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Category = Literal["text-to-video", "image-to-video"]


class Input(BaseModel):
    """fal's own fields of an endpoint, flat, with fal's defaults. Unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceSeed:
    """The price that `falgate migrate` writes for an endpoint that has none: `base_usd` for the first `base_seconds`,
    then `usd_per_second`. `when` holds the input values it is for; `{}` is always.
    """  # noqa: D205  one sentence

    base_seconds: Decimal
    base_usd: Decimal
    usd_per_second: Decimal
    when: Mapping[str, Any]


def each_second(usd: str, **when: str | bool) -> PriceSeed:
    """`usd` for each second, from the first one, where the input has these values."""
    return PriceSeed(base_seconds=Decimal(0), base_usd=Decimal(0), usd_per_second=Decimal(usd), when=when)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)  # one of each: itself and no other
class Endpoint:
    """`id` is fal's own, `model` our short public name; `seconds` tells how long a video an input asks for.

    `image_types` are the content types that its `image_fields` take, of at most `image_bytes` each. A field that may
    be left out is None by default, and is then not sent: fal's schemas know no null.
    """

    id: str
    model: str
    category: Category
    input: type[Input]
    seconds: Callable[[Any], Decimal]
    prices: tuple[PriceSeed, ...]
    example: Mapping[str, Any]
    image_fields: tuple[str, ...] = ()
    image_types: tuple[str, ...] = ()
    image_bytes: int = 0
