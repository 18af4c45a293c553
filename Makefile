# The work is in scripts/, where it can be read and run by itself.

.DEFAULT_GOAL := help
.PHONY: help run build test bench lint

help: ## Show this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 8

run: ## Build everything, start a bastion and an agent here, print the address and the password
	@scripts/run

build: ## Build the pages and the release binaries
	@scripts/build

test: ## Set up and run every test
	@scripts/test

bench: ## Measure the relay
	@scripts/bench

lint: ## Check formatting, clippy and the pages' types
	@scripts/lint
