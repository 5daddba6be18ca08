"""Evolution API's REST routes: views, serializers, responses and the OpenAPI document."""
