"""What a job is charged, by what fal said it billed (DESIGN section 4, FAL.md 2.4)."""

from collections.abc import Callable

from app.fal import BillableUnits, Failed
from app.ledger.settles import Charge, Held
from app.money import ZERO

Charging = Callable[[Held], Charge]

_SERVER_ERROR = 500


def void(note: str, *, by: str | None = None) -> Charging:
    """Nothing is charged; the promise is given back."""
    return lambda _: Charge(usd=ZERO, note=note, by=by)


def charge_success(billable: BillableUnits | None) -> Charging:
    """The quote, unless fal says that nothing was billed; other units than quoted are marked."""
    return lambda held: _stated(held, billable) if billable else Charge(usd=held.usd)


def charge_failure(failed: Failed) -> Charging:
    """A 5xx costs nothing. A 4xx costs what fal states; when it states nothing, nothing, and it is marked."""
    code, billable = failed.error.code, failed.billable
    if code >= _SERVER_ERROR:
        units = billable.units if billable else None
        return lambda _: Charge(usd=ZERO, fal_units=units, note=f"fal answered {code}: never billed")
    if billable is None:
        return lambda _: Charge(usd=ZERO, mark="unstated", note=f"fal answered {code} and did not say what it billed")
    return lambda held: _stated(held, billable)


def _stated(held: Held, billable: BillableUnits) -> Charge:
    units = billable.units
    if units is not None and units == ZERO:
        return Charge(usd=ZERO, fal_units=units, note="fal billed nothing")
    if units is not None and units == held.seconds:
        return Charge(usd=held.usd, fal_units=units)
    note = f"fal billed {billable.text[:40]} units, {held.seconds.normalize():f} seconds were quoted"
    return Charge(usd=held.usd, fal_units=units, mark="differs", note=note)
