"""The environment of whatever computes with ggml, llama.cpp's library of matrix products."""

from __future__ import annotations

NO_RACES = {"GGML_CUDA_PDL": "0"}
"""No overlapped kernel launches, on NVIDIA's Hopper and newer: with them single rows came out wrong on an H100, and a
tenth of the drafts were accepted instead of nearly all (the races of llama.cpp#23690 and #23825 are of their kind)."""
NO_BACKTRACE = {"GGML_NO_BACKTRACE": "1"}
"""On an assertion llama.cpp would start a debugger, and keep the user waiting for it."""
