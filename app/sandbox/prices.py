"""What fal bills for a second of each model (FAL.md 7.1, 7.3). Here a unit is a second, whatever it costs.

What is not named here costs what Kling 2.1 Master does. How fal counts the units of a model whose price hangs on its
input is not known (FAL.md 7.3, last line).
"""

from decimal import Decimal
from typing import Any

from app.sandbox.account import UNIT_PRICE_USD
from app.sandbox.validation import KLING, VEO

USD = {
    f"{KLING}/v2.1/standard/image-to-video": Decimal("0.056"),
    f"{KLING}/v2.1/pro/image-to-video": Decimal("0.098"),
    f"{KLING}/v2.5-turbo/pro/text-to-video": Decimal("0.07"),
    f"{KLING}/v2.5-turbo/pro/image-to-video": Decimal("0.07"),
    f"{KLING}/v2.5-turbo/standard/image-to-video": Decimal("0.042"),
    f"{KLING}/v2.6/pro/text-to-video": Decimal("0.07"),
    f"{KLING}/v2.6/pro/image-to-video": Decimal("0.07"),
    VEO: Decimal("0.20"),
}
USD_MORE_WITH_SOUND = {
    f"{KLING}/v2.6/pro/text-to-video": Decimal("0.07"),
    f"{KLING}/v2.6/pro/image-to-video": Decimal("0.07"),
    VEO: Decimal("0.20"),
}
USD_MORE_AT_4K = {VEO: Decimal("0.20")}


def unit_price(endpoint: str, given: Any) -> Decimal:
    """Return the dollars of a second of this model with this input: what was left out is its default."""
    fields = given if isinstance(given, dict) else {}
    usd = USD.get(endpoint, UNIT_PRICE_USD)
    if fields.get("generate_audio", True):
        usd += USD_MORE_WITH_SOUND.get(endpoint, Decimal(0))
    if fields.get("resolution") == "4k":
        usd += USD_MORE_AT_4K.get(endpoint, Decimal(0))
    return usd
