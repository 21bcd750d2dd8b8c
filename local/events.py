"""AWS's events as its fronts hand them over, built in one place."""

import base64
from collections.abc import Mapping
from typing import Any


def function_url(
    path: str, body: bytes, headers: Mapping[str, str], *, method: str = "POST", query: str = ""
) -> dict[str, Any]:
    """A Lambda function URL's: payload format 2.0, whose body may be base64 whatever it is."""
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        "headers": dict(headers),
        "requestContext": {"http": {"method": method, "path": path}},
        "body": base64.b64encode(body).decode(),
        "isBase64Encoded": True,
    }


def http_api(
    path: str, body: str, headers: Mapping[str, str], *, method: str = "POST", query: str = ""
) -> dict[str, Any]:
    """An API Gateway HTTP API's, with a body that is text."""
    return function_url(path, b"", headers, method=method, query=query) | {
        "routeKey": "POST /webhooks/{route}",
        "requestContext": {"stage": "$default", "http": {"method": method, "path": path}},
        "pathParameters": {"route": path.rpartition("/")[2]},
        "body": body,
        "isBase64Encoded": False,
    }


def json_delivery(route: str, body: str, headers: Mapping[str, str]) -> dict[str, Any]:
    """A JSON body for a webhook's route, by an HTTP API."""
    return http_api(f"/webhooks/{route}", body, {"content-type": "application/json", **headers})
