"""The project's own speculative engine on llama-cpp-python."""
