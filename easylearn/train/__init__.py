"""The training machine: loop, callbacks, schedules at work, records."""
