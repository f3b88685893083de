"""What the installed llama-cpp-python was built for: `python -m backends.native.build` prints it.

In a process of its own, because loading a build for another processor may end it.
"""

from __future__ import annotations

import os
from importlib import metadata
from pathlib import Path

USES = {
    "AVX": "avx",
    "AVX2": "avx2",
    "AVX_VNNI": "avx_vnni",
    "F16C": "f16c",
    "FMA": "fma",
    "AVX512": "avx512f",
    "AVX512_VBMI": "avx512vbmi",
    "AVX512_VNNI": "avx512_vnni",
    "AVX512_BF16": "avx512_bf16",
    "AMX_INT8": "amx_int8",
    "NEON": "neon",
    "DOTPROD": "dotprod",
    "MATMUL_INT8": "i8mm",
    "SVE": "sve",
    "SME": "sme",
}
"""llama.cpp's names of instruction sets to those of `Cpu.features`."""


def used(said: str) -> tuple[str, ...]:
    """The instruction sets that a build uses, from what llama.cpp says of itself (`AVX2 = 1 | FMA = 1`)."""
    words = [part.rpartition(":")[2].strip() for part in said.split("|")]
    return tuple(USES[name] for word in words if (name := word.removesuffix(" = 1")) != word and name in USES)


def main() -> None:
    import llama_cpp  # noqa: PLC0415

    folder = Path(os.environ.get("LLAMA_CPP_LIB_PATH") or Path(llama_cpp.__file__).parent / "lib")
    print("llama-cpp-python", metadata.version("llama_cpp_python"))
    print("libraries", *sorted(file.name for file in folder.glob("*")))
    print("GPU offload", llama_cpp.llama_supports_gpu_offload())
    print("system info", llama_cpp.llama_print_system_info().decode(errors="replace"))


if __name__ == "__main__":
    main()
