# Lorikeet. `make run` and `make test` do all the set-up that they need.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

GO_PACKAGES := ./...
VENV        := build/venv
TOOLS_VENV  := build/tools-venv
TRAIN_VENV  := build/train-venv
NODE_CLIENT := tests/sdk/node
JAVA_CLIENT := tests/sdk/java

# llama.cpp lies in the module of ollama. A build tuned to this machine's CPU is
# many times faster than a portable one; MARCH=x86-64-v3 (say) makes one to carry.
# NDEBUG: what llama.cpp only asserts must not end a server; we check it ourselves.
# GGML_USE_CPU_REPACK: quantized weights are laid out for the CPU, as cmake builds do.
# __AMX_INT8__: the module compiles no AMX kernels, but refers to them where the
# compiler says that the CPU has AMX.
MARCH  ?= native
OLLAMA  = $(shell go mod download github.com/ollama/ollama && go list -m -f '{{.Dir}}' github.com/ollama/ollama)
CGO_ENV = CGO_ENABLED=1 CGO_CFLAGS="-O3 -march=$(MARCH)" CGO_CXXFLAGS="-O3 -march=$(MARCH) -Wno-stringop-overflow" \
	CGO_CPPFLAGS="-DNDEBUG -DGGML_USE_CPU_REPACK -U__AMX_INT8__ -I$(CURDIR)/backend/llama/shims -I$(OLLAMA)/llama/llama.cpp/include -I$(OLLAMA)/llama/llama.cpp/src -I$(OLLAMA)/ml/backend/ggml/ggml/include"
VERSION = $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)

.PHONY: help
help: ## Show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

.PHONY: run
run: build ## Build what is missing and serve the demo on 127.0.0.1:8080
	@bin/lorikeet serve $(ARGS)

.PHONY: build
build: build/system-packages ## Build bin/lorikeet
	@$(CGO_ENV) go build -ldflags "-X main.version=$(VERSION)" -o bin/lorikeet .

.PHONY: cuda
cuda: ## Build the CUDA backend for this machine's GPUs, or others: CUDA_ARCHS=90 (docs/cuda.md)
	@scripts/build-cuda

.PHONY: test
test: build $(VENV)/.done $(NODE_CLIENT)/node_modules/.package-lock.json build/java/.done ## Run every test, with the race detector
	@$(CGO_ENV) LORIKEET_TEST_PYTHON=$(CURDIR)/$(VENV)/bin/python go test -race -timeout 10m $(GO_PACKAGES)

.PHONY: test-tools
test-tools: build $(TOOLS_VENV)/.done ## Run the tests with lm-evaluation-harness and LiteLLM (installs 1 GB)
	@$(CGO_ENV) LORIKEET_TEST_TOOLS=$(CURDIR)/$(TOOLS_VENV)/bin go test -count=1 -v -timeout 10m -run 'TestLMEval|TestLiteLLM' ./tests/sdk

.PHONY: bench
bench: build ## Measure speed on this machine, against the targets (half an hour; a look: ARGS=--quick)
	@bin/lorikeet bench $(ARGS)

.PHONY: lint
lint: build/system-packages ## Check format, vet and the linters of .golangci.yml
	@unformatted=$$(gofmt -l .); test -z "$$unformatted" || { echo "these need 'gofmt -w':" $$unformatted; exit 1; }
	@$(CGO_ENV) go vet ./...
	@$(CGO_ENV) go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0 run

.PHONY: demo-model
demo-model: $(TRAIN_VENV)/.done ## Train the demo model, its adapters and the reference figures anew (about half an hour)
	@PYTHONHASHSEED=0 $(TRAIN_VENV)/bin/python demo/train/train.py --out demo --checkpoints build/demo
	@PYTHONHASHSEED=0 $(TRAIN_VENV)/bin/python tests/oracle/oracle.py --demo demo --checkpoints build/demo --out tests/oracle/testdata
	@$(TRAIN_VENV)/bin/python tests/sdk/lmeval/reference.py demo tests/sdk/lmeval

.PHONY: env
env: build/system-packages ## Print the variables that plain go commands need: eval "$$(make env)"
	@echo 'export $(CGO_ENV)'

.PHONY: clean
clean: ## Remove what was built
	@rm -rf bin build lib $(NODE_CLIENT)/node_modules

# System packages: headers that the module of ollama does not carry.
build/system-packages: scripts/system-packages
	@scripts/system-packages build
	@mkdir -p build && touch $@

build/test-packages: scripts/system-packages
	@scripts/system-packages test
	@mkdir -p build && touch $@

$(VENV)/.done: tests/sdk/python/requirements.txt build/test-packages
	@python3 -m venv $(VENV)
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check -r $<
	@touch $@

$(NODE_CLIENT)/node_modules/.package-lock.json: $(NODE_CLIENT)/package-lock.json build/test-packages
	@cd $(NODE_CLIENT) && npm ci --silent --no-audit --no-fund
	@touch $@

build/java/.done: $(JAVA_CLIENT)/pom.xml $(JAVA_CLIENT)/src/main/java/Check.java
	@mkdir -p build/java
	@if command -v mvn >/dev/null; then mvn --quiet --batch-mode --file $(JAVA_CLIENT)/pom.xml package dependency:copy-dependencies -DoutputDirectory=$(CURDIR)/build/java/lib; \
	else echo "Maven is not installed: the Java client is left out"; fi
	@touch $@

$(TOOLS_VENV)/.done: tests/sdk/lmeval/requirements.txt build/test-packages
	@python3 -m venv $(TOOLS_VENV)
	@$(TOOLS_VENV)/bin/pip install --quiet --disable-pip-version-check -r $<
	@touch $@

$(TRAIN_VENV)/.done: demo/train/requirements.txt build/test-packages
	@python3 -m venv $(TRAIN_VENV)
	@$(TRAIN_VENV)/bin/pip install --quiet --disable-pip-version-check -r $<
	@touch $@
