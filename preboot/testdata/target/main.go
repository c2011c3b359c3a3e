// Command target is the /init of a system that only tells how it was started.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

func main() {
	for _, m := range []string{"proc", "sysfs", "devtmpfs"} {
		at := map[string]string{"proc": "/proc", "sysfs": "/sys", "devtmpfs": "/dev"}[m]
		os.MkdirAll(at, 0o755)
		syscall.Mount(m, at, m, 0, "")
	}
	cmdline, _ := os.ReadFile("/proc/cmdline")
	console := "/dev/console"
	for _, o := range strings.Fields(string(cmdline)) {
		if v, ok := strings.CutPrefix(o, "target.console="); ok {
			console = v
		}
	}
	out, err := os.OpenFile(console, os.O_RDWR, 0)
	if err != nil {
		panic(err)
	}
	show := func(name, path string) {
		b, err := os.ReadFile(path)
		fmt.Fprintf(out, "target: %s: %s %v\r\n", name, strings.TrimSpace(string(b)), err)
	}
	fmt.Fprintf(out, "\r\ntarget: started\r\n")
	show("cmdline", "/proc/cmdline")
	show("handoff", "/inetboot/handoff.json")
	indexes, _ := filepath.Glob("/inetboot/indexes/*")
	for _, i := range indexes {
		show(i, i)
	}
	tables, _ := filepath.Glob("/sys/firmware/acpi/tables/[A-Z]*")
	for i, t := range tables {
		tables[i] = filepath.Base(t)
	}
	fmt.Fprintf(out, "target: ACPI tables: %s\r\n", strings.Join(tables, " "))
	show("framebuffers", "/proc/fb")
	show("SMBIOS", "/sys/class/dmi/id/product_name")
	show("bits of UEFI", "/sys/firmware/efi/fw_platform_size")
	fmt.Fprintf(out, "target: end\r\n")
	time.Sleep(500 * time.Millisecond)
	syscall.Reboot(syscall.LINUX_REBOOT_CMD_POWER_OFF)
	fmt.Fprintf(out, "target: cannot power off\r\n")
	select {}
}
