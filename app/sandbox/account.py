"""The account that all keys belong to: who it is, what it still has."""

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

UNIT_PRICE_USD = Decimal("0.28")  # what Kling 2.1 Master costs a second (FAL.md 7.1); prices.py has the others


@dataclass(slots=True)
class Account:
    """fal's account as far as the gateway can see it. Nothing locks it when the balance is used up."""

    username: str = "sandbox"
    user_id: str = "sandbox-user"
    credits_usd: Decimal = Decimal(10_000)
    billed_before_usd: Decimal = Decimal(0)  # for jobs that the box has forgotten

    def balance_usd(self, billed_usd: Decimal) -> Decimal:
        """Return what is left after so much for the jobs remembered."""
        return self.credits_usd - billed_usd - self.billed_before_usd

    def set_balance(self, balance_usd: Decimal, billed_usd: Decimal) -> None:
        """Top up or take away, so that this is what is left now."""
        self.credits_usd += balance_usd - self.balance_usd(billed_usd)


def read_usd(given: object) -> Decimal:
    """Return dollars given as a text; ValueError for what is none."""
    try:
        amount = Decimal(given) if isinstance(given, str) else Decimal("NaN")
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite():
        raise ValueError('dollars are a text such as "100.00"')
    return amount
