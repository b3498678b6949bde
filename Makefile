PYTHON ?= python3.11
BIN := .venv/bin
PYTEST = $(BIN)/python -m pytest -q -n auto --maxprocesses 4 --dist worksteal

.PHONY: demo demo-artifact test test-all test-ray test-web check docs fuzz benchmark benchmark-cost benchmark-growth benchmark-folder benchmark-batch benchmark-service benchmark-gpu

demo: .venv/installed  ## export the embedded demo model, explain an image with it
	$(BIN)/python cli.py export --model demo --output artifacts/demo.onnx --force
	$(BIN)/python cli.py explain artifacts/demo.onnx demo/scenes/scene-0.png

demo-artifact: .venv/installed  ## make demo/demo.onnx anew, which is in the package: of its own weights, or with CHECKPOINT=FILE
	$(BIN)/python cli.py export --model demo $(addprefix --checkpoint ,$(CHECKPOINT)) --output demo/demo.onnx --force

test: .venv/installed  ## the test suite, on several cores: each takes about 2 GB of memory
	$(PYTEST) -m "not slow"

# Of the checks at full size those that take a minute
FULL_SIZE := exports.py::test_timm[deit] exports.py::test_classifier_of_transformers[dinov2-small] \
  backbones.py::test_timm[vit] backbones.py::test_torchvision

test-all: test  ## that, and what is slow by nature: fuzzing, the gate's trial, more models, some at full size
	$(PYTEST) -m slow
	$(PYTEST) $(FULL_SIZE:%="tests/full_size/%")

test-ray: .venv/installed-ray  ## what runs on Ray, which it installs
	$(BIN)/python -m pytest -q tests/batch/test_ray.py tests/serving/http/test_on_ray.py

.venv/installed-ray: .venv/installed
	$(BIN)/pip install -q -e '.[ray]'
	touch $@

WEB := tests/web

test-web: .venv/installed $(WEB)/node_modules  ## the JavaScript in Node, and the page in Chromium, against Python
	folder=$$(mktemp -d) && trap "rm -r $$folder" EXIT && \
	  OMP_NUM_THREADS=1 $(BIN)/python -m tests.web.reference $$folder $(WEB)/node_modules && cd $(WEB) && REFERENCE=$$folder node --test

$(WEB)/node_modules: $(WEB)/package-lock.json
	cd $(WEB) && npm ci --ignore-scripts
	touch $@

check: .venv/installed  ## linter, formatter, the arrows between packages, and type checker
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache --no-logo
	# mypy names the package after its folder, so it gets one with the right name wherever the checkout stands
	link=$$(mktemp -d) && ln -s "$(CURDIR)" $$link/onnxplain && cd $$link && \
	  "$(CURDIR)/$(BIN)/mypy" --config-file "$(CURDIR)/pyproject.toml" --cache-dir "$(CURDIR)/.mypy_cache" \
	  $(foreach name,contract runtime batch lrp_graph demo catalog web evaluation export serving onnxplain_ray commands cli,-p onnxplain.$(name)); \
	  status=$$?; rm -r $$link; exit $$status

# Warnings are errors, so that a link that leads nowhere, or a cell of the notebook that fails, ends it
docs: .venv/installed-docs docs/gallery/made  ## the documentation as a site in build/docs, which needs no network
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going --fresh-env -c docs -b html . build/docs
	$(BIN)/python docs/check_site.py build/docs
	@echo open build/docs/index.html

docs/gallery/made: demo/demo.onnx docs/images.py $(wildcard runtime/*.py runtime/*/*.py)
	$(BIN)/python docs/images.py gallery
	touch $@

.venv/installed-docs: .venv/installed
	$(BIN)/pip install -q -e '.[docs]'
	touch $@

fuzz: .venv/installed  ## 2000 damaged and hostile files: is each answered rightly, or refused in one line?
	$(BIN)/python -m tests.fuzz --cases 2000

benchmark-cost: .venv/installed  ## what an explanation costs: fills the tables of docs/performance.md
	$(BIN)/python -m benchmarks.cost --document docs/performance.md

benchmark-growth: .venv/installed  ## how that grows with tokens, layers, classes and images: a table and plots there
	$(BIN)/python -m benchmarks.growth --document docs/performance.md

benchmark-folder: .venv/installed  ## images per second of a folder, against a loop that only runs the graph
	$(BIN)/python -m benchmarks.folder --document docs/performance.md

benchmark-batch: .venv/installed-ray  ## images per second of a batch, against a loop that only runs the graph; memory
	$(BIN)/python -m benchmarks.batch --document docs/performance.md

benchmark-service: .venv/installed-ray  ## the service under load, against a loop that only runs the graph; needs the extra ray
	$(BIN)/python -m benchmarks.service --document docs/performance.md

benchmark-gpu: .venv/installed  ## the tests that need a CUDA device, and the tables of benchmark-cost on it
	$(BIN)/python -m benchmarks.gpu --document docs/performance.md

benchmark: benchmark-cost benchmark-growth benchmark-folder  ## these, and the table of docs/which-method.md
	$(BIN)/python cli.py export --model demo --output artifacts/demo.onnx --force
	$(BIN)/python -m benchmarks.which_method

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q -e '.[cpu,export,dev]'
	# Tests read one file of it, Triton's definition of config.pbtxt; what it requires would hold packages of ours back
	-$(BIN)/pip install -q --no-deps 'tritonclient>=2.73'
	touch $@
