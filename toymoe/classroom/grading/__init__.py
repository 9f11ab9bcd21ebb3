"""Marking a class's submissions: functions found by name, each run in a process of its own.

submission (reading) -> worker (in the process) -> marking (limits, many at once) -> sheet
"""
