"""Paths that this service answers; all that nobody claims comes here too."""

ROUTES = (
    "/api/",
    "/api/schema/",
    "/api/systemagents",
    "/api/workers",
    "/api/namespaces/",
    "/api/state/",
    "/api/mcp/",
    "/ws/mcp/",
    "/api/ai-memory/",
    "/api/auth/",
    "/accounts/",
    "/.well-known/",
)
