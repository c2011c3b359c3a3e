// Package nicdriver names the network drivers of the boot media. A machine
// that has booted a medium over one of them needs the same driver in the
// image's kernel, or it cannot go on.
package nicdriver

import "strings"

// Driver is a driver of network adapters.
type Driver struct {
	Option string // of the kernel's configuration, without CONFIG_
	Module string // its name as a module and in sysfs
}

// Media lists the drivers that the kernel of the boot media has; a test of
// package iso/kernel compares it with that kernel's configuration.
func Media() []Driver {
	return []Driver{
		{"VIRTIO_NET", "virtio_net"},
		{"E1000", "e1000"},
		{"E1000E", "e1000e"},
		{"IGB", "igb"},
		{"IGC", "igc"},
		{"E100", "e100"},
		{"R8169", "r8169"},
		{"8139TOO", "8139too"},
		{"8139CP", "8139cp"},
		{"TIGON3", "tg3"},
		{"PCNET32", "pcnet32"},
		{"NE2K_PCI", "ne2k-pci"},
		{"SKY2", "sky2"},
		{"SKGE", "skge"},
		{"ALX", "alx"},
		{"ATL1C", "atl1c"},
		{"ATL1E", "atl1e"},
		{"FORCEDETH", "forcedeth"},
		{"AQTION", "atlantic"},
		{"VMXNET3", "vmxnet3"},
		{"HYPERV_NET", "hv_netvsc"},
		{"ENA_ETHERNET", "ena"},
		{"USB_RTL8152", "r8152"},
		{"USB_RTL8153_ECM", "r8153_ecm"},
		{"USB_NET_AX8817X", "asix"},
		{"USB_NET_AX88179_178A", "ax88179_178a"},
		{"USB_NET_AQC111", "aqc111"},
		{"USB_NET_SMSC75XX", "smsc75xx"},
		{"USB_NET_SMSC95XX", "smsc95xx"},
		{"USB_NET_DM9601", "dm9601"},
		{"USB_NET_SR9700", "sr9700"},
		{"USB_NET_CH9200", "ch9200"},
		{"USB_NET_CDCETHER", "cdc_ether"},
		{"USB_NET_CDC_NCM", "cdc_ncm"},
		{"USB_NET_RNDIS_HOST", "rndis_host"},
	}
}

// Same tells whether two names are of one driver: "-" and "_" are the same in
// names of modules, and in sysfs the driver atl1e is called ATL1E.
func Same(a, b string) bool {
	return strings.EqualFold(strings.ReplaceAll(a, "-", "_"), strings.ReplaceAll(b, "-", "_"))
}
