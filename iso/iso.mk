# The boot media. Included by the Makefile at the top.

ISO_DEPS := linux-source-6.1 gcc make patch bc bison flex libelf-dev libssl-dev rsync kmod cpio xz-utils \
	grub-common grub-pc-bin pxelinux syslinux-common ipxe xorriso mtools zstd firmware-linux-free

KERNEL_TARBALL ?=
# Without inlining the program is 335 kB smaller on the medium; HTTP/2 costs 119 kB.
PREBOOT_TAGS   := nethttpomithttp2
# The moment of the newest commit: no honest clock is before it.
BUILT_AT       := $(shell git log -1 --format=%ct 2>/dev/null)
PREBOOT_SOURCES := $(shell find preboot catalog internal -name '*.go' -not -name '*_test.go' 2>/dev/null)
ISO_SOURCES    := $(shell find iso internal/site internal/newc internal/module -name '*.go' -not -name '*_test.go') $(wildcard iso/media/*.cfg iso/media/grub/* iso/uki/loader/* iso/kernel/*.config iso/kernel/patches/*)

$(BUILD)/iso: $(ISO_SOURCES) go.mod go.sum
	@mkdir -p $(BUILD); echo "build: $@"
	CGO_ENABLED=0 $(GO) build -trimpath -o $@ ./iso

$(BUILD)/vmlinuz: $(BUILD)/iso
	@$(BUILD)/iso kernel $(if $(KERNEL_TARBALL),--tarball $(KERNEL_TARBALL)) -o $@

$(BUILD)/preboot: $(PREBOOT_SOURCES) go.mod go.sum
	@mkdir -p $(BUILD); echo "build: $@"
	CGO_ENABLED=0 $(GO) build -trimpath -tags $(PREBOOT_TAGS) -gcflags=all=-l -ldflags='-s -w -buildid= -X main.builtAt=$(BUILT_AT)' -o $@ ./preboot

$(BUILD)/initramfs.xz: $(BUILD)/iso $(BUILD)/preboot
	@$(BUILD)/iso initramfs --preboot $(BUILD)/preboot -o $@

$(BUILD)/inetboot.iso: $(BUILD)/iso $(BUILD)/vmlinuz $(BUILD)/initramfs.xz
	@$(BUILD)/iso media --kernel $(BUILD)/vmlinuz --initramfs $(BUILD)/initramfs.xz -o $@

$(BUILD)/inetboot.efi: $(BUILD)/iso $(BUILD)/vmlinuz $(BUILD)/initramfs.xz
	@$(BUILD)/iso efi --kernel $(BUILD)/vmlinuz --initramfs $(BUILD)/initramfs.xz -o $@

# For the PXE of a BIOS: pxelinux from Debian, to which `server --lan` gives its configuration.
$(BUILD)/pxelinux.0: /usr/lib/PXELINUX/pxelinux.0
	@mkdir -p $(BUILD); install -m 644 $< $@
$(BUILD)/ldlinux.c32: /usr/lib/syslinux/modules/bios/ldlinux.c32
	@mkdir -p $(BUILD); install -m 644 $< $@
# For machines that boot without preboot: what shows pxelinux' menus, and iPXE for UEFI.
$(BUILD)/menu.c32 $(BUILD)/libutil.c32: $(BUILD)/%.c32: /usr/lib/syslinux/modules/bios/%.c32
	@mkdir -p $(BUILD); install -m 644 $< $@
$(BUILD)/ipxe.efi: /usr/lib/ipxe/ipxe.efi
	@mkdir -p $(BUILD); install -m 644 $< $@

PXE_FILES := $(addprefix $(BUILD)/,pxelinux.0 ldlinux.c32 menu.c32 libutil.c32 ipxe.efi)

.PHONY: iso
iso: deps ## Build the boot media: build/inetboot.{iso,efi}, build/vmlinuz, build/initramfs.xz, and what PXE needs beside them
	@$(MAKE) $(BUILD)/inetboot.iso $(BUILD)/inetboot.efi $(PXE_FILES)

$(BUILD)/coldplug: $(PREBOOT_SOURCES) go.mod go.sum
	@mkdir -p $(BUILD); echo "build: $@"
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags='-s -w -buildid=' -o $@ ./preboot/coldplug

$(BUILD)/inetboot-full.iso: $(BUILD)/iso $(BUILD)/preboot $(BUILD)/coldplug
	@$(BUILD)/iso full --preboot $(BUILD)/preboot --coldplug $(BUILD)/coldplug -o $@ --efi $(BUILD)/inetboot-full.efi

.PHONY: iso-full
iso-full: deps ## Build the large medium, with Debian's kernel and its drivers: build/inetboot-full.iso, build/inetboot-full.efi
	@$(MAKE) $(BUILD)/inetboot-full.iso
