"""Drops from a request what the running version of the BBS does not know.

Source: bbs models/*.proto of October 2024 and June 2026; generated Go code keeps no unknown fields.
"""

from collections.abc import Iterator

from google.protobuf.message import Message

_NEW_FIELDS: dict[str, tuple[str, ...]] = {
    "models.DesiredLRP": ("volume_mounted_files", "update_strategy"),
    "models.DesiredLRPUpdate": ("image_username", "image_password"),
    "models.DesiredLRPsRequest": ("app_guids",),
    "models.TaskDefinition": ("volume_mounted_files",),
    "models.RunAction": ("volume_mounted_files",),
    "models.ActualLRPNetInfo": ("instance_ipv6_address",),
    "models.CellPresence": ("annotations",),
    "models.VolumeMount": ("dedicated",),
}


def drop_new_fields(message: Message) -> None:
    """Clear all fields that the version of 2024 lacks, at any depth."""
    for name in _NEW_FIELDS.get(message.DESCRIPTOR.full_name, ()):
        message.ClearField(name)
    for inner in _parts(message):
        drop_new_fields(inner)


def _parts(message: Message) -> Iterator[Message]:
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue  # no map holds a message with new fields
        if isinstance(value, Message):
            yield value
        else:
            yield from value
