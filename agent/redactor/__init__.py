"""Pictures that show nobody: a process of its own covers them before anything of them is kept.

pictures.py is the agent's side, orders.py what it believes of the child, process.py the child's, messages.py what they
tell each other.
"""

from agent.redactor.pictures import PictureCounts, PictureSettings, PictureSide, PictureStatus

__all__ = ["PictureCounts", "PictureSettings", "PictureSide", "PictureStatus"]
