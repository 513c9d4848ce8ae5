"""The signing desk: makes, signs and publishes what vehicles verify. It never runs in a car."""

from ota.repository.desk import Desk
from ota.repository.director import Director
from ota.repository.images import ImageRepository
from ota.repository.keys import KeyFolder

__all__ = ["Desk", "Director", "ImageRepository", "KeyFolder"]
