"""One endpoint of fal as we serve it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from app.catalogue.fields import show_image
from app.problems import input_faults

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

    def why_never(self, name: str, value: object) -> str | None:
        """Why no input, with its defaults filled in, has this JSON value in this field; None: one may."""
        if name not in self.input.model_fields:
            return "this is no field of the endpoint's input"
        if value is None:
            return "a field that is left out has no value"
        try:
            kept = self.input.__pydantic_validator__.validate_assignment(self.input.model_construct(), name, value)
        except ValidationError as error:
            return input_faults(error.errors(include_url=False, include_input=False))[0]["detail"]
        taken = getattr(kept, name)
        shown = show_image(taken) if name in self.image_fields else taken
        return None if is_same(shown, value) else f"an input always has {json.dumps(shown)} here"


def is_same(given: object, value: object) -> bool:
    """Python takes True for 1; JSON and fal do not."""
    return given == value and isinstance(given, bool) == isinstance(value, bool)
