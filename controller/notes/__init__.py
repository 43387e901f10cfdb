"""Writes a note beside each copy, and adopts copies when the store does not know them."""

from controller.notes.adoption import Adoption
from controller.notes.artifacts import CopyNotes
from controller.notes.dependencies import AdoptedCopy, AdoptionDependencies, AdoptionStatus, ReadNotes
from controller.notes.droplet_sources import DropletSources
from controller.notes.unknown import UnknownCopies
from controller.notes.writer import NoteWriter, WrittenNotes

__all__ = [
    "AdoptedCopy",
    "Adoption",
    "AdoptionDependencies",
    "AdoptionStatus",
    "CopyNotes",
    "DropletSources",
    "NoteWriter",
    "ReadNotes",
    "UnknownCopies",
    "WrittenNotes",
]
