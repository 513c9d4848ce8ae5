"""Learning in a process of its own.

trainer.py is the agent's side, process.py the child's, messages.py what they tell each other.
"""

from agent.trainer.messages import Fault, Train
from agent.trainer.trainer import NotTaught, Taught, Trainer

__all__ = ["Fault", "NotTaught", "Taught", "Train", "Trainer"]
