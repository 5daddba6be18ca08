"""The group routes, whose errors Evolution API words differently: a group is named by the body or by the query."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiParameter
from rest_framework.exceptions import ValidationError

from instances.access.rights import MANAGE, READ, SEND
from instances.api import group_bodies as bodies
from instances.api.refusals import Refusal, RefusedView, refusal_view
from instances.api.request import InstanceRequest
from instances.api.serializers import RequestBody, validate
from instances.errors import ListedError, listed

NO_GROUP = ["The group id needs to be informed in the query", 'ex: "groupJid=120362@g.us"']
NO_INVITE_CODE = [
    "The group invite code id needs to be informed in the query",
    'ex: "inviteCode=F1EX5QZxO181L3TMVP31gY" (Obtained from group join link)',
]
NO_PARTICIPANTS = ["The getParticipants needs to be informed in the query"]

GROUP_JID = "120363025246125486@g.us"
INVITE_CODE = "F1EX5QZxO181L3TMVP31gY"
PARTICIPANTS = ["5511988887777"]


class GroupView(RefusedView):
    """A view of one group."""

    def check(self, request: InstanceRequest) -> None:
        body: dict[str, Any] = request.data  # type: ignore[assignment]  # our parser takes objects alone
        group = body.get("groupJid") or request.query_params.get("groupJid")
        if not group:
            raise ListedError(NO_GROUP)
        if isinstance(group, str) and not group.endswith("@g.us"):
            group += "@g.us"
        self._validate({**body, "groupJid": group})

    def _validate(self, data: dict[str, Any]) -> None:
        """Raise ListedError, with an object for each failed rule, for an invalid body."""
        try:
            validate((self.body or bodies.GroupBody)(data=data))
        except ValidationError as error:
            raise ListedError(list(listed(error))) from None


class InviteCodeView(GroupView):
    """A view of a code by which people join a group."""

    def check(self, request: InstanceRequest) -> None:
        code = request.query_params.get("inviteCode")
        if not code:
            raise ListedError(NO_INVITE_CODE)
        self._validate({"inviteCode": code})


class AllGroupsView(GroupView):
    """A view of all groups, whose query says whether the participants are wanted."""

    def check(self, request: InstanceRequest) -> None:
        if request.query_params.get("getParticipants") not in ("true", "false"):
            raise ListedError(NO_PARTICIPANTS)


def _parameter(name: str, value: str, required: bool = True, **options: Any) -> tuple[OpenApiParameter, ...]:
    schema: dict[str, Any] = {"type": "string", "example": value} | options
    return (OpenApiParameter(name, schema, required=required),)


#: A group that the body may name as well.
_IN_QUERY_TOO = _parameter("groupJid", GROUP_JID, required=False, maxLength=bodies.MAX_GROUP_JID)
_IN_QUERY = _parameter("groupJid", GROUP_JID, minLength=1, maxLength=bodies.MAX_GROUP_JID)
_CODE = _parameter("inviteCode", INVITE_CODE, pattern="^[a-zA-Z0-9]{22}$")
_WITH_PARTICIPANTS = _parameter("getParticipants", "true", enum=["true", "false"])


def _post(path: str, does: str, body: type[bodies.GroupBody], scope: str = MANAGE, **members: Any) -> Refusal:
    """Return a route that changes a group; `members` are those of its example."""
    example = {"groupJid": GROUP_JID} | members
    return Refusal(_name(path), "POST", f"group/{path}", scope, does, body, example, _IN_QUERY_TOO)


def _get(
    path: str,
    does: str,
    parameters: tuple[OpenApiParameter, ...],
    scope: str = READ,
    body: type[RequestBody] | None = None,
) -> Refusal:
    """Return a route that finds something; `body` has the rules of its query."""
    return Refusal(_name(path), "GET", f"group/{path}", scope, does, body, parameters=parameters)


def _name(path: str) -> str:
    name = path[0].upper() + path[1:]
    return name if "Group" in name else f"Group{name}"


CREATE = Refusal(
    *("CreateGroup", "POST", "group/create", MANAGE, "Create a group.", bodies.CreateGroupBody),
    {"subject": "Customers", "participants": PARTICIPANTS, "description": "News"},
)

CHANGES = (
    _post("updateGroupSubject", "Change a group's name.", bodies.GroupSubjectBody, subject="Customers"),
    _post(
        *("updateGroupPicture", "Change a group's picture.", bodies.GroupPictureBody),
        image="https://example.com/group.png",
    ),
    _post("updateGroupDescription", "Change a group's text.", bodies.GroupDescriptionBody, description="News"),
    _post(
        *("sendInvite", "Send people a group's link.", bodies.SendInviteBody, SEND),
        description="Join us",
        numbers=PARTICIPANTS,
    ),
    _post("revokeInviteCode", "Make a new link of a group.", bodies.GroupBody),
    _post(
        *("updateParticipant", "Add, remove, promote or demote people.", bodies.UpdateParticipantBody),
        action="add",
        participants=PARTICIPANTS,
    ),
    _post("updateSetting", "Say who may write and edit.", bodies.GroupSettingBody, action="announcement"),
    _post("updateMemberAddMode", "Say who may add people.", bodies.MemberAddModeBody, mode="admin_add"),
    _post("toggleEphemeral", "Let messages disappear.", bodies.EphemeralBody, expiration=86400),
    Refusal("LeaveGroup", "DELETE", "group/leaveGroup", MANAGE, "Leave a group.", parameters=_IN_QUERY),
)

READS = (
    _get(
        *("findGroupInfos", "Find a group."),
        _parameter("groupJid", GROUP_JID, pattern=r"^[0-9-]+(@g\.us)?$"),
        body=bodies.NumberedGroupBody,
    ),
    _get("participants", "Find the people in a group.", _IN_QUERY),
    _get("inviteCode", "Find a group's link.", _IN_QUERY),
)

INVITES = (
    _get("inviteInfo", "Find the group of a link.", _CODE, body=bodies.InviteCodeBody),
    _get("acceptInviteCode", "Join the group of a link.", _CODE, MANAGE, bodies.InviteCodeBody),
)

ALL = _get("fetchAllGroups", "Find all groups.", _WITH_PARTICIPANTS)

#: The views by the path before the instance's name.
VIEWS = {
    CREATE.path: refusal_view(CREATE),
    ALL.path: refusal_view(ALL, AllGroupsView),
    **{refusal.path: refusal_view(refusal, GroupView) for refusal in (*CHANGES, *READS)},
    **{refusal.path: refusal_view(refusal, InviteCodeView) for refusal in INVITES},
}
