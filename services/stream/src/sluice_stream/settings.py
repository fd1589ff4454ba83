"""What the stream service can be told from outside."""

from sluice_core.settings import ServiceSettings, service_config

__all__ = ["Settings"]


class Settings(ServiceSettings):
    """Settings of the stream service (``SLUICE_STREAM_<X>``)."""

    model_config = service_config("stream")
