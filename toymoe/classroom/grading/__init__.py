"""Marking a class's submissions: functions found by name, each run in a process of its own.

marking (all of them) -> channel -> worker (a new process for every task) -> task (reading, running)
-> values -> marking (verdicts) -> rows -> sheet
"""
