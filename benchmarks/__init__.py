"""Scripts that measure. Each prints a table and says in its docstring how to run it."""
