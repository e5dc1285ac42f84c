SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

export CGO_ENABLED := 0
export VAGLIO_LIB := $(CURDIR)/.deps/lib
# The real data of test-real. For the program itself VAGLIO_DATA is --data, so nothing else gets it from here.
REAL_DATA := $(abspath $(or $(VAGLIO_DATA),../shared/data))
unexport VAGLIO_DATA

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo development)
GOLANGCI_LINT_VERSION := v2.6.2
GOLANGCI_LINT := .deps/bin/golangci-lint-$(GOLANGCI_LINT_VERSION)

.PHONY: help
help: ## Say what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: go
go:
	@command -v go >/dev/null || { echo "Go 1.26 or later is needed, and there is no go on the PATH: see https://go.dev/doc/install" >&2; exit 1; }

.PHONY: build
build: go ## Build bin/vaglio
	go build -trimpath -buildvcs=false -ldflags "-s -w -X vaglio.Version=$(VERSION)" -o bin/vaglio ./cmd/vaglio

.PHONY: demo
demo: deps build ## From nothing to explained decisions on 127.0.0.1:8080 (ONCE=1 stops after printing them)
	bin/vaglio demo $(if $(filter-out 0,$(ONCE)),--once)

.PHONY: test
test: go deps ## Run all tests against a real ClickHouse and a real LightGBM
	build/test ./...

.PHONY: test-real
test-real: go deps ## Run the examples on real data (VAGLIO_DATA, ../shared/data by default)
	@test -d "$(REAL_DATA)" || { echo "no folder $(REAL_DATA): set VAGLIO_DATA to the folder of the example data" >&2; exit 1; }
	VAGLIO_DATA="$(REAL_DATA)" build/test -count=1 -tags real -run Real ./examples/...

.PHONY: schemathesis
schemathesis: deps build ## Hold a running server against its own description, with schemathesis (EXAMPLES, SEED)
	build/schemathesis

.PHONY: bench
bench: go deps ## Run the benchmarks
	go test -run '^$$' -bench . -benchmem ./...

.PHONY: lint
lint: go $(GOLANGCI_LINT) ## Check format, vet and linters
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$unformatted" || { echo "gofmt would change:"; echo "$$unformatted"; exit 1; }
	go vet ./...
	go vet -tags real ./...
	$(GOLANGCI_LINT) run

$(GOLANGCI_LINT): | go
	GOBIN=$(CURDIR)/.deps/bin go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)
	mv .deps/bin/golangci-lint $@

.PHONY: deps
deps: ## Fetch ClickHouse and LightGBM into .deps, pinned and checked
	@build/deps

.PHONY: clean
clean: ## Remove what was built; .deps stays
	rm -rf bin .deps/test.log
