"""The OpenAI-compatible server around Transformers, in a process of its own.

    python -m backends.pytorch.server --target FOLDER [--drafter FOLDER] [--port N]

The server is the native engine's (`backends.native.server`), with what that one says of itself and takes.
"""

from __future__ import annotations

import argparse
from typing import Any

from advisor.errors import RuntimeFailed
from backends.native import server
from backends.native.decoder import Decoder


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    taken = server.parser("backends.pytorch.server")
    taken.add_argument("--device", help="cpu, cuda:N or mps; the best one by default")
    taken.add_argument("--dtype", help="float32, bfloat16, float16; the checkpoint's on a GPU, float32 on processors")
    return taken.parse_args(argv)


def device() -> str:
    """The best device that this PyTorch knows."""
    import torch  # noqa: PLC0415

    return str(torch.accelerator.current_accelerator()) if torch.accelerator.is_available() else "cpu"


def facts(options: argparse.Namespace) -> dict[str, Any]:
    """What is known of PyTorch's build, and what it computes on.

    Raises:
        RuntimeFailed: PyTorch or Transformers cannot be imported.
    """
    try:
        import torch  # noqa: PLC0415
        import transformers  # noqa: PLC0415
    except Exception as error:
        raise RuntimeFailed(
            f"PyTorch and Transformers cannot be imported: {error}", hint="install them again"
        ) from error
    options.device = options.device or device()
    # Half precision is emulated on many processors, and stops the process on some.
    options.dtype = options.dtype or ("float32" if options.device == "cpu" else "auto")
    return {
        "build_info": f"transformers {transformers.__version__}, torch {torch.__version__}",
        "system_info": f"{options.device}, {options.dtype}",
        "gpu_offload": options.device != "cpu",
    }


def start(options: argparse.Namespace) -> None:
    """Serve Transformers; raises as `backends.native.server.serve`."""

    def make() -> Decoder:
        from backends.pytorch.engine import Engine  # noqa: PLC0415

        return Engine(
            options.target,
            options.drafter,
            context_tokens=options.context,
            threads=options.threads,
            device=options.device,
            dtype=options.dtype,
        )

    server.serve(options, lambda: facts(options), make)


def main() -> None:
    server.run(arguments(), start)


if __name__ == "__main__":
    main()
