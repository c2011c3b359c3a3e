# InetBoot. `make` alone lists what there is.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
.DELETE_ON_ERROR:

GO       ?= go
BUILD    := build
SUDO     := $(if $(filter 0,$(shell id -u)),,sudo)
GOFILES  := $(shell find . -name '*.go' -not -path './build/*')
PROGRAMS := $(BUILD)/imagetool $(BUILD)/server $(BUILD)/blockfs
BENCH    ?= all

include iso/iso.mk

# What the parts need beside Go, from Debian 12.
DEPS := $(ISO_DEPS) qemu-system-x86 ipxe ipxe-qemu grub-efi-amd64-bin ovmf mmdebstrap iproute2 dnsmasq bind9-dnsutils nftables fuse3 kmod zstd xz-utils erofs-utils e2fsprogs xfsprogs btrfs-progs dosfstools exfatprogs openssh-client openssh-server sudo libarchive-tools bzip2 qemu-utils fdisk squashfs-tools nginx-light rsync bash-completion fish zsh rsyslog curl atftp tftp-hpa debian-installer-12-netboot-amd64 busybox udhcpc isc-dhcp-client dhcpcd-base isc-dhcp-server isc-dhcp-relay kea-dhcp4-server systemd passwd netbase nfs-common postgresql-15 libnbd-bin libnfs-utils xen-hypervisor-4.17-amd64 memtest86+
BENCH_DEPS := casync nbdkit libnbd-bin zstd rclone httpdirfs fio nfs-ganesha nfs-ganesha-vfs aria2 curl wget tftpd-hpa rpcbind

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

# apt-get runs only if something is missing, so a second run needs no network.
# Servers that tests start themselves are not to run on this machine because of
# that: none is started, and none of those that are new is enabled.
SERVICES := ssh dnsmasq nginx postgresql isc-dhcp-server isc-dhcp-relay kea-dhcp4-server tftpd-hpa rpcbind
define install
	@missing=""; for p in $(1); do dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then echo "deps: installing$$missing"; $(SUDO) apt-get update -q; \
	had=""; for s in $(SERVICES); do [ ! -e /lib/systemd/system/$$s.service ] || had="$$had $$s"; done; \
	policy=/usr/sbin/policy-rc.d; if [ ! -e $$policy ]; then trap "$(SUDO) rm -f $$policy" EXIT; printf '#!/bin/sh\nexit 101\n' | $(SUDO) install -m 755 /dev/stdin $$policy; fi; \
	DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get install -y -q --no-install-recommends $$missing; \
	for s in $(SERVICES); do case " $$had " in *" $$s "*) ;; *) [ ! -e /lib/systemd/system/$$s.service ] || ! command -v systemctl >/dev/null || $(SUDO) systemctl disable -q $$s;; esac; done; fi
endef

.PHONY: deps
deps: ## Install the Debian packages that building and testing need
	$(call install,$(DEPS))

.PHONY: bench-deps
bench-deps: deps
	$(call install,$(BENCH_DEPS))

$(BUILD)/imagetool $(BUILD)/server $(BUILD)/blockfs: $(BUILD)/%: $(GOFILES) go.mod go.sum
	@mkdir -p $(BUILD); echo "build: $@"
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags='-s -w' -o $@ ./$*

.PHONY: build
build: $(PROGRAMS) ## Build imagetool, server and blockfs into build/

.PHONY: debian
debian: deps ## Make the Debian system that demo and tests publish (cached)
	@$(GO) run ./internal/debianroot/cmd

.PHONY: demo
demo: deps build iso ## Publish a Debian and boot it from the ISO in a virtual machine
	@$(GO) run ./internal/demo -build $(BUILD)

.PHONY: lint
lint: ## gofmt, go vet, staticcheck
	@echo "lint: gofmt"; out=$$(gofmt -l $(GOFILES)); [ -z "$$out" ] || { echo "gofmt would change: $$out"; exit 1; }
	@echo "lint: go vet"; $(GO) vet ./...
	@echo "lint: staticcheck"; $(GO) tool staticcheck ./...

# The Debian system's own kernel and modules, for tests of the target.
$(BUILD)/linux/.done: internal/debianroot/debianroot.go
	@rm -rf $(BUILD)/linux; mkdir -p $(BUILD)/linux; tarball=$$($(GO) run ./internal/debianroot/cmd); \
	tar -xf "$$tarball" -C $(BUILD)/linux ./boot ./usr/lib/modules; ln -s usr/lib $(BUILD)/linux/lib; touch $@

# Libraries that compute much and share little: the race detector makes them ten
# times slower. It watches all the code around them.
PLAIN := golang.org/x/crypto/blowfish crypto/internal/fips140/edwards25519/... github.com/klauspost/compress/...

# They begin first, so that none of them is alone at the end; they wait more than they compute.
LONGEST := ./preboot ./blockfs/target ./internal/faulttest

.PHONY: unit
unit: deps build iso $(BUILD)/linux/.done ## Unit tests with the race detector
	@echo "unit: tests with the race detector, some of them in virtual machines"
	INETBOOT_BUILD=$(abspath $(BUILD)) INETBOOT_TEST_LINUX=$(abspath $(BUILD)/linux) \
	$(GO) test -race $(PLAIN:%=-gcflags=%=-race=false) -p 3 -timeout 45m $(LONGEST) $$($(GO) list ./... | grep -v '/internal/boottest$$')

.PHONY: boot-test
boot-test: deps build iso ## Boot Debian in virtual machines: BIOS and UEFI, CD and USB; refusal of tampered stores
	@echo "boot-test: virtual machines, two at a time; each takes about a minute"
	INETBOOT_BUILD=$(abspath $(BUILD)) $(GO) test -count=1 -parallel 2 -timeout 70m -skip '^TestFullMedium$$' ./internal/boottest -v | $(GO) run ./internal/boottest/summary

.PHONY: full-test
full-test: deps build iso iso-full ## Boot Debian from the large medium, which `make test` does not build
	INETBOOT_BUILD=$(abspath $(BUILD)) INETBOOT_FULL=$(abspath $(BUILD))/inetboot-full.iso $(GO) test -v -count=1 -timeout 30m -run '^TestFullMedium$$' ./internal/boottest

.PHONY: fuzz
fuzz: ## Fuzz every parser for a short time
	@$(GO) run ./internal/fuzzall -time 2s

.PHONY: soak
soak: ## Fuzz every parser for ten minutes each
	@$(GO) run ./internal/fuzzall -time 10m

.PHONY: test
test: deps lint build iso unit fuzz boot-test ## Everything: lint, unit tests, boot tests, short fuzzing

.PHONY: bench
bench: bench-deps build iso ## Measure beside other programs, see docs/benchmarks.md; BENCH=push|blockfs|boot|lan, or a part of them
	@$(GO) run ./internal/bench -build $(BUILD) -run $(BENCH)

.PHONY: clean
clean: ## Remove build/ (the cache under ~/.cache/inetboot stays)
	rm -rf $(BUILD)
