"""Which part of the model is responsible for refusal? Evidence, methods, and their controls.

Another method: a function and a row in `methods.METHODS`.
"""
