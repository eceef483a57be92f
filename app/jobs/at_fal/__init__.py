"""Sending jobs to fal and following them there: every loop that calls it, and what holds them back."""
