package vmtest

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
)

// Firmware is what starts the machine.
type Firmware string

// The kinds of firmware. The zero value is BIOS.
const (
	BIOS Firmware = "bios" // SeaBIOS, built into QEMU
	UEFI Firmware = "uefi" // OVMF
)

// Files of Debian's package ovmf.
const (
	ovmfCode = "/usr/share/OVMF/OVMF_CODE_4M.fd"
	ovmfVars = "/usr/share/OVMF/OVMF_VARS_4M.fd"
)

// Config describes a machine.
type Config struct {
	Name     string // for messages and files; "": vm
	Memory   int    // MiB; 0: 1024
	CPUs     int    // 0: 2
	Firmware Firmware
	Accel    string // "": what Accel finds

	CD, USB string // image to boot from as CD or as USB stick
	KeepUSB bool   // what the guest writes to the stick goes into the image, too
	Kernel  string // or a kernel, loaded by QEMU, with
	Initrd  string // its initramfs and
	Append  string // its command line

	Disks []Disk
	NICs  []NIC

	NoReboot bool     // a reset by the guest ends the machine
	VGA      bool     // with a screen: see VM.ScreenText and VM.Screenshot
	Args     []string // appended to the command line as they are

	Dir string // for logs and sockets; "": a temporary folder that Close removes
}

// Disk is one more disk.
type Disk struct {
	File     string
	Model    string // virtio-blk-pci, nvme, ide-hd (AHCI), usb-storage
	ReadOnly bool
	Boot     bool // firmware starts it if it cannot start the medium: OVMF starts no disk that QEMU does not name
}

// NIC is a network card. Without LAN it has user networking, where the host's
// loopback interface is 10.0.2.2.
type NIC struct {
	Model    string // virtio-net-pci, e1000, e1000e, rtl8139, pcnet, ne2k_pci, vmxnet3, usb-net; "": virtio-net-pci
	MAC      string // "": made from the position
	LAN      *LAN
	Capture  string // file for a pcap of everything on this card; "": none
	Restrict bool   // user networking without a way out of the machine
	ROM      bool   // with iPXE in the card, by which a BIOS boots from the network
	Boot     string // file that user networking names and serves by TFTP, for network boots
}

func (c *Config) check() error {
	boots := 0
	for _, s := range []string{c.CD, c.USB, c.Kernel} {
		if s != "" {
			boots++
		}
	}
	if boots > 1 {
		return errors.New("a machine boots from one of CD, USB and Kernel")
	}
	if c.Kernel == "" && (c.Initrd != "" || c.Append != "") {
		return errors.New("Initrd and Append belong to a Kernel")
	}
	for i, n := range c.NICs {
		if n.MAC != "" {
			if _, err := net.ParseMAC(n.MAC); err != nil {
				return fmt.Errorf("network card %d: %w", i, err)
			}
		}
	}
	return nil
}

// args returns QEMU's arguments. taps has the tap device of each card on a LAN.
func (c *Config) args(dir, accel string, taps map[int]string) []string {
	memory, cpus := c.Memory, c.CPUs
	if memory == 0 {
		memory = 1024
	}
	if cpus == 0 {
		cpus = 2
	}
	a := []string{"-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35",
		"-m", fmt.Sprint(memory), "-smp", fmt.Sprint(cpus), "-rtc", "base=utc"}
	if accel == "kvm" {
		a = append(a, "-accel", "kvm", "-cpu", "host")
	} else {
		a = append(a, "-accel", "tcg,thread=multi", "-cpu", "max")
	}
	a = append(a,
		"-chardev", "socket,id=console,path="+filepath.Join(dir, "console"), "-serial", "chardev:console",
		"-chardev", "socket,id=monitor,path="+filepath.Join(dir, "monitor"), "-mon", "chardev=monitor,mode=control",
		"-device", "qemu-xhci,id=usb")
	if c.VGA {
		a = append(a, "-vga", "std", "-device", "usb-kbd,bus=usb.0")
	}
	if c.Firmware == UEFI {
		a = append(a,
			"-drive", "if=pflash,unit=0,format=raw,readonly=on,file="+ovmfCode,
			"-drive", "if=pflash,unit=1,format=raw,file="+filepath.Join(dir, "vars.fd"))
	}
	if c.NoReboot {
		a = append(a, "-no-reboot")
	}
	switch {
	case c.CD != "":
		a = append(a, "-drive", "if=none,id=cd,media=cdrom,readonly=on,format=raw,file="+escape(c.CD), "-device", "ide-cd,bus=ide.0,drive=cd,bootindex=1")
	case c.USB != "":
		snapshot := ",snapshot=on"
		if c.KeepUSB {
			snapshot = ""
		}
		a = append(a, "-drive", "if=none,id=stick,format=raw,file="+escape(c.USB)+snapshot, "-device", "usb-storage,bus=usb.0,drive=stick,bootindex=1,removable=on")
	case c.Kernel != "":
		a = append(a, "-kernel", c.Kernel)
		if c.Initrd != "" {
			a = append(a, "-initrd", c.Initrd)
		}
		if c.Append != "" {
			a = append(a, "-append", c.Append)
		}
	}
	for i, d := range c.Disks {
		id := fmt.Sprintf("disk%d", i)
		ro := ""
		if d.ReadOnly {
			ro = ",readonly=on"
		}
		dev := d.Model + ",drive=" + id
		switch d.Model {
		case "nvme":
			dev += ",serial=" + id
		case "usb-storage":
			dev += ",bus=usb.0"
		case "ide-hd":
			dev += fmt.Sprintf(",bus=ide.%d", i+1)
		}
		if d.Boot {
			dev += fmt.Sprintf(",bootindex=%d", 2+i) // CD and stick have 1
		}
		a = append(a, "-drive", "if=none,id="+id+",format=raw,file="+escape(d.File)+ro, "-device", dev)
	}
	for i, n := range c.NICs {
		id := fmt.Sprintf("net%d", i)
		if tap, ok := taps[i]; ok {
			a = append(a, "-netdev", "tap,id="+id+",script=no,downscript=no,ifname="+tap)
		} else if n.Restrict {
			a = append(a, "-netdev", "user,id="+id+",restrict=on")
		} else if n.Boot != "" {
			a = append(a, "-netdev", "user,id="+id+",tftp="+escape(filepath.Dir(n.Boot))+",bootfile="+escape(filepath.Base(n.Boot)))
		} else {
			a = append(a, "-netdev", "user,id="+id)
		}
		model := n.Model
		if model == "" {
			model = "virtio-net-pci"
		}
		dev := model + ",netdev=" + id + ",id=card" + fmt.Sprint(i) + ",mac=" + n.mac(i)
		if model == "usb-net" {
			dev += ",bus=usb.0"
		} else if !n.ROM {
			dev += ",romfile=" // it would boot before ours
		}
		a = append(a, "-device", dev)
		if n.Capture != "" {
			a = append(a, "-object", "filter-dump,id=dump"+fmt.Sprint(i)+",netdev="+id+",file="+n.Capture)
		}
	}
	return append(a, c.Args...)
}

func (n *NIC) mac(i int) string {
	if n.MAC != "" {
		return n.MAC
	}
	return fmt.Sprintf("52:54:00:12:34:%02x", 0x56+i)
}

// escape doubles commas, as QEMU's option parser wants it.
func escape(file string) string { return strings.ReplaceAll(file, ",", ",,") }
