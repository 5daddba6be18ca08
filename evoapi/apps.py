"""The app of Django's admin, with the site that evoapi shows."""

from django.contrib.admin.apps import AdminConfig as DjangoAdminConfig


class AdminConfig(DjangoAdminConfig):
    default_site = "evoapi.admin_site.AdminSite"
