"""What fal's result said of a job beside its output, kept for callers of fal's own protocol (`jobs.fal_reply`)."""

from pydantic_core import to_json

from app.fal import BillableUnits, FalError


def success_reply(billable: BillableUnits | None) -> str | None:
    """`{"headers": {"x-fal-billable-units": "5"}}` as JSON text; None when fal stated none."""
    return None if billable is None else to_json({"headers": {"x-fal-billable-units": billable.text}}).decode()


def failure_reply(error: FalError) -> str:
    """`{"status": 422, "headers": {…}, "body": {"detail": …}}` as JSON text."""
    return to_json({"status": error.code, "headers": dict(error.headers), "body": error.body}).decode()
