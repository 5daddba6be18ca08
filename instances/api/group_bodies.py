"""Request bodies of the group routes, with the rules of Evolution API's schemas."""

from __future__ import annotations

import re

from rest_framework import serializers

from instances.api.fields import Flag, Text
from instances.api.message_fields import OneOf, Unique
from instances.api.schema_fields import NumericText, OneOfNumbers
from instances.api.serializers import RequestBody

#: Characters of an address of a group.
MAX_GROUP_JID = 255


class CreateGroupBody(RequestBody):
    subject = Text()
    participants = Unique(allow_empty=False, child=NumericText("participants"))
    description = Text(required=False)
    promoteParticipants = Flag(required=False)
    profilePicture = Text(required=False, max_length=None)  # a URL, or the picture in base64


class GroupBody(RequestBody):
    """A body that names a group, unless the query does; see `GroupView`."""

    groupJid = Text(max_length=MAX_GROUP_JID, required=False, help_text="May stand in the query, too.")


class NumberedGroupBody(GroupBody):
    """The group of findGroupInfos, whose address is checked."""

    def validate_groupJid(self, value: str) -> str:
        if not re.fullmatch(r"[0-9-]+@g\.us", value):
            raise serializers.ValidationError('groupJid does not match pattern "^[\\\\d-]+@g.us$"')
        return value


class GroupSubjectBody(GroupBody):
    subject = Text()


class GroupPictureBody(GroupBody):
    image = Text(max_length=None)  # a URL, or the picture in base64


class GroupDescriptionBody(GroupBody):
    description = Text()


class SendInviteBody(GroupBody):
    description = Text()
    numbers = Unique(allow_empty=False, child=NumericText("numbers"))


class UpdateParticipantBody(GroupBody):
    action = OneOf(("add", "remove", "promote", "demote"))
    participants = Unique(allow_empty=False, child=NumericText("participants"))


class GroupSettingBody(GroupBody):
    action = OneOf(("announcement", "not_announcement", "locked", "unlocked"))


class MemberAddModeBody(GroupBody):
    mode = OneOf(("admin_add", "all_member_add"))


class EphemeralBody(GroupBody):
    expiration = OneOfNumbers(0, 86400, 604800, 7776000)


class InviteCodeBody(RequestBody):
    inviteCode = Text(max_length=255)

    def validate_inviteCode(self, value: str) -> str:
        if not re.fullmatch("[a-zA-Z0-9]{22}", value):
            raise serializers.ValidationError('inviteCode does not match pattern "^[a-zA-Z0-9]{22}$"')
        return value
