package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/inetboot/inetboot/internal/site"
	"github.com/inetboot/inetboot/internal/vmtest"
)

// Other boot loaders, and UEFI firmware by itself, start the same kernel and
// initramfs, or the one program that has both in it, up to the menu. All of
// them are on one LAN, where dnsmasq answers each in its own way.
func TestLoaders(t *testing.T) {
	build := filepath.Dir(kernelFile(t))
	dir := t.TempDir()
	p := newPublisher(t)
	kernel, err := os.ReadFile(filepath.Join(build, "vmlinuz"))
	if err != nil {
		t.Fatal(err)
	}
	initramfs, err := os.ReadFile(filepath.Join(build, "initramfs.xz"))
	if err != nil {
		t.Fatal(err)
	}
	efi, err := os.ReadFile(filepath.Join(build, "inetboot.efi"))
	if err != nil {
		t.Fatal(err)
	}
	p.publish(t, 2, time.Now().Add(time.Hour), kernel, initramfs, -1)
	slot, err := site.Archive(&site.Site{URLs: []string{"http://10.89.0.1"}}, p.root(t))
	if err != nil {
		t.Fatal(err)
	}
	at, err := site.FindSlot(bytes.NewReader(efi), int64(len(efi)))
	if err != nil {
		t.Fatal(err)
	}
	copy(efi[at:], slot)
	files := vmtest.LinuxFiles{Kernel: filepath.Join(dir, "vmlinuz"), Initrds: []string{filepath.Join(dir, "initramfs.xz"), filepath.Join(dir, "site.cpio")}}
	script := files
	script.Cmdline = "initrd=initramfs.xz initrd=site.cpio console=tty0 console=ttyS0,115200 of.ipxe=1"
	for name, data := range map[string][]byte{
		"vmlinuz": kernel, "initramfs.xz": initramfs, "site.cpio": slot, "inetboot.efi": efi, "boot.ipxe": []byte(script.IPXEScript("http://10.89.0.1")),
	} {
		p.put(name, data)
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	grub := files
	grub.Cmdline = "console=tty0 console=ttyS0,115200 of.grub=1"
	disk := filepath.Join(dir, "grub.img")
	if err := grub.GRUBDisk(t.Context(), disk); err != nil {
		t.Fatal(err)
	}

	lan, err := vmtest.NewLAN(t.Context(), "10.89.0.1/24")
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { lan.Close() })
	ln, err := lan.Listen("tcp", net.JoinHostPort(lan.Host.String(), "80"))
	if err != nil {
		t.Fatal(err)
	}
	web := &http.Server{Handler: p}
	go web.Serve(ln)
	t.Cleanup(func() { web.Close() })

	const http1, tftp = "http://10.89.0.1/", ""
	for i, tt := range []struct {
		name  string
		boot  string // what the DHCP server names; "": nothing
		c     vmtest.Config
		fetch []string // what is read from the store's server on the way
	}{
		{"iPXE, script by HTTP", http1 + "boot.ipxe", vmtest.Config{NICs: []vmtest.NIC{{LAN: lan, ROM: true}}}, []string{"/boot.ipxe", "/vmlinuz", "/initramfs.xz", "/site.cpio"}},
		{"iPXE, script by TFTP", tftp + "boot.ipxe", vmtest.Config{NICs: []vmtest.NIC{{LAN: lan, ROM: true, Model: "e1000"}}}, []string{"/vmlinuz", "/initramfs.xz", "/site.cpio"}},
		{"GRUB on a disk, BIOS", "", vmtest.Config{USB: disk, NICs: []vmtest.NIC{{LAN: lan}}}, nil},
		{"GRUB on a disk, UEFI", "", vmtest.Config{USB: disk, Firmware: vmtest.UEFI, NICs: []vmtest.NIC{{LAN: lan}}}, nil},
		{"UEFI HTTP boot", http1 + "inetboot.efi", vmtest.Config{Firmware: vmtest.UEFI, NICs: []vmtest.NIC{{LAN: lan}}, Args: []string{"-fw_cfg", "name=opt/org.tianocore/IPv4PXESupport,string=no", "-fw_cfg", "name=opt/org.tianocore/IPv6PXESupport,string=no"}}, []string{"/inetboot.efi"}},
		{"UEFI PXE", tftp + "inetboot.efi", vmtest.Config{Firmware: vmtest.UEFI, NICs: []vmtest.NIC{{LAN: lan}}}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := []string{"--no-daemon", "--conf-file=/dev/null", "--port=0", "--no-ping", "--bind-interfaces", "--interface=br0", "--user=root",
				"--dhcp-authoritative", "--enable-tftp", "--tftp-root=" + dir, "--dhcp-leasefile=" + filepath.Join(dir, fmt.Sprint("leases", i)), "--dhcp-range=10.89.0.50,10.89.0.60,1h"}
			if tt.boot != "" {
				args = append(args, "--dhcp-boot="+tt.boot)
			}
			if strings.HasSuffix(tt.boot, ".efi") && tt.boot != "inetboot.efi" {
				// Firmware takes no other answer for one to its HTTP boot.
				args = append(args, "--dhcp-vendorclass=set:http,HTTPClient", "--dhcp-option-force=tag:http,60,HTTPClient")
			}
			var log bytes.Buffer
			dhcp := lan.Command(t.Context(), "dnsmasq", args...)
			dhcp.Stdout, dhcp.Stderr = io.Discard, &log
			if err := dhcp.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				dhcp.Process.Kill()
				dhcp.Wait()
				if t.Failed() {
					t.Logf("dnsmasq:\n%s", &log)
				}
			})
			p.mu.Lock()
			clear(p.gets)
			p.mu.Unlock()
			tt.c.Name, tt.c.Memory, tt.c.VGA = "loader", 512, true
			vm := vmtest.StartT(t, tt.c)
			t.Cleanup(func() {
				if t.Failed() && tt.c.Firmware != vmtest.UEFI {
					text, err := vm.ScreenText(context.Background())
					t.Logf("screen: %v\n%s", err, text)
				}
			})
			vm.ExpectT(t, patience, `inetboot: lease 10\.89\.0\.\d+/24 on eth0 from 10\.89\.0\.1\n`)
			vm.ExpectT(t, patience, `inetboot: menu ready\n`)
			t.Logf("menu after %.1f s", vm.Uptime().Seconds())
			vm.ExpectT(t, patience, `> +1  Tiny Linux 1`)
			p.mu.Lock()
			defer p.mu.Unlock()
			for _, f := range tt.fetch {
				if p.gets[f] == 0 {
					t.Errorf("%s was not read from the server, but %v", f, p.gets)
				}
			}
		})
	}
}
