"""Tests of the native engine: real llama.cpp, real HTTP."""
