"""Ways of driving a tool: one module for each command protocol."""
