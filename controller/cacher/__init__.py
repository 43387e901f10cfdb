"""Runs cache jobs: finds the job for each request, has its image copied, and records the result.

Requests for the same source and credentials share a job; before the job ends it is checked that the tag has
not moved since. Sharing never crosses credentials, since a tenant who may not read an image must not get it
through another tenant's job. Credentials stay in memory; after a restart they come back with the staging
task or the LRP that asked.
"""

from controller.cacher.cacher import Cacher
from controller.cacher.dependencies import CacherDependencies, CopyEngine, JobLimits

__all__ = ["Cacher", "CacherDependencies", "CopyEngine", "JobLimits"]
