package initramfs

// What a target's initramfs is made of. It has one task: to reach the store
// over a wired network, and the cache on a disk, and to mount the root from
// there.

// essential are the modules without which a root cannot be mounted, beside
// that of its filesystem. The crc32c providers are soft dependencies of libcrc32c, which some kernels do
// not list.
var essential = []string{
	"fuse", "loop", "overlay", "libcrc32c", "crc32c_generic", "crc32c_intel", "crc32c-x86_64", "crc32_ce",
	"af_packet",
}

// mustHave are those of essential without which nothing works at all.
var mustHave = []string{"fuse", "loop", "overlay"}

// network are the modules that reach a network, beside whole folders.
var network = []string{
	"virtio_pci", "virtio_mmio", "virtio_net", "vmxnet3", "xen-netfront", "hv_vmbus", "hv_netvsc", "pci-hyperv",
	"xhci_pci", "xhci_pci_renesas", "xhci_plat_hcd", "ehci_pci", "ehci_hcd", "ohci_pci", "ohci_hcd", "uhci_hcd",
	"mii", "mdio", "usbcore", "8021q", "ipv6",
}

// networkFolders hold drivers of wired network adapters.
var networkFolders = []string{
	"kernel/drivers/net/ethernet", "kernel/drivers/net/usb", "kernel/drivers/net/phy", "kernel/drivers/net/mdio",
	"kernel/drivers/net/pcs",
}

// leftOut are drivers of server adapters of 10 Gbit/s and more that boot
// media cannot drive, so no machine arrives here through them. They would be
// more than half of the initramfs, which each boot downloads and unpacks.
var leftOut = []string{
	"kernel/drivers/net/ethernet/brocade", "kernel/drivers/net/ethernet/cavium", "kernel/drivers/net/ethernet/chelsio",
	"kernel/drivers/net/ethernet/cisco", "kernel/drivers/net/ethernet/emulex", "kernel/drivers/net/ethernet/fungible",
	"kernel/drivers/net/ethernet/huawei", "kernel/drivers/net/ethernet/mellanox", "kernel/drivers/net/ethernet/netronome",
	"kernel/drivers/net/ethernet/pensando", "kernel/drivers/net/ethernet/qlogic", "kernel/drivers/net/ethernet/sfc",
	"kernel/drivers/net/ethernet/broadcom/bnx2x", "kernel/drivers/net/ethernet/broadcom/bnxt",
	"kernel/drivers/net/ethernet/marvell/prestera", "kernel/drivers/net/ethernet/marvell/octeontx2",
}

// storage are the modules with which a cache's disk is found and read, as the
// boot media do, the filesystems that may hold one, and those that a root may
// have. Drivers of buses are among network.
var storage = []string{
	"sd_mod", "usb_storage", "uas", "ahci", "ata_piix", "nvme", "virtio_blk", "virtio_scsi",
	"xen-blkfront", "hv_storvsc", "vmw_pvscsi",
	"mmc_block", "sdhci_pci", "sdhci_acpi",
	"vfat", "nls_cp437", "nls_ascii", "nls_iso8859-1", "nls_utf8", "exfat", "ext4", "xfs", "btrfs",
	"squashfs", "isofs",
}
