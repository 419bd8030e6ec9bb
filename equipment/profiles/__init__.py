"""How a kind of tool is spoken to: one driver protocol, a module for each profile."""
