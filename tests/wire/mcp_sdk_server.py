"""A server made with the official SDK, which speaks the newest protocol and adds a tool to itself while it runs."""

from __future__ import annotations

from mcp.server.mcpserver import Context, MCPServer

server = MCPServer("growing")


@server.tool()
async def grow(context: Context) -> str:
    """Add a tool and tell the client."""
    server.add_tool(lambda: "new", name="new", description="It was not there.")
    await context.notify_tools_changed()
    return "grown"


if __name__ == "__main__":
    server.run("stdio")
