"""Orchestration: schedule, uplink, commands, health, one process."""
