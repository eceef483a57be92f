"""Deliveries: our webhooks to callers, stored with the end of a job and tried for a day."""
