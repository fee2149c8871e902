# The usual targets. Each is one command, so nothing depends on make.

PKG ?= ./shared
FUZZ_RUNS ?= 10000
GREMLINS := github.com/go-gremlins/gremlins/cmd/gremlins@v0.6.0

.PHONY: build test race lint generate fuzz mutate bench ci

build: ## bin/recall-plugin and bin/recall-sidecar
	CGO_ENABLED=0 go build -trimpath -o bin/recall-plugin ./plugin
	CGO_ENABLED=0 go build -trimpath -o bin/recall-sidecar ./sidecar

test:
	go test ./...

race:
	go test -race -timeout 30m ./...

lint:
	go vet ./...
	go run $(shell sed -n 's/^golangci=\([^ ]*\).*/\1/p' .ci/run) run

generate:
	go generate ./...

fuzz: ## every fuzz target, FUZZ_RUNS runs each
	for package in $$(go list ./...); do \
	  for target in $$(go test -list '^Fuzz' $$package | grep '^Fuzz'); do \
	    go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZ_RUNS)x $$package || exit 1; \
	  done; \
	done

mutate: ## the changes of package PKG that no test notices
	go run $(GREMLINS) unleash $(PKG) --workers 1

bench: ## every row of the benchmark, quickly
	go run ./bench speed --quick

ci:
	.ci/run
