"""Reconciles the droplets of Cloud Controller: each names the copy of its image, or its original image.

A staging that has ended is followed to its droplet; whatever else changes has the droplets looked at that it
concerns; and a listing at an interval finds the rest. Nothing else of the daemon waits for Cloud Controller.
"""

from controller.droplets.dependencies import DropletDependencies
from controller.droplets.droplets import Droplets, DropletsStatus, ReconciledDroplets, UnchangedDroplets
from controller.droplets.known import KnownDroplets
from controller.droplets.obstacles import DropletObstacles, NamingCandidate
from controller.droplets.orders import DropletListener
from controller.droplets.survey import DropletSurvey

__all__ = [
    "DropletDependencies",
    "DropletListener",
    "DropletObstacles",
    "DropletSurvey",
    "Droplets",
    "DropletsStatus",
    "KnownDroplets",
    "NamingCandidate",
    "ReconciledDroplets",
    "UnchangedDroplets",
]
