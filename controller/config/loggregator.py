"""The config keys of the Loggregator agent, as Diego's components have them.

Source: cloudfoundry/diego-logging-client config.go.
"""

from typing import Self

from pydantic import Field, model_validator

from controller.config.sections import Section
from controller.config.values import ReadableFile

_FILES = ("loggregator_ca_path", "loggregator_cert_path", "loggregator_key_path")


class LoggregatorConfig(Section):
    """How the daemon reaches the Loggregator agent of its machine, and who it is there."""

    loggregator_use_v2_api: bool = False
    """Whether app developers are told in the logs of their apps (`cf logs`) what happens to their images. It
    needs the three files. With false nothing is sent."""
    loggregator_api_port: int = Field(default=3458, ge=1, le=65535)
    """Port of the agent at 127.0.0.1."""
    loggregator_ca_path: ReadableFile | None = None
    """CA certificates in PEM that the agent's certificate must chain to. Its name must be "metron"."""
    loggregator_cert_path: ReadableFile | None = None
    """Certificate in PEM that the daemon presents to the agent."""
    loggregator_key_path: ReadableFile | None = None
    """Private key of that certificate, in PEM and not encrypted."""
    loggregator_job_deployment: str = ""
    """Name of the deployment. The agent adds its own; the key is there since the family has it."""
    loggregator_job_name: str = ""
    """Name of the instance group. The agent adds its own, too."""
    loggregator_job_index: str = ""
    """ID of the instance. The agent adds its own, too."""
    loggregator_job_ip: str = ""
    """Address of the instance. The agent adds its own, too."""
    loggregator_job_origin: str = Field(default="docker_cache", min_length=1)
    """Value of the tag `origin` of all that is sent."""
    loggregator_source_id: str = Field(default="docker_cache", min_length=1)
    """Source ID of the counters for operators."""
    loggregator_instance_id: str = ""
    """Instance ID of the counters for operators; in a BOSH job `spec.id`."""
    loggregator_batch_max_size: int = Field(default=0, ge=0, le=100)
    """Number of lines that are sent at once; 0 means 100."""

    @model_validator(mode="after")
    def _check_files(self) -> Self:
        missing = [key for key in _FILES if getattr(self, key) is None]
        if self.loggregator_use_v2_api and missing:
            raise ValueError(f"loggregator_use_v2_api: needs {', '.join(missing)}")
        return self

    @property
    def address(self) -> str:
        """Address of the agent."""
        return f"127.0.0.1:{self.loggregator_api_port}"
