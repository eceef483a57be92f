"""What a job is charged, by what fal said it billed (DESIGN section 4, FAL.md 2.4)."""

from collections.abc import Callable
from typing import Final

from app.fal import BillableUnits, Failed
from app.ledger.settles import Charge, Held
from app.money import ZERO

Charging = Callable[[Held], Charge]

_SERVER_ERROR: Final = 500


def void(note: str, *, by: str | None = None) -> Charging:
    """Nothing is charged; the promise is given back."""
    return lambda _: Charge(usd=ZERO, note=note, by=by)


def charge_success(billable: BillableUnits | None) -> Charging:
    """The quote, unless fal says that nothing was billed; other units than quoted are marked."""
    if billable is None:
        return lambda held: Charge(usd=held.usd, note="fal did not say what it billed: charged as quoted")
    return lambda held: _stated(held, billable)


def charge_failure(failed: Failed) -> Charging:
    """A 5xx costs nothing. A 4xx costs what fal states; when it states nothing, nothing, and it is marked."""
    code, billable = failed.error.code, failed.billable
    if code >= _SERVER_ERROR:
        units = billable.units if billable else None
        return lambda _: Charge(usd=ZERO, fal_units=units, note=f"fal answered {code}: never billed")
    if billable is None:
        return lambda _: Charge(usd=ZERO, mark="unstated", note=f"fal answered {code} and did not say what it billed")
    return lambda held: _stated(held, billable, all_the_same=f"fal answered {code} and billed it all the same")


def _stated(held: Held, billable: BillableUnits, *, all_the_same: str | None = None) -> Charge:
    units = billable.units
    if units is not None and units == ZERO:
        return Charge(usd=ZERO, fal_units=units, note="fal billed nothing")
    if units is not None and units == held.seconds:
        return Charge(usd=held.usd, fal_units=units, note=all_the_same)
    billed, quoted = billable.text[:40], f"{held.seconds.normalize():f}"
    note = f"fal billed {billed} units, {quoted} seconds were quoted: charged as quoted"
    return Charge(usd=held.usd, fal_units=units, mark="differs", note=note)
