// Guest is the init of the tiny image that the boot test starts: it looks at
// what it finds, says so, and goes down as systemd-shutdown does. Started with
// "lasting URL" it tries what the root has to survive, see lasting.go.
package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	if os.Getpid() != 1 {
		if err := runChild(os.Args[1:]); err != nil {
			fmt.Println("GUEST child:", err)
			os.Exit(1)
		}
		return
	}
	if err := run(); err != nil {
		fmt.Println("GUEST FAILED:", err)
	}
	unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

func run() error {
	c, err := os.OpenFile("/dev/console", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	os.Stdout = c
	fmt.Printf("GUEST args %q\n", os.Args)
	if n := len(os.Args); n > 2 && os.Args[n-2] == "lasting" {
		l := &lasting{store: os.Args[n-1]}
		return l.run()
	}
	show := func(name string) {
		b, err := os.ReadFile(name)
		fmt.Printf("GUEST %s %q %v\n", name, b, err)
	}
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	fmt.Print(string(info))
	for _, name := range []string{"/etc/resolv.conf", "/etc/hostname", "/proc/sys/kernel/hostname", "/run/network/ifstate"} {
		show(name)
	}
	links, err := net.Interfaces()
	if err != nil {
		return err
	}
	for _, l := range links {
		a, _ := l.Addrs()
		fmt.Println("GUEST link", l.Name, l.HardwareAddr, l.MTU, a)
	}
	f, err := os.Open("/sums")
	if err != nil {
		return err
	}
	n, start := 0, time.Now()
	for s := bufio.NewScanner(f); s.Scan(); n++ {
		want, name, _ := strings.Cut(s.Text(), " ")
		b, err := os.ReadFile(name)
		sum := sha256.Sum256(b)
		if err != nil || hex.EncodeToString(sum[:]) != want {
			return fmt.Errorf("%s: wrong content: %v", name, err)
		}
	}
	f.Close()
	fmt.Printf("GUEST %d files are right, in %v\n", n, time.Since(start))
	if err := os.WriteFile("/written", []byte("x"), 0o644); err != nil {
		return err
	}
	pid, err := os.ReadFile("/run/sendsigs.omit.d/inetboot")
	if err != nil {
		return err
	}
	proc := "/proc/" + strings.TrimSpace(string(pid))
	show(proc + "/cmdline")
	show(proc + "/oom_score_adj")
	status, err := os.ReadFile(proc + "/status")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "VmHWM") || strings.HasPrefix(line, "VmLck") || strings.HasPrefix(line, "VmRSS") {
			fmt.Print("GUEST ", line)
		}
	}
	time.Sleep(1100 * time.Millisecond)
	show("/run/initramfs/inetboot/stats.json")
	fmt.Println("GUEST goes down")
	return shutdown()
}

// shutdown does what systemd 252 does when there is /run/initramfs/shutdown.
func shutdown() error {
	const root = "/run/initramfs"
	if err := unix.Mount(root, root, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	if err := unix.Mount("", root, "", unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	for _, d := range []string{"sys", "dev", "run", "proc", "oldroot"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			return err
		}
		if d == "oldroot" {
			continue
		}
		if err := unix.Mount("/"+d, filepath.Join(root, d), "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind %s: %w", d, err)
		}
	}
	if err := os.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "oldroot"); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	return unix.Exec("/shutdown", []string{"/shutdown", "poweroff"}, os.Environ())
}
