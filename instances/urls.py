from django.urls import path

from instances.api import (
    brokers,
    business,
    chatbots,
    chats,
    cloud_chats,
    connection,
    groups,
    instances,
    license,
    messages,
    metrics,
    phone_routes,
    proxy,
    settings,
    stored_messages,
    subscriptions,
    templates,
)
from instances.api.transports import declared_transports
from instances.ingress.view import IngressView
from instances.providers import ingress_endpoints

urlpatterns = [
    path("", instances.Welcome.as_view()),
    path("metrics", metrics.Metrics.as_view()),
    path("license/status", license.LicenseStatus.as_view()),
    path("license/register", license.RegisterLicense.as_view()),
    path("license/activate", license.ActivateLicense.as_view()),
    path("verify-creds", instances.VerifyCreds.as_view()),
    path("instance/create", instances.CreateInstance.as_view()),
    path("instance/fetchInstances", instances.FetchInstances.as_view()),
    path("instance/connectionState/<str:name>", connection.ConnectionStateView.as_view()),
    path("instance/connect/<str:name>", connection.ConnectInstance.as_view()),
    path("instance/restart/<str:name>", connection.RestartInstance.as_view()),
    path("instance/logout/<str:name>", connection.LogoutInstance.as_view()),
    path("instance/setPresence/<str:name>", connection.SetPresence.as_view()),
    path("instance/rotateToken/<str:name>", instances.RotateToken.as_view()),
    path("instance/delete/<str:name>", instances.DeleteInstance.as_view()),
    path("settings/set/<str:name>", settings.SetSettings.as_view()),
    path("settings/find/<str:name>", settings.FindSettings.as_view()),
    path("proxy/set/<str:name>", proxy.SetProxy.as_view()),
    path("proxy/find/<str:name>", proxy.FindProxy.as_view()),
    path("websocket/set/<str:name>", subscriptions.SetWebsocket.as_view()),
    path("websocket/find/<str:name>", subscriptions.FindWebsocket.as_view()),
    path("websocket/token/<str:name>", subscriptions.MintToken.as_view()),
    path("webhook/set/<str:name>", subscriptions.SetWebhook.as_view()),
    path("webhook/find/<str:name>", subscriptions.FindWebhook.as_view()),
    *(path(f"{each.name}/set/<str:name>", subscriptions.set_view(each).as_view()) for each in declared_transports()),
    *(path(f"{each.name}/find/<str:name>", subscriptions.find_view(each).as_view()) for each in declared_transports()),
    *(path(f"{each}/set/<str:name>", brokers.set_broker_view(each).as_view()) for each in brokers.absent_brokers()),
    *(path(f"{each}/find/<str:name>", brokers.find_broker_view(each).as_view()) for each in brokers.absent_brokers()),
    *(path(f"message/send{view.kind.value}/<str:name>", view.as_view()) for view in messages.SEND_VIEWS),
    *(
        path(f"{route}/<str:name>", view.as_view())
        for module in (phone_routes, groups, chatbots, chats, cloud_chats, stored_messages, business, templates)
        for route, view in module.VIEWS.items()
    ),
    *(path(each.path.lstrip("/"), IngressView.as_view(endpoint=each)) for each in ingress_endpoints()),
]
