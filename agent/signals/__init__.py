"""The process that turns a bus into signals and signals into what campaigns want, and the agent's side of it.

Nothing is handed on here: the process needs as little of the agent as there is.
"""
