"""The tables of this room, as `migrations/` made them."""

from sqlalchemy import Column, Index, Integer, PrimaryKeyConstraint, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from app.db import MOMENT, MONEY, metadata

fal_bills = Table(
    "fal_bills",
    metadata,
    Column("fal_request_id", Text, nullable=False),
    Column("billed_at", MOMENT, nullable=False),
    Column("n", Integer, nullable=False),  # events of a request at one moment are told apart by it
    Column("endpoint", Text, nullable=False),
    Column("units", MONEY),
    Column("unit_price_usd", MONEY),
    Column("usd", MONEY, nullable=False),
    Column("paid_with", Text),
    Column("read_at", MOMENT, nullable=False),
    PrimaryKeyConstraint("fal_request_id", "billed_at", "n", name="fal_bills_pkey"),
    Index("fal_bills_billed_at_idx", "billed_at"),
)

reconciliations = Table(
    "reconciliations",
    metadata,
    Column("id", Uuid, nullable=False),
    Column("since", MOMENT, nullable=False),
    Column("until", MOMENT, nullable=False),
    Column("started_at", MOMENT, nullable=False),
    Column("finished_at", MOMENT),
    Column("by", Text, nullable=False),
    Column("figures", JSONB),
    Column("error", Text),
    PrimaryKeyConstraint("id", name="reconciliations_pkey"),
)
